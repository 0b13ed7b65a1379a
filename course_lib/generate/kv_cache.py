"""The KV cache: keys and values of every position that the model has read, for a batch of rows.

`model(ids, cache.layers)` reads a cache and adds to it. A row is one text; rows may have different lengths, and are
added, copied and removed while the others stay where they are.

Written by hand; chapter 12 builds the simple form and compares the two.
"""

import mlx.core as mx

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPTConfig
from course_lib.model.kinds import caches_of, windows_of

STEP = 256  # positions by which an array grows: rare enough that copying the old ones costs little
SPARE = 64  # positions kept beyond a window, so that a text may be taken up again a little before its end


def _capacity(config: GPTConfig, length: int) -> int:
    """Positions to have room for: `length` up to a multiple of STEP, at most sequence_len."""
    return min(-(-length // STEP) * STEP, config.sequence_len)


def cache_bytes(config: GPTConfig, rows: int, length: int) -> int:
    """Bytes of a cache in which `rows` rows have grown to `length` positions, one by one; no cache is made."""
    positions = sum(_capacity(config, min(length, window + STEP)) for window in windows_of(config))
    numbers = 2 * positions * rows * config.n_kv_head * config.head_dim
    ids = (caches_of(config) - config.n_layer) * 4 * rows * _capacity(config, length)
    return numbers * backend.compute_dtype().size + ids


class LayerCache:
    """Keys and values of one block: (rows, n_kv_head, positions, head_dim), with room to spare.

    window: how many positions before a new one may be asked for; those further back are dropped now and then.
    lengths: how many positions each row has had; starts: how many of them were dropped. What stands after the others
    means nothing. place: where among those that came back last the new ones begin, an int or (B,).
    """

    names = "keys", "values"

    def __init__(self, config: GPTConfig, rows: int, window: int):
        self.config, self.window = config, window
        self.lengths, self.starts, self.place = [0] * rows, [0] * rows, 0
        for name in self.names:
            setattr(self, name, self.empty())

    def empty(self) -> mx.array:
        """An array without rows and positions."""
        return mx.zeros((0, self.config.n_kv_head, 0, self.config.head_dim), backend.compute_dtype())

    @property
    def arrays(self) -> list[mx.array]:
        """All that is kept."""
        return [getattr(self, name) for name in self.names]

    @property
    def held(self) -> list[int]:
        """How many positions of each row are kept: its last ones."""
        return [length - start for length, start in zip(self.lengths, self.starts, strict=True)]

    @property
    def offset(self) -> int | mx.array:
        """Where the next position stands: an int when all rows are alike, else (B,)."""
        alike = len(set(zip(self.lengths, self.starts, strict=True))) == 1
        return self.lengths[0] if alike else mx.array(self.lengths)

    def update_and_fetch(self, *arrays: mx.array) -> tuple[mx.array, ...]:
        """Put (B, n_kv_head, T, head_dim) after what each row holds; gives back all that the new ones may see.

        They come back as wide as the longest row: what stands after a shorter one is for a mask to hide.
        """
        B, _, T, _ = arrays[0].shape
        if B != len(self.lengths):
            raise CourseError(f"keys of {B} rows for a cache of {len(self.lengths)}; give a row of ids for each")
        if max(self.lengths) + T > self.config.sequence_len:
            raise _too_long(max(self.lengths) + T, self.config)
        held, first = self.held, 0
        width = max(held) + T
        self.reserve(B, width)
        if isinstance(self.offset, int):
            where = slice(0, B), slice(None), slice(held[0], width)
            first = max(0, held[0] - self.window)
            self.place = held[0] - first
        else:  # each row at its own place; such an index puts the heads last
            self.place = mx.array(held)
            where = mx.arange(B)[:, None], slice(None), self.place[:, None] + mx.arange(T)
            arrays = tuple(array.transpose(0, 2, 1, 3) for array in arrays)
        for mine, new in zip(self.arrays, arrays, strict=True):
            mine[where] = new  # in place, as long as nobody else holds the array
        self.lengths = [length + T for length in self.lengths]
        found = tuple(mine[:B, :, first:width] for mine in self.arrays)
        if width >= self.window + STEP:
            self._drop()
        return found

    def _drop(self) -> None:
        """Keep the window of each row and SPARE positions."""
        held = self.held
        dropped = [max(0, many - self.window - SPARE) for many in held]
        kept = max(many - gone for many, gone in zip(held, dropped, strict=True))
        places = mx.array(dropped)[:, None] + mx.arange(kept)  # (B, kept)
        places = mx.minimum(places, max(held) - 1)[:, None, :, None]
        for name, mine in zip(self.names, self.arrays, strict=True):
            shape = mine.shape[0], mine.shape[1], _capacity(self.config, kept), mine.shape[3]
            new = mx.zeros(shape, mine.dtype)
            new[: len(held), :, :kept] = mx.take_along_axis(mine[: len(held)], places, axis=2)
            setattr(self, name, new)
        self.starts = [start + gone for start, gone in zip(self.starts, dropped, strict=True)]

    def reserve(self, rows: int, length: int) -> None:
        """Have room for so many rows of so many positions. More rows: at least twice as many."""
        if length > self.config.sequence_len:
            raise _too_long(length, self.config)
        old_rows, heads, old_length, head_dim = self.arrays[0].shape
        if rows <= old_rows and length <= old_length:
            return
        rows = old_rows if rows <= old_rows else max(rows, 2 * old_rows)
        shape = rows, heads, max(old_length, _capacity(self.config, length)), head_dim
        for name, old in zip(self.names, self.arrays, strict=True):
            new = mx.zeros(shape, old.dtype)
            new[:old_rows, :, :old_length] = old
            mx.eval(new)  # so that old and new are there together for one array only
            setattr(self, name, new)

    def reaches(self, row: int, length: int) -> bool:
        """Whether what position `length` may see is kept."""
        return self.starts[row] <= max(0, length - self.window)

    def append(self, other: "LayerCache", row: int, length: int, times: int) -> None:
        """Add `times` copies of another's row as it was after `length` positions."""
        if not other.reaches(row, length):
            raise CourseError(
                f"what stood in the window before position {length} is not kept any more; read the text again"
            )
        start = other.starts[row]
        held, first, last = length - start, len(self.lengths), len(self.lengths) + times
        self.reserve(last, held)
        for mine, theirs in zip(self.arrays, other.arrays, strict=True):
            mine[first:last, :, :held] = theirs[row : row + 1, :, :held]
            mine[first:last, :, held:] = 0  # a row that was here before may have left NaN, and 0 · NaN is NaN
            mx.eval(mine)
        self.lengths, self.starts = self.lengths + [length] * times, self.starts + [start] * times

    def remove(self, row: int) -> None:
        """Take a row out; the last row moves to its place, so that rows in use stand together."""
        last = len(self.lengths) - 1
        if row < last:
            for array in self.arrays:
                moved = array[last] + 0  # a view would make the next line copy all rows
                mx.eval(moved)
                array[row : row + 1] = moved
                mx.eval(array)
        for numbers in (self.lengths, self.starts):
            numbers[row] = numbers[last]
            numbers.pop()


class IdsCache(LayerCache):
    """The ids themselves, all of them: a GPT2026 asks for the one before a new one."""

    names = ("ids",)

    def empty(self) -> mx.array:
        """An array without rows and positions."""
        return mx.zeros((0, 1, 0, 1), mx.int32)


def _too_long(length: int, config: GPTConfig) -> CourseError:
    return CourseError(f"{length} positions, but the model has sequence_len={config.sequence_len}; stop before")


class KVCache:
    """All caches of one model: `model(ids, cache.layers)` reads them and adds to them.

    One for each block, and for a GPT2026 one for the ids. Arrays are made once and grow by STEP positions. Raises
    CourseError when a row would hold more than sequence_len.
    """

    def __init__(self, config: GPTConfig, rows: int = 1):
        self.config = config
        self.layers = [LayerCache(config, rows, window) for window in windows_of(config)]
        self.layers += [IdsCache(config, rows, config.sequence_len) for _ in range(caches_of(config) - config.n_layer)]

    @property
    def lengths(self) -> list[int]:
        """How many positions each row holds: the same in every block, between two passes."""
        return self.layers[0].lengths

    @lengths.setter
    def lengths(self, lengths: list[int]) -> None:
        for layer in self.layers:
            layer.lengths, layer.starts = list(lengths), [0] * len(lengths)

    @property
    def arrays(self) -> list[mx.array]:
        """All that is kept."""
        return [array for layer in self.layers for array in layer.arrays]

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays; see `cache_bytes`."""
        return sum(array.nbytes for array in self.arrays)

    def reserve(self, rows: int, length: int) -> None:
        """Have room for so many rows of so many positions."""
        for layer in self.layers:
            layer.reserve(rows, min(length, layer.window + STEP))

    def reaches(self, length: int, row: int = 0) -> bool:
        """Whether a row can be taken up again after its first `length` positions."""
        return all(layer.reaches(row, length) for layer in self.layers)

    def append(self, other: "KVCache", row: int = 0, length: int | None = None, times: int = 1) -> None:
        """Add `times` copies of the first `length` positions (default: all) of another's row.

        Raises CourseError when `other` does not reach so far back.
        """
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
        found = [(min(_common(text[0], ids), len(ids) - 1), text) for text in self._texts]
        usable = [(length, text) for length, text in found if length >= 16 and text[1].reaches(length)]
        if not usable:
            return None
        length, best = max(usable, key=lambda pair: pair[0])
        self._texts = [text for text in self._texts if text is not best] + [best]
        return best[1].copy(length=length)

    def clear(self) -> None:
        """Forget them all."""
        self._texts = []


def _common(a: list[int], b: list[int]) -> int:
    """How many ids two texts have in common at their beginning."""
    pairs = zip(a, b, strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
