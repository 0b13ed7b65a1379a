"""Models that go out: other programs read the folders, and find our ids, our logits and our texts in them.

mlx-lm and transformers come with the development tools. What needs torch is skipped where there is none.
"""

import io
import json
import pickle
import pickletools
import shutil
import zipfile
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from course_lib.chat.conversation import render_for_completion
from course_lib.chat.lessons import KINDS, lesson
from course_lib.chat.rendering import render_conversation
from course_lib.data.tokenizer import SPECIAL_TOKENS, Tokenizer
from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.gpt2026 import GPT2026Config
from course_lib.scripts import convert
from course_lib.train.starter import load_starter
from course_lib.weights import out as weights_out
from course_lib.weights import torch_file
from course_lib.weights.bits import BITS, in_fewer_bits, with_tables
from course_lib.weights.load import load_pretrained, read_pretrained
from course_lib.weights.out import Export, transformers_name, write_folder
from course_lib.weights.tokenizer_json import tokenizer_json
from course_lib.weights.torch_file import save_torch

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def starter():
    return load_starter()


@pytest.fixture(scope="module")
def prompt(starter):
    messages = [{"role": "system", "content": " Be short.\n"}, {"role": "user", "content": " What is 12+30? "}]
    return render_for_completion(starter[1], messages)


@pytest.fixture(scope="module")
def folders(starter, tmp_path_factory):
    """The starter in the form of each program."""
    parent = tmp_path_factory.mktemp("out")
    for form in ("mlx-lm", "transformers", "nanochat"):
        convert.main(["--tag", "starter", "--to", form, "--out", str(parent / form)])
    return parent


def export(model, tokenizer, **changes):
    weights = dict(tree_flatten(model.parameters()))
    return replace(Export(weights, model.config, tokenizer, {"step": 3}, "small"), **changes)


@pytest.fixture(scope="module")
def small():
    tokenizer = Tokenizer.train(["some words, and 1+2=3 of them"], 280, allow_smaller=True)
    return GPT(GPTConfig(16, tokenizer.vocab_size, 2, 2, 1, 64)), tokenizer


# ---- the tokenizer


def peer_of(tokenizer):
    tokenizers = pytest.importorskip("tokenizers")
    return tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(tokenizer)))


TRAINED_ON = {
    "words": ["the cat sat on the mat, and the cats' hats don't fit 1234 people"],
    "signs": ["-the (the $the\tthe .the -the (the $the\tthe .the"],
    "runs": ["aaaa aaaaa aaaaaaa", " " * 40, "abababab abab", "----====----==", "\n\n\n  \n", "aabaabaab"],
    "letters": ["naïve Ünïcöde Straße ſt ﬁ 猫の本 привет мир 🙂🙂 १२३ 12 Ⅷ"],
}


@pytest.mark.parametrize("kind", TRAINED_ON)
def test_any_text_has_our_ids_in_tokenizers(kind):
    tokenizer = Tokenizer.train(TRAINED_ON[kind] * 3, 420, allow_smaller=True)
    peer = peer_of(tokenizer)
    known = [*"ab -=\n1aA'ſé猫", "the", "-the", "\tthe", "'LL", "\r\n", "\u00a0", "\u0085", "🙂"]
    pieces = st.one_of(st.sampled_from(known), st.text(max_size=3))

    @given(st.lists(st.tuples(pieces, st.integers(1, 9)), max_size=12))
    @settings(max_examples=400)
    def check(parts):
        text = "".join(piece * times for piece, times in parts)
        if not any(name in text for name in SPECIAL_TOKENS):
            ids = tokenizer.encode(text)
            assert peer.encode(text, add_special_tokens=False).ids == ids
            assert peer.encode(text).ids == [tokenizer.bos, *ids]
            assert peer.decode(ids) == text

    check()


def test_a_token_that_no_merges_make_is_found_where_it_is_a_whole_piece():
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"the": 256, b" t": 257}
    tokenizer = Tokenizer(ranks)
    for text in ("the", "the then", " the", "xthe the's"):
        assert peer_of(tokenizer).encode(text, add_special_tokens=False).ids == tokenizer.encode(text)
    assert tokenizer.encode("the") == [256]


def test_real_texts_have_our_ids_in_transformers(starter, folders, checkout):
    transformers = pytest.importorskip("transformers")
    peer, tokenizer = transformers.AutoTokenizer.from_pretrained(folders / "transformers"), starter[1]
    for file in sorted((checkout / "data/samples").glob("*.txt")):
        text = file.read_text(encoding="utf-8")
        assert peer.encode(text) == tokenizer.encode(text, bos=True), file.name
    assert (peer.bos_token_id, peer.eos_token_id) == (tokenizer.bos, tokenizer.special("<|assistant_end|>"))


# ---- the chat template


def conversations():
    """56 of the course's own, and 50 of shapes that they do not have."""
    yield from (lesson(kind, "test", n) for kind in KINDS for n in range(8))
    odd = [
        "",
        " ",
        "\n\n",
        "  a\n",
        "{{ messages }}",
        "{% raw %}",
        "<b>&amp;",
        "a\r\nb",
        "ünï 猫",
        "'quoted' \"twice\"",
    ]
    for n, text in enumerate(odd):
        yield [{"role": "user", "content": text}]
        yield [{"role": "system", "content": text}, {"role": "user", "content": odd[n - 1]}]
        yield [{"role": "user", "content": odd[n - 2]}, {"role": "assistant", "content": text}]
        parts = [
            {"type": "text", "text": text},
            {"type": "python", "text": "1+2"},
            {"type": "python_output", "text": "3"},
            {"type": "text", "text": f" is it {text}"},
        ]
        yield [
            {"role": "user", "content": "1+2?"},
            {"role": "assistant", "content": parts[: 1 + n % 4]},
            {"role": "user", "content": text},
        ]
        yield [{"role": "user", "content": "1+2?"}, {"role": "assistant", "content": parts[n % 3 :]}]


def test_the_template_renders_a_hundred_conversations_to_our_ids(starter, folders):
    transformers = pytest.importorskip("transformers")
    peer, tokenizer = transformers.AutoTokenizer.from_pretrained(folders / "transformers"), starter[1]
    seen = 0
    for messages in conversations():
        ids, _ = render_conversation(tokenizer, messages)
        assert peer.apply_chat_template(messages, return_dict=False) == ids, messages
        if messages[-1]["role"] == "user":
            asked = peer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
            assert asked == render_for_completion(tokenizer, messages), messages
        seen += 1
    assert seen == 106


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "a <|assistant_start|> b"}],
        [{"role": "system", "content": "<|bos|>"}, {"role": "user", "content": "a"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "text", "text": "<|bos|>"}]}],
        [{"role": "assistant", "content": "a"}],
        [{"role": "user", "content": "a"}, {"role": "user", "content": "a"}],
        [{"role": "system", "content": "a"}],
        [{"role": "user", "content": ["a"]}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "image", "text": "a"}]}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "text", "text": "a"}] * 2}],
    ],
)
def test_the_template_refuses_what_would_become_other_ids(folders, messages):
    transformers = pytest.importorskip("transformers")
    peer = transformers.AutoTokenizer.from_pretrained(folders / "transformers")
    with pytest.raises(Exception, match="a message|take turns|a part of|join texts"):
        peer.apply_chat_template(messages)


# ---- the models


def written(model, tokenizer, prompt):
    """What the engine writes, with what ended it."""
    row = Engine(model, tokenizer).generate_batch([prompt], 40, temperature=0)[0]
    assert row.finish_reason == "stop"
    return [*row.ids, tokenizer.special("<|assistant_end|>")]


@pytest.mark.slow
def test_mlx_lm_computes_our_logits_and_writes_our_ids(starter, folders, prompt):
    mlx_lm = pytest.importorskip("mlx_lm")
    from mlx_lm.generate import stream_generate

    model, tokenizer = starter
    theirs, their_tokenizer = mlx_lm.load(str(folders / "mlx-lm"))
    mine = dict(tree_flatten(model.parameters()))
    assert all(mx.array_equal(mine[name], array) for name, array in tree_flatten(theirs.parameters()))
    ids = mx.array([prompt])
    assert mx.abs(theirs(ids) - model(ids)).max().item() < 1e-4
    ids = [each.token for each in stream_generate(theirs, their_tokenizer, prompt, max_tokens=40)]
    assert ids == written(model, tokenizer, prompt)


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "tables"), [*((bits, False) for bits in BITS), ("4", True), ("nvfp4", True)])
def test_mlx_lm_reads_our_fewer_bits(starter, tmp_path, prompt, bits, tables):
    mlx_lm = pytest.importorskip("mlx_lm")
    flags = ["--tables"] if tables else []
    convert.main(["--tag", "starter", "--bits", bits, *flags, "--out", str(tmp_path / "packed")])
    theirs, _ = mlx_lm.load(str(tmp_path / "packed"))
    recipe, ids = with_tables(BITS[bits]) if tables else BITS[bits], mx.array([prompt])
    logits, most = theirs(ids), 1e-3
    if logits.dtype == mx.bfloat16:  # so mlx-lm computes after a table whose scales have no type of their own
        most = 0.6  # a unit in the last place of a logit is 1/16
    assert mx.abs(logits - in_fewer_bits(starter[0], recipe)(ids)).max().item() < most


@pytest.mark.slow
def test_transformers_computes_our_logits_and_writes_our_ids(starter, folders, prompt):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model, tokenizer = starter
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folders / "transformers")
    mine = {transformers_name(name): np.array(array) for name, array in tree_flatten(model.parameters())}
    state = theirs.state_dict()
    assert state.keys() == mine.keys() and all((state[name].numpy() == mine[name]).all() for name in mine)
    with torch.no_grad():
        logits = theirs(torch.tensor([prompt])).logits.numpy()
        ids = theirs.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)[0, len(prompt) :].tolist()
    np.testing.assert_allclose(np.array(model(mx.array([prompt]))), logits, atol=1e-4)
    assert ids == written(model, tokenizer, prompt)


@pytest.mark.slow
def test_other_numbers_of_the_model_reach_transformers(tmp_path):
    """Fewer heads of keys, another base, eps and cap: all of them are in config.json."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizer = Tokenizer.train(["some words"], 280, allow_smaller=True)
    config = GPTConfig(32, tokenizer.vocab_size, 2, 4, 2, 32, rope_base=500.0, norm_eps=1e-2, softcap=3.0)
    model = GPT(config)
    model.apply(lambda array: mx.random.normal(array.shape, key=mx.random.key(array.size)) / 4)
    write_folder(export(model, tokenizer), "transformers", tmp_path / "out")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = np.arange(30)[None] * 7 % tokenizer.vocab_size
    with torch.no_grad():
        logits = theirs(torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(np.array(model(mx.array(ids))), logits, atol=1e-4)


def test_a_base_model_has_no_chat_template_and_ends_with_bos(tmp_path, starter):
    convert.main(["--tag", "starter", "--stage", "base", "--out", str(tmp_path / "base")])
    names = {path.name for path in (tmp_path / "base").iterdir()}
    assert "chat_template.jinja" not in names
    assert json.loads((tmp_path / "base/tokenizer_config.json").read_text())["eos_token"] == "<|bos|>"
    card = (tmp_path / "base/README.md").read_text()
    assert "not fine-tuned" in card and "# Report card" in card and "![" not in card


# ---- nanochat's own files


class Rebuilding(pickle.Unpickler):
    """Reads data.pkl without torch: a tensor becomes a NumPy array of the storage's numbers."""

    def __init__(self, archive):
        super().__init__(io.BytesIO(archive.read("archive/data.pkl")))
        self.archive = archive

    def find_class(self, module, name):
        kinds = {"FloatStorage": np.float32, "HalfStorage": np.float16, "BFloat16Storage": np.uint16}
        known = kinds | {"IntStorage": np.int32, "LongStorage": np.int64, "OrderedDict": dict}
        return self.rebuild if (module, name) == ("torch._utils", "_rebuild_tensor_v2") else known[name]

    def persistent_load(self, what):
        word, kind, key, device, size = what
        assert (word, device) == ("storage", "cpu")
        numbers = np.frombuffer(self.archive.read(f"archive/data/{key}"), kind)
        assert numbers.size == size
        return numbers

    @staticmethod
    def rebuild(numbers, offset, shape, strides, requires_grad, hooks):
        assert (requires_grad, hooks) == (False, {})
        strides = [numbers.itemsize * stride for stride in strides]
        return np.lib.stride_tricks.as_strided(numbers[offset:], shape, strides)


ARRAYS = {
    "matrix": mx.random.normal((3, 5)),
    "turned": mx.random.normal((4, 6)).T,
    "half": mx.array([1.5, -2], mx.float16),
    "brain": mx.array([[1.5], [-2e30]], mx.bfloat16),
    "whole": mx.array([-1, 2**40], mx.int64),
    "scalar": mx.array(7, mx.int32),
    "empty": mx.zeros((0, 3)),
    "naïve name": mx.ones((2, 1, 3)),
}


def test_a_file_for_torch_holds_the_numbers_and_nothing_but_safe_opcodes(tmp_path):
    path = tmp_path / "a.pt"
    save_torch(path, ARRAYS)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        program = archive.read("archive/data.pkl")
        read = Rebuilding(archive).load()
        for info in archive.infolist():
            if "/data/" in info.filename:
                header = path.read_bytes()[info.header_offset :][:30]
                begins = info.header_offset + 30 + int.from_bytes(header[26:28], "little")
                assert (begins + int.from_bytes(header[28:30], "little")) % 64 == 0
    opcodes = [(code.name, argument) for code, argument, _ in pickletools.genops(program)]
    pickletools.dis(program, io.StringIO())  # raises where the stack does not hold what an opcode takes
    assert max(code.proto for code, _, _ in pickletools.genops(program)) <= 2
    named = {argument for name, argument in opcodes if name == "GLOBAL"}
    kinds = {
        f"torch {kind}" for kind in ("FloatStorage", "HalfStorage", "BFloat16Storage", "IntStorage", "LongStorage")
    }
    assert named == {"torch._utils _rebuild_tensor_v2", "collections OrderedDict"} | kinds
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        expected = np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)
        assert read[name].shape == expected.shape and read[name].dtype == expected.dtype, name
        assert read[name].tobytes() == expected.tobytes(), name


def test_numbers_beyond_four_bytes_are_written_in_eight():
    for number in (0, 2**31 - 1, 2**31, 2**40):
        program = pickle.PROTO + b"\x02" + torch_file._whole(number) + pickle.STOP
        assert pickle.loads(program) == number


def test_torch_reads_them_with_weights_only(tmp_path):
    torch = pytest.importorskip("torch")
    save_torch(tmp_path / "a.pt", ARRAYS)
    for mapped in (False, True):
        read = torch.load(tmp_path / "a.pt", weights_only=True, mmap=mapped)
        assert list(read) == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert str(read[name].dtype).removeprefix("torch.") == str(array.dtype).removeprefix("mlx.core.")
            bits = read[name].view(torch.int16).numpy() if array.dtype == mx.bfloat16 else read[name].numpy()
            expected = np.array(array.view(mx.int16) if array.dtype == mx.bfloat16 else array)
            assert bits.shape == expected.shape and bits.tobytes() == expected.tobytes(), name
    save_torch(tmp_path / "one.pt", mx.arange(5, dtype=mx.int32))
    assert torch.load(tmp_path / "one.pt", weights_only=True).tolist() == [0, 1, 2, 3, 4]


def test_nanochats_files_hold_weights_numbers_and_the_tokenizer(starter, folders):
    model, tokenizer = starter
    folder = folders / "nanochat"
    with zipfile.ZipFile(folder / "model_004500.pt") as archive:
        read = Rebuilding(archive).load()
    mine = dict(tree_flatten(model.parameters()))
    assert read.keys() == mine.keys()
    assert all(read[name].tobytes() == np.array(mine[name]).tobytes() for name in mine)
    meta = json.loads((folder / "meta_004500.json").read_text())
    sizes = {"sequence_len": 256, "vocab_size": 2048, "n_layer": 4, "n_head": 2, "n_kv_head": 2, "n_embd": 128}
    assert (meta["step"], meta["model_config"]) == (4500, sizes)
    encoding = pickle.loads((folder / "tokenizer.pkl").read_bytes())
    text = "It's 1234 times, naïve 猫!"
    assert encoding.encode_ordinary(text) == tokenizer.encode(text)
    assert encoding.encode_single_token("<|output_end|>") == tokenizer.special("<|output_end|>")
    with zipfile.ZipFile(folder / "token_bytes.pt") as archive:
        assert Rebuilding(archive).load().tolist() == tokenizer.token_bytes.tolist()


# ---- there and back


def same_arrays(one, other):
    return one.keys() == other.keys() and all(mx.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("form", ["mlx-lm", "transformers", "nanochat"])
def test_what_went_out_comes_back_bit_by_bit(starter, folders, tmp_path, form):
    model, tokenizer = starter
    back, its_tokenizer, meta = load_pretrained(folders / form)
    mine = dict(tree_flatten(model.parameters()))
    assert same_arrays(dict(tree_flatten(back.parameters())), mine)
    assert its_tokenizer.fingerprint == tokenizer.fingerprint
    eps = 2.0**-23 if form == "nanochat" else 1e-5
    assert back.config == replace(model.config, norm_eps=eps) and meta["notes"] == []
    for other in ("mlx-lm", "transformers", "nanochat"):  # and from there to each of the others
        again = tmp_path / other
        convert.main(["--from", str(folders / form), "--to", other, "--out", str(again)])
        assert same_arrays(read_pretrained(again).weights, mine)


@pytest.mark.parametrize(
    "flags", [["--bits", "4", "--tables"], ["--bits", "mxfp4"], ["--bits", "nvfp4", "--tables"]], ids=str
)
def test_what_is_packed_goes_out_as_it_is_or_is_made_whole(starter, tmp_path, capsys, flags):
    packed = tmp_path / "packed"
    convert.main(["--tag", "starter", *flags, "--out", str(packed)])
    convert.main(["--from", str(packed), "--out", str(tmp_path / "again")])
    before, after = read_pretrained(packed), read_pretrained(tmp_path / "again")
    assert same_arrays(before.weights, after.weights) and before.quantization == after.quantization
    assert "rounded once again" not in capsys.readouterr().out
    convert.main(["--from", str(packed), "--dtype", "float16", "--out", str(tmp_path / "half")])
    types = {name: array.dtype for name, array in read_pretrained(tmp_path / "half").weights.items()}
    assert {before.weights[name].dtype for name in types if types[name] == mx.float16} <= {mx.float32, mx.bfloat16}
    assert all(types[name] in (mx.float16, mx.uint32, mx.uint8) for name in types)
    ids = mx.array([[starter[1].bos, 40, 50, 60]])
    logits = load_pretrained(packed)[0](ids)
    for form in ("transformers", "nanochat"):
        convert.main(["--from", str(packed), "--to", form, "--out", str(tmp_path / form)])
        assert f"kept in {before.quantization['bits']} bits and are in more here" in capsys.readouterr().out
        whole = read_pretrained(tmp_path / form)
        assert whole.quantization is None and same_arrays(whole.weights, before.whole().weights)
        assert mx.abs(whole.model()(ids) - logits).max().item() < 2e-3  # nanochat has another eps
    convert.main(["--from", str(packed), "--bits", "8", "--out", str(tmp_path / "eight")])
    assert "rounded once again" in capsys.readouterr().out
    eight = read_pretrained(tmp_path / "eight")
    assert eight.quantization["bits"] == 8 and mx.abs(eight.model()(ids) - logits).max().item() < 0.6


def test_the_model_of_july_2026_goes_out_and_comes_back(tmp_path, checkout):
    july = checkout / "tests/data/weights/july"
    convert.main(["--from", str(july), "--to", "nanochat", "--out", str(tmp_path / "july")])
    before, after = read_pretrained(july), read_pretrained(tmp_path / "july")
    assert same_arrays(before.weights, after.weights) and before.config == after.config
    assert [array.dtype for array in before.weights.values()] == [array.dtype for array in after.weights.values()]
    assert before.tokenizer.fingerprint == after.tokenizer.fingerprint and after.step == before.step


# ---- what cannot be, and what goes wrong


def test_what_another_program_cannot_say_is_refused_in_a_sentence(tmp_path, small):
    model, tokenizer = small
    out, config = tmp_path / "out", model.config
    capped, turned = replace(config, softcap=30.0), replace(config, rope_base=1e5)
    for form, wrong, said in (
        ("mlx-lm", capped, "softcap=30.0, but in mlx-lm it is 15.0 for every such model; choose another --to"),
        ("nanochat", turned, "rope_base=100000.0, but in nanochat it is 10000.0"),
        ("gguf", config, "llama.cpp does not know nanochat's architecture"),
        ("mlx-lm", GPT2026Config(), "knows nanochat's model of October 2025 only"),
        ("transformers", GPT2026Config(), "use --to nanochat"),
        ("nanochat", GPT2026Config(rope_base=1e4), "rope_base=10000.0, but in nanochat it is 100000.0"),
    ):
        with pytest.raises(CourseError, match=said):
            write_folder(export(model, tokenizer, config=wrong), form, out)
    assert not list(tmp_path.iterdir())
    assert write_folder(export(model, tokenizer, config=turned), "mlx-lm", out) == []
    assert read_pretrained(out).config == turned
    (note,) = write_folder(export(model, tokenizer, config=replace(config, norm_eps=1e-6)), "mlx-lm", out, True)
    assert (
        note.startswith("norm_eps is 1e-06 in the course and 1e-05 in mlx-lm")
        and note in (out / "README.md").read_text()
    )


def test_a_folder_is_written_whole_or_not_at_all(tmp_path, small, monkeypatch):
    model, tokenizer = small
    out, what = tmp_path / "out", export(model, tokenizer)
    write_folder(what, "mlx-lm", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(CourseError, match="is there already; add --overwrite"):
        write_folder(what, "transformers", out)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights_out, "tokenizer_json", full)
    with pytest.raises(CourseError, match=r"cannot write .*No space left on device.*free some space"):
        write_folder(what, "transformers", out, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    monkeypatch.undo()
    write_folder(what, "nanochat", out, overwrite=True)
    assert {path.name for path in out.iterdir()} == {
        "README.md", "model_000003.pt", "meta_000003.json", "tokenizer.pkl", "token_bytes.pt"
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_anything_else_is_left_alone(tmp_path, small):
    model, tokenizer = small
    out = tmp_path / "out"
    out.mkdir()
    write_folder(export(model, tokenizer), "mlx-lm", out)  # an empty folder may be used
    (out / "thesis.txt").write_text("mine")
    file = tmp_path / "file"
    file.write_text("mine")
    for place in (out, tmp_path, file):
        with pytest.raises(CourseError, match="holds what `convert` did not write"):
            write_folder(export(model, tokenizer), "mlx-lm", place, overwrite=True)
    assert file.read_text() == (out / "thesis.txt").read_text() == "mine"


def test_the_program_says_what_is_wrong_with_its_flags(tmp_path, capsys):
    for flags, said, code in (
        ([], "--out is missing; name the folder to write", 2),
        (["--out", str(tmp_path / "a"), "--to", "nanochat", "--bits", "4"], "--bits 4 is for --to mlx-lm only", 2),
        (["--out", str(tmp_path / "a"), "--tables"], "--tables says what --bits is for", 2),
        (["--out", str(tmp_path / "a"), "--to", "gguf"], "llama.cpp does not know", 1),
    ):
        with pytest.raises(SystemExit) as caught:
            convert.main(["--tag", "starter", *flags])
        assert caught.value.code == code and said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_half_the_bytes_in_bfloat16(tmp_path):
    convert.main(["--tag", "starter", "--dtype", "bfloat16", "--out", str(tmp_path / "half")])
    arrays = mx.load(str(tmp_path / "half/model.safetensors"))
    assert {array.dtype for array in arrays.values()} == {mx.bfloat16}
    assert json.loads((tmp_path / "half/config.json").read_text())["dtype"] == "bfloat16"
    shutil.rmtree(tmp_path / "half")
