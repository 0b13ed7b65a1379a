"""Files that `torch.load(path, weights_only=True)` reads, written without torch.

Such a file is a zip: `data.pkl` says how to rebuild the tensors, and `data/0`, `data/1`, … hold their numbers as they
lie in memory. A pickle is a small program for a machine with a stack: each opcode below pushes something, or makes one
thing of what lies there. `python -m pickletools` lists them.

Written by hand; chapter 22 uses it.
"""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

STORAGES = {
    mx.float32: "FloatStorage",
    mx.float16: "HalfStorage",
    mx.bfloat16: "BFloat16Storage",
    mx.int32: "IntStorage",
    mx.int64: "LongStorage",
}
HEADER = 30  # bytes before the name of each file in a zip
ALIGNMENT = 64  # bytes; torch begins the numbers of each tensor at a multiple, so that they can be mapped into memory


def save_torch(path: Path, value: mx.array | Mapping[str, mx.array]) -> None:
    """Write an array, or arrays by name, as torch.save would write a tensor, or tensors by name.

    Raises OSError, for instance when the disk is full.
    """
    arrays = list(value.values()) if isinstance(value, Mapping) else [value]
    if isinstance(value, Mapping):
        pairs = [_text(name) + _tensor(number, value[name]) for number, name in enumerate(value)]
        built = pickle.EMPTY_DICT + pickle.MARK + b"".join(pairs) + pickle.SETITEMS
    else:
        built = _tensor(0, value)
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.PROTO + b"\x02" + built + pickle.STOP)
        archive.writestr("archive/byteorder", "little")
        for number, array in enumerate(arrays):
            info = zipfile.ZipInfo(f"archive/data/{number}")
            begins = file.tell() + HEADER + len(info.filename) + 4
            info.extra = struct.pack("<2sH", b"FB", -begins % ALIGNMENT) + bytes(-begins % ALIGNMENT)
            with archive.open(info, "w", force_zip64=array.nbytes >= 2**31) as entry:
                entry.write(_numbers(array))
        archive.writestr("archive/version", "3\n")


def _numbers(array: mx.array) -> memoryview:
    """What stands in the file: the numbers row after row, without a copy where they lie so already."""
    if array.dtype == mx.bfloat16:  # Python has no name for it
        array = array.view(mx.uint16)
    return memoryview(mx.contiguous(array)).cast("B") if array.size else memoryview(b"")


# ---- the pickle


def _tensor(number: int, array: mx.array) -> bytes:
    """torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)."""
    strides = [1]
    for size in reversed(array.shape[1:]):
        strides.append(strides[-1] * max(size, 1))
    hooks = _name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    parts = (
        _storage(number, array),
        _whole(0),
        _tuple(array.shape),
        _tuple(reversed(strides[: array.ndim])),
        pickle.NEWFALSE,
        hooks,
    )
    return _name("torch._utils", "_rebuild_tensor_v2") + pickle.MARK + b"".join(parts) + pickle.TUPLE + pickle.REDUCE


def _storage(number: int, array: mx.array) -> bytes:
    """The numbers themselves are elsewhere: torch looks this tuple up in the zip."""
    kind = _name("torch", STORAGES[array.dtype])
    parts = _text("storage"), kind, _text(str(number)), _text("cpu"), _whole(array.size)
    return pickle.MARK + b"".join(parts) + pickle.TUPLE + pickle.BINPERSID


def _name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(text.encode())) + text.encode()


def _tuple(numbers) -> bytes:
    return pickle.MARK + b"".join(map(_whole, numbers)) + pickle.TUPLE


def _whole(number: int) -> bytes:
    """An integer of 4 bytes, or of 8."""
    if number < 2**31:
        return pickle.BININT + struct.pack("<i", number)
    return pickle.LONG1 + b"\x08" + struct.pack("<q", number)
