"""Files as torch.save writes them, made by hand: sound ones, and such as torch would never write."""

import io
import struct
import zipfile

import numpy as np

KINDS = {"<f4": "Float", "<u2": "BFloat16", "<i4": "Int", "<i8": "Long"}


def text(word):
    return b"X" + struct.pack("<I", len(word.encode())) + word.encode()


def number(value):
    if 0 <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    content = value.to_bytes(17, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(kind, key, count):
    return (
        b"(" + text("storage") + f"ctorch\n{kind}Storage\n".encode() + text(key) + text("cpu") + number(count) + b"tQ"
    )


def tensor(storage, shape, stride, offset=0):
    call, end = b"ctorch._utils\n_rebuild_tensor_v2\n(", b"\x89ccollections\nOrderedDict\n)RtR"
    return call + storage + number(offset) + numbers(shape) + numbers(stride) + end


def pickle_of(tensors):
    """The pickle of a dict of opcodes by name."""
    items = b"".join(text(name) + value for name, value in tensors.items())
    return b"\x80\x02}(" + items + b"u."


def zip_of(pickle, storages, compression=zipfile.ZIP_STORED):
    """The zip with the pickle and with the bytes of the storages by key."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
    return out.getvalue()


def torch_file(arrays):
    """The file of NumPy arrays by name; those of uint16 are bfloat16's bits."""
    made = {}
    for key, (name, array) in enumerate(arrays.items()):
        strides = [step // array.itemsize for step in np.ascontiguousarray(array).strides]
        kind = KINDS[array.dtype.str]
        made[name] = tensor(storage(kind, str(key), array.size), array.shape, strides)
    return zip_of(pickle_of(made), {str(key): array.tobytes() for key, array in enumerate(arrays.values())})
