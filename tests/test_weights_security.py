"""Files of strangers: nothing in them is run, memory and time are bounded, and a sentence says what is wrong."""

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_files import number, numbers, pickle_of, storage, tensor, text, torch_file, zip_of

from course_lib.data.split_pattern import SAMPLE
from course_lib.host.errors import CourseError
from course_lib.weights.files import file_in
from course_lib.weights.load import load_pretrained
from course_lib.weights.pickles import TIKTOKEN, TORCH, load_encoding, load_torch, unpickle
from course_lib.weights.safetensors_files import load_safetensors
from course_lib.weights.tokenizers import PATTERNS, from_encoding, from_tokenizer_json

FILES = Path(__file__).parent / "data" / "weights"
PATHS = sorted(path for path in FILES.glob("*/*") if path.is_file() and path.name != "generation_config.json")
SECONDS = 10  # far more than any of these small files takes


def refusal(function, *arguments):
    started = time.monotonic()
    with pytest.raises(CourseError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    assert time.monotonic() - started < SECONDS
    return str(caught.value)


# ---- pickles that would run something


class Call:
    """Pickled, it is a call of a function with these arguments."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(marker):
    """By name, pickles that would make the file `marker`, or something else that no weights need."""
    touch = f"touch '{marker}'"
    import builtins
    import importlib

    made = {}
    for protocol in range(6):
        made[f"os.system, protocol {protocol}"] = pickle.dumps(Call(os.system, touch), protocol)
        nested = {"transformer.wte.weight": [1, {"deep": (Call(Call(os.system, touch).call[0], touch),)}]}
        made[f"nested, protocol {protocol}"] = pickle.dumps(nested, protocol)
    made["exec"] = pickle.dumps(Call(builtins.exec, f"open({str(marker)!r}, 'w')"), 2)
    made["import"] = pickle.dumps(Call(importlib.import_module, "antigravity"), 4)
    made["open"] = pickle.dumps(Call(open, str(marker), "w"), 2)
    made["pickle in torch's own"] = b"\x80\x02ctorch.storage\n_load_from_bytes\n(" + text("x") + b"tR."
    made["INST"] = f'(S"{touch}"\nios\nsystem\n.'.encode()
    made["OBJ"] = b"(cos\nsystem\n" + text(touch) + b"o."
    made["EXT1"] = b"\x80\x02\x82\x01."
    made["NEWOBJ_EX"] = b"\x80\x04\x8c\x02os\x8c\x06system\x93)}\x92."
    made["a name made of parts"] = b"\x80\x04\x8c\x08os\nposix\x8c\x06system\x93)R."
    made["getattr"] = b"\x80\x02cbuiltins\ngetattr\n(" + text("a") + text("upper") + b"tR."
    made["a known function, called wrongly"] = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + text(touch) + b"tR."
    made["a storage as a function"] = b"\x80\x02ctorch\nFloatStorage\n(" + text(touch) + b"tR."
    made["OrderedDict of something"] = b"\x80\x02ccollections\nOrderedDict\n(" + text("ab") + b"tR."
    made["BUILD on a tensor"] = (
        b"\x80\x02" + tensor(storage("Float", "0", 1), (1,), (1,)) + b"}" + text("shape") + number(5) + b"sb."
    )
    return made


def test_no_pickle_runs_anything(tmp_path):
    marker = tmp_path / "made"
    for name, content in hostile(marker).items():
        (tmp_path / "tokenizer.pkl").write_bytes(content)
        assert refusal(load_encoding, tmp_path / "tokenizer.pkl"), name
        (tmp_path / "model.pt").write_bytes(zip_of(content, {"0": bytes(4)}))
        assert refusal(load_torch, tmp_path / "model.pt"), name
        assert not marker.exists() and "antigravity" not in sys.modules, name


def test_what_was_asked_for_is_named(tmp_path):
    for protocol, name in ((2, "posix.system"), (4, "posix.system")):
        path = tmp_path / "tokenizer.pkl"
        path.write_bytes(pickle.dumps(Call(os.system, "true"), protocol))
        assert f"asks for {name!r}" in refusal(load_encoding, path)


def test_these_pickles_would_do_it(tmp_path):
    """The control: Python's own machine does run them."""
    marker = tmp_path / "made"
    for name in ("os.system, protocol 0", "nested, protocol 4", "INST"):
        program = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
        subprocess.run([sys.executable, "-c", program], input=hostile(marker)[name], timeout=60, capture_output=True)
        assert marker.exists(), name
        marker.unlink()


# ---- files that would fill memory, or take for ever: each in a sentence, all in one process whose memory is watched


def deep(levels):
    """t = (t, t), so many times: a tuple of 2^levels parts when somebody looks at all."""
    return b"\x80\x02" + text("a") + b"2\x86" * 0 + b"q\x00h\x00\x86" + b"q\x01h\x01\x86" * levels


def deep_storage():
    """A storage whose key is such a tuple."""
    return b"(" + text("storage") + b"ctorch\nFloatStorage\n" + deep(90)[2:] + text("cpu") + number(4) + b"tQ"


def weigh(folder):
    """Files that claim much, by name; large ones have holes."""
    float_storage, ones = storage("Float", "0", 4), bytes(16)
    big = {
        "memo.pkl": b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".",
        "bytes.pkl": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x.",
        "text.pkl": b"\x80\x02X" + struct.pack("<I", 2**31) + b"x.",
        "frame.pkl": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
        "key.pkl": b"\x80\x02}" + deep(90)[2:] + b"Ns.",
        "steps.pkl": b"\x80\x02" + b"}" * 15_000_000 + b".",
        "large.pkl": None,
        "name.pkl": b"\x80\x04" + deep(90)[2:] + b"\x8c\x06system\x93.",
        "pattern.pkl": b"\x80\x02ctiktoken.core\nEncoding\n)\x81}("
        + (text("pat_str") + deep(90)[2:] + text("mergeable_ranks") + b"}" + text("special_tokens") + b"}")
        + b"ub.",
        "specials.pkl": b"\x80\x02ctiktoken.core\nEncoding\n)\x81}("
        + (text("pat_str") + text("a") + text("mergeable_ranks") + b"}" + text("special_tokens") + deep(90)[2:])
        + b"ub.",
        "bomb.pt": zip_of(
            pickle_of({"a": tensor(storage("Float", "0", 10**8), (4,), (1,))}), {"0": bytes(4 * 10**8)}, 8
        ),
        "key.pt": zip_of(pickle_of({"a": tensor(deep_storage(), (4,), (1,))}), {"0": ones}),
        "repeated.pt": zip_of(pickle_of({"a": tensor(float_storage, (10**9, 4), (0, 1))}), {"0": ones}),
        "beyond.pt": zip_of(pickle_of({"a": tensor(float_storage, (4,), (1,), 1)}), {"0": ones}),
        "far.pt": zip_of(pickle_of({"a": tensor(float_storage, (2,), (2**40,))}), {"0": ones}),
        "huge.pt": zip_of(pickle_of({"a": tensor(storage("Float", "0", 10**12), (10**12,), (1,))}), {"0": ones}),
        "absurd.pt": zip_of(pickle_of({"a": tensor(float_storage, (2**100,), (0,))}), {"0": ones}),
        "axes.pt": zip_of(pickle_of({"a": tensor(float_storage, (1,) * 5000, (1,) * 5000)}), {"0": ones}),
        "negative.pt": zip_of(pickle_of({"a": tensor(float_storage, (4,), (-1,))}), {"0": ones}),
        "outside.pt": zip_of(pickle_of({"a": tensor(storage("Float", "../../x", 4), (4,), (1,))}), {"../x": ones}),
        "entries.pt": entries(400_000),
        "overlap.pt": overlapping(),
        "sparse.pt": None,
        "claims.safetensors": header({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}),
        "overlap.safetensors": header(
            {str(n): {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for n in range(20_000)}, ones
        ),
        "gap.safetensors": header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}, ones),
        "rest.safetensors": header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, ones),
        "shape.safetensors": header({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 16]}}, ones),
        "minus.safetensors": header({"a": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}}, ones),
        "true.safetensors": header({"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, b"1"),
        "twice.safetensors": twice(),
        "long.safetensors": struct.pack("<Q", 2**63) + b"{}",
        "deep.safetensors": struct.pack("<Q", 1_000_000) + b"[" * 1_000_000,
        "deep.json": b"[" * 900_000,
        "number.json": b'{"model_type": ' + b"9" * 900_000 + b"}",
        "large.json": None,
    }
    for name, content in big.items():
        with (folder / name).open("wb") as file:
            if content is None:  # a gigabyte of zeros; of the zip a terabyte
                file.truncate(10**12 if name == "sparse.pt" else 10**9)
            else:
                file.write(content)
    return sorted(big)


def header(about, rest=b""):
    content = json.dumps(about).encode()
    return struct.pack("<Q", len(content)) + content + rest


def twice():
    """One name, two sizes: which one counts depends on who reads."""
    first, last = (json.dumps({"a": {"dtype": "U8", "shape": [n], "data_offsets": [0, n]}})[1:-1] for n in (9, 1))
    content = f"{{{first}, {last}}}".encode()
    return struct.pack("<Q", len(content)) + content + b"1"


def entries(count):
    """A zip whose list of entries is 20 MB."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 4) + bytes(16) + b"abcd"
    place = struct.pack("<HHHHIIH", 0, 0, count % 65535, count % 65535, len(entry) * count, 0, 0)
    return entry * count + b"PK\x05\x06" + place


def overlapping():
    """A zip in which 500 entries are the same megabyte."""
    content = bytes(1_000_000)
    start = b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0, 0, len(content), len(content), 1, 0) + b"a"
    listed = struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 0, 0, len(content), len(content), 1, 0, 0, 0, 0, 0, 0)
    listed = (b"PK\x01\x02" + listed + b"a") * 500
    body = start + content
    return body + listed + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 500, 500, len(listed), len(body), 0)


WATCHED = """
import resource, sys, time
from pathlib import Path
from course_lib.host.errors import CourseError
from course_lib.weights.files import read_json
from course_lib.weights.pickles import load_encoding, load_torch
from course_lib.weights.safetensors_files import load_safetensors
from course_lib.weights.tokenizers import from_encoding
readers = {".pt": load_torch, ".safetensors": load_safetensors, ".json": read_json}
readers[".pkl"] = lambda path: from_encoding(load_encoding(path), path)
unit = 1 if sys.platform == "darwin" else 1024
for line in sys.stdin:
    path = Path(line.strip())
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    try:
        readers[path.suffix](path)
        said = "NOTHING"
    except CourseError as error:
        said = str(error)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
    print(path.name, more, round(time.monotonic() - started, 2), said, sep="\\t", flush=True)
"""


@pytest.mark.slow
def test_no_file_fills_memory_or_takes_for_ever(tmp_path):
    names = weigh(tmp_path)
    paths = "\n".join(str(tmp_path / name) for name in names)
    done = subprocess.run([sys.executable, "-c", WATCHED], input=paths, capture_output=True, text=True, timeout=200)
    found = [line.split("\t") for line in done.stdout.splitlines()]
    assert [name for name, *_ in found] == names, done.stderr
    for name, more, seconds, said in found:
        assert said != "NOTHING" and len(said) < 700, name
        assert int(more) < 250e6 and float(seconds) < SECONDS, (name, more, seconds)


def test_what_is_packed_or_lies_twice_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(zip_of(pickle_of({}), {"0": bytes(1000)}, zipfile.ZIP_DEFLATED))
    assert "is packed" in refusal(load_torch, path)
    path.write_bytes(overlapping())
    assert "entries that overlap" in refusal(load_torch, path)


# ---- paths and links


def test_links_out_of_the_folder_and_pipes_are_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("{}")
    folder = tmp_path / "m"
    folder.mkdir()
    for target in (secret, Path("../secret"), Path("/dev/zero"), Path("/etc/passwd")):
        (folder / "config.json").unlink(missing_ok=True)
        (folder / "config.json").symlink_to(target)
        assert "leads out of its folder" in refusal(load_pretrained, folder)
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert "is no file" in refusal(load_pretrained, folder)
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")
    refusal(load_pretrained, folder)


def test_a_link_inside_the_folder_or_to_the_hubs_blobs_is_followed(tmp_path):
    snapshot, blobs = tmp_path / "models--a--b/snapshots/123", tmp_path / "models--a--b/blobs"
    shutil.copytree(FILES / "october", blobs)
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    assert load_pretrained(snapshot)[2]["step"] == 10


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "", ".", "..", "a\0b", 5, None, ["a"]])
def test_a_name_with_folders_is_refused(tmp_path, name):
    refusal(file_in, tmp_path, name)


def test_an_index_cannot_name_files_outside(tmp_path):
    folder = Path(shutil.copytree(FILES / "transformers", tmp_path / "m"))
    shutil.copy(folder / "model-00001-of-00002.safetensors", tmp_path / "outside.safetensors")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    for name in index["weight_map"]:
        index["weight_map"][name] = "../outside.safetensors"
    path.write_text(json.dumps(index))
    assert "expected a name without folders" in refusal(load_pretrained, folder)


# ---- tokenizers


SLOW = r"(\s|\p{L}|[a-z])+(?!\S|.)|" + ".|\n"


def test_only_known_patterns_are_let_in(tmp_path):
    state = load_encoding(FILES / "october/tokenizer.pkl")
    for pattern in (SLOW, "(a+)+$", "", "(" * 5000, state["pat_str"] + "|x", 5, None, ("a",)):
        refusal(from_encoding, state | {"pat_str": pattern}, Path("tokenizer.pkl"))
    about = json.loads((FILES / "transformers/tokenizer.json").read_text())
    for pattern in (SLOW, ".+", 5):
        about["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": pattern}
        (tmp_path / "tokenizer.json").write_text(json.dumps(about))
        refusal(from_tokenizer_json, tmp_path / "tokenizer.json")


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_the_known_patterns_are_fast_and_lose_nothing(pattern):
    state = load_encoding(FILES / "october/tokenizer.pkl")
    tokenizer = from_encoding(state | {"pat_str": pattern}, Path("tokenizer.pkl"))
    started = time.monotonic()
    for sample in (
        SAMPLE,
        "a" * 200_000,
        " " * 90_000 + "x",
        "\n" * 90_000,
        "1" * 100_000,
        "'" * 100_000,
        "a " * 50_000,
    ):
        assert tokenizer.decode(tokenizer.encode(sample)) == sample
    assert time.monotonic() - started < 2 * SECONDS


@pytest.mark.parametrize(
    "changes",
    [
        {"mergeable_ranks": {}},
        {"mergeable_ranks": {b"a": 0}},
        {"mergeable_ranks": {"a": 0}},
        {"mergeable_ranks": 5},
        {"special_tokens": {"<|bos|>": 276}},
        {"special_tokens": {}},
        {"special_tokens": 5},
    ],
    ids=str,
)
def test_tokens_that_make_no_tokenizer_are_refused(changes):
    state = load_encoding(FILES / "october/tokenizer.pkl")
    refusal(from_encoding, state | changes, Path("tokenizer.pkl"))
    ranks = state["mergeable_ranks"]
    for wrong in (
        ranks | {b"": 0},
        ranks | {b"zz": 9},
        ranks | {b"zz": 10**9},
        ranks | {b"zz": True},
        ranks | {b"z": "1"},
    ):
        refusal(from_encoding, state | {"mergeable_ranks": wrong}, Path("tokenizer.pkl"))


def test_long_tokens_cannot_make_the_check_of_merges_endless(tmp_path):
    about = json.loads((FILES / "transformers/tokenizer.json").read_text())
    first = len(about["model"]["vocab"])
    for n in range(500):
        about["model"]["vocab"]["ab" * (400 + n)] = first + n
    for n, token in enumerate(about["added_tokens"]):
        token["id"] = first + 500 + n
    (tmp_path / "tokenizer.json").write_text(json.dumps(about))
    assert "too long" in refusal(from_tokenizer_json, tmp_path / "tokenizer.json")


# ---- weights that do not fit, and more of them than there is memory


def test_weights_larger_than_memory_are_not_begun(tmp_path):
    shutil.copytree(FILES / "october", tmp_path / "m")
    with (tmp_path / "m" / "model_000010.pt").open("r+b") as file:
        file.truncate(10**13)
    assert "they may take" in refusal(load_pretrained, tmp_path / "m")


def test_one_small_storage_cannot_be_a_large_model(tmp_path):
    folder = Path(shutil.copytree(FILES / "october", tmp_path / "m"))
    names = load_torch(folder / "model_000010.pt")
    shared = storage("Float", "0", 64 * 16)
    made = {name: tensor(shared, array.shape, (0, 0)) for name, array in names.items()}
    (folder / "model_000010.pt").write_bytes(zip_of(pickle_of(made), {"0": bytes(4 * 64 * 16)}))
    assert "its tensors claim" in refusal(load_pretrained, folder)


# ---- fuzzing: any bytes of the small files changed


@st.composite
def mutated(draw, content):
    """The content with some bytes changed, cut, doubled or put in."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(changed) - 1, 0)))
        kind = draw(st.sampled_from(["set", "set", "set", "cut", "end", "double", "insert"]))
        if kind == "set" and changed:
            changed[place] = draw(st.integers(0, 255))
        elif kind == "cut":
            del changed[place : place + draw(st.integers(1, 40))]
        elif kind == "end":
            del changed[place:]
        elif kind == "double":
            changed[place:place] = changed[place : place + draw(st.integers(1, 40))]
        else:
            changed[place:place] = draw(st.binary(max_size=12))
    return bytes(changed)


def same(found, expected):
    """Whether two dicts hold the same arrays; NaN is itself."""
    return found.keys() == expected.keys() and all(
        found[name].dtype == array.dtype and bits(found[name]) == bits(array)
        for name, array in expected.items()
        if array.size
    )


def bits(array):
    return bytes(array.reshape(-1).view(mx.uint8))


def outcome(function, *arguments):
    """What it returns, or None where it raised a CourseError; nothing else may be raised, and no time be lost."""
    started = time.monotonic()
    try:
        return function(*arguments)
    except CourseError as error:
        assert "\n" not in str(error) and len(str(error)) < 900
        return None
    finally:
        assert time.monotonic() - started < SECONDS


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_a_changed_file_of_torch_is_refused_or_gives_the_same_arrays(tmp_path_factory, data):
    whole = FILES / data.draw(st.sampled_from(["views.pt", "october/model_000010.pt", "october/token_bytes.pt"]))
    path = tmp_path_factory.getbasetemp() / "fuzzed.pt"
    path.write_bytes(data.draw(mutated(whole.read_bytes())))
    found = outcome(load_torch, path)
    assert found is None or same(found, load_torch(whole))


def pickle_in(path):
    with zipfile.ZipFile(path) as archive:
        storages = {name.rpartition("/")[2]: archive.read(name) for name in archive.namelist() if "/data/" in name}
        return next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")), storages


@pytest.mark.slow
@settings(max_examples=1000)
@given(st.data())
def test_a_changed_pickle_in_a_sound_zip_is_refused_or_gives_arrays(tmp_path_factory, data):
    """The zip's checksums are right here, so that everything behind them is reached."""
    content, storages = pickle_in(FILES / "views.pt")
    changed = data.draw(mutated(content))
    path = tmp_path_factory.getbasetemp() / "fuzzed.pt"
    path.write_bytes(zip_of(changed, storages))
    found = outcome(load_torch, path) or {}
    assert all(isinstance(array, mx.array) and array.nbytes <= 10_000 for array in found.values())
    outcome(unpickle, changed, TORCH | TIKTOKEN, path)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_a_pickle_or_give_something_small(content):
    outcome(unpickle, b"\x80\x04" + content, TORCH | TIKTOKEN, Path("x.pkl"))


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_a_changed_file_of_safetensors_is_refused_or_gives_arrays_of_its_size(tmp_path_factory, data):
    """It has no checksum: a number that is changed is another number."""
    whole = FILES / "transformers/model-00002-of-00002.safetensors"
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(data.draw(mutated(whole.read_bytes()[:3000] if data.draw(st.booleans()) else whole.read_bytes())))
    found = outcome(load_safetensors, path) or {}
    assert sum(array.nbytes for array in found.values()) <= path.stat().st_size


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_a_folder_with_a_changed_file_is_refused_or_loaded(tmp_path_factory, data):
    changed = data.draw(st.sampled_from(PATHS))
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(changed.parent, folder)
    (folder / changed.name).write_bytes(data.draw(mutated(changed.read_bytes())))
    if found := outcome(load_pretrained, folder):
        model, tokenizer, _ = found
        assert model(mx.array([[1, 2]])).shape == (1, 2, tokenizer.vocab_size)


def test_the_helper_writes_what_torch_reads_and_so_do_we(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    (tmp_path / "a.pt").write_bytes(torch_file({"a": array}))
    assert np.array_equal(np.array(load_torch(tmp_path / "a.pt")["a"]), array) and numbers(()) == b"(t"
    torch = pytest.importorskip("torch")
    assert torch.load(tmp_path / "a.pt", weights_only=True)["a"].tolist() == array.tolist()
