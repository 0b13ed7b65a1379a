"""Keys and values in fewer bits, for long texts: a position keeps a quarter to a half of what it would.

All of them are unpacked again for each pass, so this saves memory and no time; a kernel that multiplies with packed
keys would save both.

Written by hand; chapter 22 uses it.
"""

import mlx.core as mx

from course_lib.generate.kv_cache import KVCache, LayerCache
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPTConfig


class PackedLayerCache(LayerCache):
    """A LayerCache whose keys and values are 32-bit words: whole numbers of `bits` bits, then scales, then offsets.

    Half a head shares a scale, at most 64 numbers.
    """

    def __init__(self, config: GPTConfig, rows: int, window: int, bits: int):
        self.bits, self.group_size = bits, 64 if config.head_dim % 128 == 0 else 32
        if config.head_dim % self.group_size or bits not in (4, 8):
            raise CourseError(
                f"a cache of {bits} bits for heads of {config.head_dim} numbers; expected 4 or 8 bits, and a multiple "
                "of 32 numbers, which share a scale"
            )
        super().__init__(config, rows, window)

    @property
    def words(self) -> tuple[int, int]:
        """Of a packed head: its whole numbers, and its scales, which the offsets are as many as."""
        return self.config.head_dim * self.bits // 32, self.config.head_dim // self.group_size

    def empty(self) -> mx.array:
        """An array without rows and positions."""
        numbers, scales = self.words
        return mx.zeros((0, self.config.n_kv_head, 0, numbers + 2 * scales), mx.uint32)

    def update_and_fetch(self, *arrays: mx.array) -> tuple[mx.array, ...]:
        """As of LayerCache; what comes back has been rounded, the new ones too."""
        found = super().update_and_fetch(*map(self.pack, arrays))
        return tuple(self.unpack(array).astype(arrays[0].dtype) for array in found)

    def pack(self, array: mx.array) -> mx.array:
        """(…, head_dim) -> (…, words)."""
        numbers, *shared = mx.quantize(array.astype(mx.float32), self.group_size, self.bits)
        return mx.concatenate([numbers, *(part.view(mx.uint32) for part in shared)], axis=-1)

    def unpack(self, words: mx.array) -> mx.array:
        """(…, words) -> (…, head_dim), float32."""
        first, many = self.words
        numbers, *shared = mx.split(words, [first, first + many], axis=-1)
        return mx.dequantize(numbers, *(part.view(mx.float32) for part in shared), self.group_size, self.bits)


def packed_cache(config: GPTConfig, bits: int, rows: int = 1) -> KVCache:
    """A KVCache with keys and values in 8 or 4 bits, to be read and added to. Its rows cannot be copied to others."""
    cache = KVCache(config, rows)
    for n in range(config.n_layer):
        cache.layers[n] = PackedLayerCache(config, rows, cache.layers[n].window, bits)
    return cache
