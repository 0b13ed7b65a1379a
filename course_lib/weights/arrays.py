"""Numbers of a file as MLX arrays, one storage at a time, so that nothing is in memory twice for long.

Written by hand; chapter 22 uses it.
"""

from collections.abc import Sequence
from typing import IO

import mlx.core as mx
import numpy as np

PIECE = 1 << 22  # bytes that are read at a time

# What torch and safetensors call a type -> NumPy's. NumPy has no bfloat16: its bits pass through as whole numbers.
TYPES = {
    "BFloat16": np.dtype("<u2"),
    "Half": np.dtype("<f2"),
    "Float": np.dtype("<f4"),
    "Long": np.dtype("<i8"),
    "Int": np.dtype("<i4"),
    "Byte": np.dtype("u1"),
    "Bool": np.dtype("?"),
    "UInt32": np.dtype("<u4"),
}


def read_numbers(file: IO[bytes], kind: str, count: int) -> np.ndarray:
    """The next `count` numbers of a file, whose size the caller has compared with that. Raises EOFError."""
    numbers = np.empty(count, TYPES[kind])
    place, left = numbers.view(np.uint8).data, numbers.nbytes
    while left:
        piece = file.read(min(left, PIECE))
        if not piece:
            raise EOFError("it ends too early")
        start = numbers.nbytes - left
        place[start : start + len(piece)] = piece
        left -= len(piece)
    return numbers


def as_array(numbers: np.ndarray, kind: str, shape: Sequence[int], stride: Sequence[int], offset: int = 0) -> mx.array:
    """A view of a storage, copied: element (i, j, …) is numbers[offset + i·stride[0] + j·stride[1] + …].

    The caller has checked that all of them are there.
    """
    steps = [step * numbers.itemsize for step in stride]
    array = mx.array(np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False))
    if kind == "BFloat16":
        array = array.view(mx.bfloat16)
        mx.eval(array)
    return array
