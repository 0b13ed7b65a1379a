"""Pickles of strangers, read without torch, without tiktoken, and without running anything that they ask for.

A pickle is a program for a small machine with a stack, and Python's own machine calls whatever function the program
names. This one has the 30 instructions that weights and tokenizers need, and a table of the names that it knows, each
with a function of ours. Everything else is refused. Python's machine with another `find_class` would not do: it also
makes room for whatever size a file claims (8 bytes of a pickle took 4.7 GB and 18 seconds).

Written by hand; chapter 22 uses it.
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from course_lib.host.errors import CourseError
from course_lib.weights.arrays import PIECE, TYPES, as_array, read_numbers
from course_lib.weights.files import ANOTHER, or_damaged, read_whole

MOST_BYTES = 16_000_000  # of a pickle: nanochat's 65,536 tokens take 1.2 MB
MOST_STEPS = 1_000_000  # instructions: the same tokens take 200,000

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = frozenset(
    "BININT BININT1 BININT2 LONG1 BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8".split()
)
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class Storage:
    """Numbers that lie in a file of their own in the zip, data/KEY."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage, as torch pickles it: offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Encoding:
    """What tiktoken's Encoding becomes here: an empty thing, and then its `state`, a dict."""

    state: Any = None


@dataclass(frozen=True)
class Known:
    """A name that a pickle may say, and what calling it does here; kind: of numbers, where it is a storage of torch."""

    call: Callable[..., Any]
    kind: str = ""


def rebuild_tensor(storage: Storage, offset: int, shape: tuple, stride: tuple, *more: object) -> Tensor:
    """torch._utils._rebuild_tensor_v2; more: whether it has a gradient, hooks, metadata."""
    if not isinstance(storage, Storage) or len(shape) != len(stride) or len(shape) > 8:
        raise ValueError("a tensor without numbers, or with more than 8 axes")
    for number in (storage.count, offset, *shape, *stride):
        if type(number) is not int or not 0 <= number < 1 << 48:
            raise ValueError("a tensor with an absurd size")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if offset > storage.count or (math.prod(shape) and last >= storage.count):
        raise ValueError("a tensor that reaches beyond its storage")
    return Tensor(storage, offset, tuple(shape), tuple(stride))


def rebuild_parameter(tensor: Tensor, *more: object) -> Tensor:
    """torch._utils._rebuild_parameter; more: whether it has a gradient, hooks."""
    return tensor


def no_call(*arguments: object) -> None:
    """A storage's type is only named."""
    raise ValueError("a type that is called")


TORCH = {
    "torch._utils _rebuild_tensor_v2": Known(rebuild_tensor),
    "torch._utils _rebuild_parameter": Known(rebuild_parameter),
    "collections OrderedDict": Known(lambda: {}),
    **{f"torch {kind}Storage": Known(no_call, kind) for kind in TYPES if kind != "UInt32"},
}
TIKTOKEN = {"tiktoken.core Encoding": Known(Encoding)}


def unpickle(content: bytes, known: Mapping[str, Known], what: Path) -> Any:
    """What a pickle makes of str, bytes, int, tuple, list, dict, and the names in `known`.

    what: the file, for messages. Raises CourseError for everything else.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    def named(name: Any) -> Known:
        if name not in known:
            raise CourseError(
                f"{what} asks for {name.replace(' ', '.')!r:.80}, which neither weights nor a tokenizer need and which "
                "may do harm; nothing of it was run: take the model from another place"
            )
        return known[name]

    def put(target: Any, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(target) is not dict or type(key) not in (str, bytes):  # hashing a deep tuple would never end
                raise ValueError("a key that is no text")
            target[key] = value

    with or_damaged(what):
        for step, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if step == MOST_STEPS:
                raise ValueError(f"more than {MOST_STEPS:,} instructions")
            name = opcode.name
            if name in ("PROTO", "FRAME"):
                pass
            elif name in LITERALS:
                stack.append(argument)
            elif name in CONSTANTS:
                stack.append(CONSTANTS[name])
            elif name == "MARK":
                marks.append(len(stack))
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name in TUPLES:
                items = [stack.pop() for _ in range(TUPLES[name])]
                stack.append(tuple(reversed(items)))
            elif name == "TUPLE":
                stack.append(tuple(since_mark()))
            elif name == "EMPTY_DICT":
                stack.append({})
            elif name == "SETITEM":
                value, key = stack.pop(), stack.pop()
                put(stack[-1], [key, value])
            elif name == "SETITEMS":
                items = since_mark()
                put(stack[-1], items)
            elif name == "GLOBAL":
                stack.append(named(argument))
            elif name == "STACK_GLOBAL":
                last, first = stack.pop(), stack.pop()
                if type(first) is not str or type(last) is not str:
                    raise ValueError("a name that is no text")
                stack.append(named(f"{first} {last}"))
            elif name in ("REDUCE", "NEWOBJ"):
                arguments, function = stack.pop(), stack.pop()
                if type(function) is not Known or type(arguments) is not tuple:
                    raise ValueError("a call of what is no function")
                stack.append(function.call(*arguments))
            elif name == "BINPERSID":
                stack.append(_storage(*stack.pop()))
            elif name == "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Encoding):
                    stack[-1].state = state
                elif type(stack[-1]) is not dict:  # torch's state_dict has versions of modules, which nobody needs
                    raise ValueError("a state for what has none")
            elif name == "STOP":
                (result,) = stack
                return result
            else:
                raise ValueError(f"the instruction {name}, which no weights need")
        raise ValueError("it ends too early")


def _storage(word: str, kind: Known, key: str, place: str, count: int) -> Storage:
    """What torch pickles as a persistent id. place: of the device, "cpu" or "cuda:0", which is of no interest."""
    if word != "storage" or type(kind) is not Known or not kind.kind or not key.isdecimal():
        raise ValueError("a persistent id that is no storage")
    return Storage(kind.kind, key, count)


class _BoundedFile(io.BufferedReader):
    """zipfile reads the list of a zip's entries at once, however long the file says that it is: no more than this."""

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(PIECE + 1 if size is None or size < 0 else min(size, PIECE + 1))
        if len(content) > PIECE:
            raise ValueError("a list of entries of more than 4 MB")
        return content


def load_torch(path: Path) -> dict[str, mx.array]:
    """The tensors of a file that torch.save wrote, by name; one that is alone has the name "".

    Types stay, bfloat16 too. Strides and offsets are honoured, and what shares a storage may. Memory: the arrays, and
    the largest storage once more. Raises CourseError for what is no such file, is damaged, or asks for more.
    """
    with or_damaged(path), _BoundedFile(io.FileIO(path)) as file:
        if not zipfile.is_zipfile(file):
            raise CourseError(f"{path} is no zip, as torch.save has written since 2020; {ANOTHER}")
        with zipfile.ZipFile(file) as archive:
            return _tensors(archive, path, path.stat().st_size)


def _tensors(archive: zipfile.ZipFile, path: Path, size: int) -> dict[str, mx.array]:
    entries = archive.infolist()
    if any(entry.compress_type or entry.compress_size != entry.file_size for entry in entries):
        raise CourseError(f"{path} is packed, which torch.save never does, and may unpack to any size; {ANOTHER}")
    if sum(entry.file_size for entry in entries) > size:
        raise CourseError(f"{path} has entries that overlap, so it claims to hold more than its size; {ANOTHER}")
    (pickle,) = (entry for entry in entries if entry.filename.endswith("/data.pkl"))
    folder = pickle.filename.removesuffix("data.pkl")
    if pickle.file_size > PIECE:
        raise ValueError("a pickle of more than 4 MB")
    if f"{folder}byteorder" in archive.NameToInfo and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("numbers that begin with their highest byte")
    found = unpickle(archive.read(pickle), TORCH, path)
    tensors = found if isinstance(found, dict) else {"": found}
    if not all(isinstance(tensor, Tensor) and isinstance(name, str) for name, tensor in tensors.items()):
        raise CourseError(f"{path} holds other things than tensors, such as a whole training; take a file of weights")
    claimed = sum(math.prod(tensor.shape) * TYPES[tensor.storage.kind].itemsize for tensor in tensors.values())
    if claimed > 2 * size:  # twice: two names may share one storage
        raise CourseError(f"{path} has {size:,} bytes, and its tensors claim {claimed:,}; {ANOTHER}")
    views: dict[Storage, set[Tensor]] = {}
    for tensor in tensors.values():
        views.setdefault(tensor.storage, set()).add(tensor)
    made: dict[Tensor, mx.array] = {}
    for storage, of_this in views.items():
        entry = archive.getinfo(f"{folder}data/{storage.key}")
        if entry.file_size != storage.count * TYPES[storage.kind].itemsize:
            raise ValueError("a storage that has another size than its numbers")
        with archive.open(entry) as numbers_file:
            numbers = read_numbers(numbers_file, storage.kind, storage.count)  # zipfile compares the checksum
        for tensor in of_this:
            made[tensor] = as_array(numbers, storage.kind, tensor.shape, tensor.stride, tensor.offset)
    return {name: made[tensor] for name, tensor in tensors.items()}


def load_encoding(path: Path) -> dict[str, Any]:
    """What a pickled Encoding of tiktoken holds: name, pat_str, mergeable_ranks, special_tokens; not yet checked."""
    found = unpickle(read_whole(path, MOST_BYTES), TIKTOKEN, path)
    if not isinstance(found, Encoding) or not isinstance(found.state, dict):
        raise CourseError(f"{path} is no tokenizer that tiktoken pickled with its tokens; {ANOTHER}")
    return found.state
