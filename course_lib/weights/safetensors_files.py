"""Safetensors, read by the letter: a header in JSON, then the numbers, without gaps and without overlaps.

`mx.load` reads them too. It believes the header, and here a stranger may have written it.

Written by hand; chapter 22 uses it.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx

from course_lib.host.errors import CourseError
from course_lib.weights.arrays import PIECE, TYPES, as_array, read_numbers
from course_lib.weights.files import ANOTHER, file_in, or_damaged, parse_json, read_json

KINDS = {
    "BF16": "BFloat16",
    "F16": "Half",
    "F32": "Float",
    "I64": "Long",
    "I32": "Int",
    "U8": "Byte",
    "BOOL": "Bool",
    "U32": "UInt32",
}


def load_safetensors(path: Path) -> dict[str, mx.array]:
    """The arrays of one file by name; types stay. Memory: the arrays, and the largest once more.

    Raises CourseError for a header that does not say, to the byte, what the file holds.
    """
    arrays = {}
    with or_damaged(path), path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(PIECE, size - 8):
            raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
        header = parse_json(file.read(length), path)
        header.pop("__metadata__", None)
        for name, kind, shape, count in _in_order(header, size - 8 - length):
            numbers = read_numbers(file, kind, count)
            strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
            arrays[name] = as_array(numbers, kind, shape, strides)
    return arrays


def _in_order(header: dict[str, Any], size: int) -> Iterator[tuple[str, str, list[int], int]]:
    """(name, kind, shape, how many numbers) of each array as they lie in the file, all checked before the first."""
    found, place = [], 0
    for name, about in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        shape, (begin, end) = about["shape"], about["data_offsets"]
        if len(shape) > 8 or any(
            type(number) is not int or not 0 <= number < 1 << 48 for number in (*shape, begin, end)
        ):
            raise ValueError("an array with an absurd size")
        if about["dtype"] not in KINDS:
            raise ValueError("a type of numbers that is not known")
        kind, count = KINDS[about["dtype"]], math.prod(shape)
        if begin != place or end - begin != count * TYPES[kind].itemsize or end > size:
            raise ValueError(f"arrays that overlap, leave gaps, or claim more than the {size:,} bytes there are")
        found.append((name, kind, shape, count))
        place = end
    if place != size:
        raise ValueError(f"bytes that belong to no array: {size - place:,}")
    yield from found


def load_all(folder: Path) -> dict[str, mx.array]:
    """The arrays of a folder: of model.safetensors, or of the parts that its index names."""
    if path := file_in(folder, "model.safetensors"):
        return load_safetensors(path)
    index = file_in(folder, "model.safetensors.index.json")
    if index is None:
        raise CourseError(f"there is no model.safetensors in {folder}, and no index of its parts; {ANOTHER}")
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise CourseError(f"{index} has no weight_map; {ANOTHER}")
    arrays: dict[str, mx.array] = {}
    parts = sorted(set(map(str, where.values())))
    for part in parts:
        path = file_in(folder, part)
        if path is None:
            raise CourseError(
                f"{folder} lacks {part!r:.80}, one of the {len(parts)} parts of its weights; fetch it again"
            )
        arrays |= load_safetensors(path)
    if arrays.keys() != where.keys():
        missing = sorted(where.keys() ^ arrays.keys())
        raise CourseError(f"{index} and the parts disagree about {missing[0]!r:.80}; {ANOTHER}")
    return arrays
