"""The KV cache: keys and values of every position that the model has read, for a batch of rows.

`model(ids, cache.layers)` reads a cache and adds to it. A row is one text; rows may have different lengths, and are
added, copied and removed while the others stay where they are.

Written by hand; chapter 12 builds the simple form and compares the two.
"""

import mlx.core as mx

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPTConfig

STEP = 256  # positions by which an array grows: rare enough that copying the old ones costs little


def _capacity(config: GPTConfig, length: int) -> int:
    """Positions to have room for: `length` up to a multiple of STEP, at most sequence_len."""
    return min(-(-length // STEP) * STEP, config.sequence_len)


def cache_bytes(config: GPTConfig, rows: int, length: int) -> int:
    """Bytes of a cache in which `rows` rows have grown to `length` positions; no cache is made."""
    numbers = 2 * config.n_layer * rows * config.n_kv_head * _capacity(config, length)
    return numbers * config.head_dim * backend.compute_dtype().size


class LayerCache:
    """Keys and values of one block: (rows, n_kv_head, positions, head_dim), with room to spare.

    lengths: how many positions each row holds; what stands after them means nothing.
    """

    def __init__(self, config: GPTConfig, rows: int):
        self.config, self.lengths = config, [0] * rows
        shape = 0, config.n_kv_head, 0, config.head_dim
        self.keys = self.values = mx.zeros(shape, backend.compute_dtype())

    @property
    def offset(self) -> int | mx.array:
        """Where the next position stands: an int when it is the same for all rows, else (B,)."""
        same = len(set(self.lengths)) == 1
        return self.lengths[0] if same else mx.array(self.lengths)

    def update_and_fetch(self, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
        """Put (B, n_kv_head, T, head_dim) after what each row holds; gives all of it back.

        They come back as wide as the longest row: what stands after a shorter one is for a mask to hide.
        """
        B, _, T, _ = k.shape
        if B != len(self.lengths):
            raise CourseError(f"keys of {B} rows for a cache of {len(self.lengths)}; give a row of ids for each")
        width = max(self.lengths) + T
        self.reserve(B, width)
        offset = self.offset
        if isinstance(offset, int):
            where = slice(0, B), slice(None), slice(offset, width)
        else:  # each row at its own place; such an index puts the heads last
            where = mx.arange(B)[:, None], slice(None), offset[:, None] + mx.arange(T)
            k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
        self.keys[where] = k  # in place, as long as nobody else holds the array
        self.values[where] = v
        self.lengths = [length + T for length in self.lengths]
        return self.keys[:B, :, :width], self.values[:B, :, :width]

    def reserve(self, rows: int, length: int) -> None:
        """Have room for so many rows of so many positions. More rows: at least twice as many."""
        if length > self.config.sequence_len:
            raise CourseError(
                f"{length} positions, but the model has sequence_len={self.config.sequence_len}; stop before"
            )
        old_rows, heads, old_length, head_dim = self.keys.shape
        if rows <= old_rows and length <= old_length:
            return
        rows = old_rows if rows <= old_rows else max(rows, 2 * old_rows)
        shape = rows, heads, max(old_length, _capacity(self.config, length)), head_dim
        for name in ("keys", "values"):
            old, new = getattr(self, name), mx.zeros(shape, self.keys.dtype)
            new[:old_rows, :, :old_length] = old
            mx.eval(new)  # so that old and new are there together for one array only
            setattr(self, name, new)

    def append(self, other: "LayerCache", row: int, length: int, times: int) -> None:
        """Add `times` copies of the first `length` positions of another's row."""
        first, last = len(self.lengths), len(self.lengths) + times
        self.reserve(last, length)
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            mine[first:last, :, :length] = theirs[row : row + 1, :, :length]
            mine[first:last, :, length:] = 0  # a row that was here before may have left NaN, and 0 · NaN is NaN
            mx.eval(mine)
        self.lengths = self.lengths + [length] * times

    def remove(self, row: int) -> None:
        """Take a row out; the last row moves to its place, so that rows in use stand together."""
        *lengths, last = self.lengths
        if row < len(lengths):
            for array in (self.keys, self.values):
                moved = array[len(lengths)] + 0  # a view would make the next line copy all rows
                mx.eval(moved)
                array[row : row + 1] = moved
                mx.eval(array)
            lengths[row] = last
        self.lengths = lengths


class KVCache:
    """A cache for every block of one model: `model(ids, cache.layers)` reads it and adds to it.

    Arrays are made once and grow by STEP positions. Raises CourseError when a row would hold more than sequence_len.
    """

    def __init__(self, config: GPTConfig, rows: int = 1):
        self.config = config
        self.layers = [LayerCache(config, rows) for _ in range(config.n_layer)]

    @property
    def lengths(self) -> list[int]:
        """How many positions each row holds: the same in every block, between two passes."""
        return self.layers[0].lengths

    @lengths.setter
    def lengths(self, lengths: list[int]) -> None:
        for layer in self.layers:
            layer.lengths = list(lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays; see `cache_bytes`."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)

    def reserve(self, rows: int, length: int) -> None:
        """Have room for so many rows of so many positions."""
        for layer in self.layers:
            layer.reserve(rows, length)

    def append(self, other: "KVCache", row: int = 0, length: int | None = None, times: int = 1) -> None:
        """Add `times` copies of the first `length` positions (default: all) of another's row."""
        length = other.lengths[row] if length is None else length
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.append(theirs, row, length, times)

    def remove(self, row: int) -> None:
        """Take a row out; the last row moves to its place."""
        for layer in self.layers:
            layer.remove(row)

    def copy(self, row: int = 0, length: int | None = None) -> "KVCache":
        """A cache of its own with the first `length` positions (default: all) of a row."""
        new = KVCache(self.config, rows=0)
        new.append(self, row, length)
        return new


class PrefixStore:
    """Caches of the last `size` texts: what begins as one of them need not be read again.

    The next turn of a chat repeats all that was said before, and adds a little.
    """

    def __init__(self, size: int):
        self.size = size
        self._texts: list[tuple[list[int], KVCache]] = []  # the one used last comes last

    def keep(self, ids: list[int], cache: KVCache) -> None:
        """Keep a cache of one row, which holds `ids`; it must not be changed any more."""
        # a text that `ids` begins with is in the new cache, too
        others = [text for text in self._texts if _common(text[0], ids) < len(text[0])]
        self._texts = (others + [(ids, cache)])[-self.size :] if self.size else []

    def find(self, ids: list[int]) -> KVCache | None:
        """A cache with the longest beginning of `ids` that is kept; None below 16, which are not worth a copy.

        The last id is left to read, for its logits.
        """
        best = max(self._texts, key=lambda text: _common(text[0], ids), default=None)
        length = min(_common(best[0], ids), len(ids) - 1) if best else 0
        if best is None or length < 16:
            return None
        self._texts = [text for text in self._texts if text is not best] + [best]
        return best[1].copy(length=length)

    def clear(self) -> None:
        """Forget them all."""
        self._texts = []


def _common(a: list[int], b: list[int]) -> int:
    """How many ids two texts have in common at their beginning."""
    pairs = zip(a, b, strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
