"""Models of other programs come in with their own numbers: logits of torch, transformers and mlx-lm are the truth.

tests/data/weights was written by dev/make_weight_files.py, in which nothing of the course is used.
"""

import io
import json
import pickle
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import huggingface_hub.constants as hub_constants
import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from mlx.utils import tree_flatten
from mlx_lm.models import nanochat as peer
from mlx_lm.utils import load_model
from torch_files import pickle_of, storage, tensor, torch_file, zip_of
from weights_hub import WeightsHub

from course_lib.data.tokenizer import PATTERN, SPECIAL_TOKENS, Tokenizer
from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError, FlagError
from course_lib.model.gpt2026 import GPT2026
from course_lib.scripts import base_eval, chat_cli
from course_lib.weights.flags import AnyModel
from course_lib.weights.hub import needed
from course_lib.weights.load import load_pretrained, read_pretrained
from course_lib.weights.pickles import load_encoding, load_torch
from course_lib.weights.safetensors_files import load_safetensors
from course_lib.weights.tokenizers import byte_alphabet, from_encoding, from_tokenizer_json

FILES = Path(__file__).parent / "data" / "weights"
FORMS = ("october", "july", "transformers")
pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture
def copy(tmp_path):
    """copy(form): a folder with the files of a form, to be spoilt."""

    def made(form):
        return Path(shutil.copytree(FILES / form, tmp_path / form))

    return made


def change(path, **changes):
    """Change what a JSON file says; None takes a name out. "model_config.n_layer" is inside model_config."""
    about = json.loads(path.read_text())
    for name, value in changes.items():
        *before, last = name.split("__")
        inside = about[before[0]] if before else about
        inside.pop(last, None)
        if value is not None:
            inside[last] = value
    path.write_text(json.dumps(about))


def refusal(source, *arguments):
    with pytest.raises(CourseError) as caught:
        load_pretrained(source, *arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def some_ids(vocab_size, count=200):
    return mx.array([[(7 * n * n + 3 * n) % vocab_size for n in range(count)]])


# ---- logits


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_those_of_the_program_that_wrote_the_files(form):
    model, tokenizer, _ = load_pretrained(FILES / form)
    expected = mx.load(str(FILES / "logits.safetensors"))
    found = model(some_ids(tokenizer.vocab_size))[0][expected["positions"]]
    assert mx.abs(expected[form]).max().item() > 5  # the comparison is one
    assert mx.abs(found - expected[form]).max().item() <= 1e-4


@pytest.mark.parametrize("form", FORMS)
def test_the_engine_writes_with_it_what_the_logits_say(form):
    model, tokenizer, _ = load_pretrained(FILES / form)
    prompt = tokenizer.encode("The cat", bos=True)
    (row,) = Engine(model, tokenizer).generate_batch([prompt], max_tokens=12, temperature=0)
    ids = list(prompt)
    for token in row.ids:
        assert token == model(mx.array([ids]))[0, -1].argmax().item()
        ids.append(token)


def test_types_stay_as_they_are_kept():
    model, _, _ = load_pretrained(FILES / "october")
    assert model.transformer.wte.weight.dtype == mx.bfloat16 and model.lm_head.weight.dtype == mx.float32
    model, _, _ = load_pretrained(FILES / "july")
    assert model.lm_head.weight.dtype == mx.bfloat16 and model.smear_gate.weight.dtype == mx.float32
    assert isinstance(model, GPT2026)


def test_meta_says_what_is_known():
    for form, name, step in (("october", "nanochat (October 2025)", 10), ("july", "nanochat (July 2026)", 20)):
        _, tokenizer, meta = load_pretrained(FILES / form / f"model_{step:06d}.pt")
        assert (meta["form"], meta["step"], meta["bits_per_byte"], meta["notes"]) == (name, step, 1.25, [])
        assert meta["tokenizer"] == tokenizer.fingerprint and meta["config"]["norm_eps"] == 2**-23


def test_parts_in_several_files_or_one_are_the_same_model(copy):
    folder = copy("transformers")
    arrays = {}
    for part in sorted(folder.glob("*.safetensors")):
        arrays |= mx.load(str(part))
        mx.eval(arrays)
        part.unlink()
    (folder / "model.safetensors.index.json").unlink()
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, {"format": "pt"})
    whole, parts = load_pretrained(folder)[0], load_pretrained(FILES / "transformers")[0]
    mine, other = dict(tree_flatten(whole.parameters())), dict(tree_flatten(parts.parameters()))
    assert mine.keys() == other.keys() and all(mx.array_equal(mine[name], other[name]) for name in mine)


def mlx_lm_folder(folder, dtype=mx.float32, how=None):
    """A folder as mlx-lm saves it, and its model."""
    config = {
        "model_type": "nanochat",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 285,
        "max_position_embeddings": 256,
        "intermediate_size": 256,
        "rope_theta": 10000.0,
    }
    mx.random.seed(7)
    model = peer.Model(peer.ModelArgs.from_dict(config))
    model.lm_head.weight = 10 * model.lm_head.weight  # on its own scale it would say little
    model.set_dtype(dtype)
    if how:
        of_floats = how.get("mode", "affine") != "affine"  # then mlx-lm goes on in bfloat16 from a quantised embedding
        kinds = nn.Linear if of_floats else (nn.Linear, nn.Embedding)
        nn.quantize(model, **how, class_predicate=lambda _, module: isinstance(module, kinds))
        config["quantization"] = how
    folder.mkdir()
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(FILES / "transformers" / "tokenizer.json", folder)
    return model


def test_logits_are_those_of_mlx_lm(tmp_path):
    theirs = mlx_lm_folder(tmp_path / "m")
    ours, tokenizer, meta = load_pretrained(tmp_path / "m")
    ids = some_ids(tokenizer.vocab_size)
    assert mx.abs(ours(ids) - theirs(ids)).max().item() <= 1e-4
    assert meta["form"] == "mlx-lm" and meta["notes"] == []


HOW = [
    {"group_size": 64, "bits": 8, "mode": "affine"},
    {"group_size": 32, "bits": 6},
    {"group_size": 64, "bits": 4},
    {"group_size": 32, "bits": 3},
    {"group_size": 32, "bits": 4, "mode": "mxfp4"},
    {"group_size": 32, "bits": 8, "mode": "mxfp8"},
    {"group_size": 16, "bits": 4, "mode": "nvfp4"},
]


@pytest.mark.parametrize("how", HOW, ids=str)
def test_quantised_weights_of_mlx_lm_stay_packed_and_give_its_logits(tmp_path, how):
    mlx_lm_folder(tmp_path / "m", how=how)
    theirs, _ = load_model(tmp_path / "m")
    ours, tokenizer, meta = load_pretrained(tmp_path / "m")
    mine, other = dict(tree_flatten(ours.parameters())), dict(tree_flatten(theirs.parameters()))
    assert mine.keys() == other.keys() and all(mx.array_equal(mine[name], other[name]) for name in mine)
    assert sum(array.dtype == mx.uint32 for array in mine.values()) >= 13 and meta["notes"] == []
    ids = some_ids(tokenizer.vocab_size)
    assert mx.abs(theirs(ids)).max().item() > 1
    assert mx.abs(ours(ids) - theirs(ids)).max().item() <= 1e-4
    found = read_pretrained(tmp_path / "m").whole()
    whole = found.model()
    assert whole.lm_head.weight.shape == (285, 64) and f"kept in {how['bits']} bits" in found.notes[0]
    assert mx.abs(ours(ids) - whole(ids)).max().item() <= 1e-4


def test_layers_may_be_quantised_in_a_way_of_their_own_or_not_at_all(tmp_path):
    """As in the mixed recipes of mlx-lm, which writes each layer that differs into config.json."""
    theirs = mlx_lm_folder(tmp_path / "m")
    own = {
        "transformer.h.0.mlp.c_fc": {"group_size": 32, "bits": 8},
        "transformer.h.1.attn.c_q": {"group_size": 32, "bits": 4, "mode": "mxfp4"},
        "transformer.wte": False,
        "lm_head": {"group_size": 64, "bits": 6, "mode": "affine"},
    }
    nn.quantize(theirs, 64, 4, class_predicate=lambda name, layer: own.get(name, hasattr(layer, "to_quantized")))
    mx.save_safetensors(str(tmp_path / "m/model.safetensors"), dict(tree_flatten(theirs.parameters())))
    change(tmp_path / "m/config.json", quantization={"group_size": 64, "bits": 4, **own})
    theirs, _ = load_model(tmp_path / "m")
    ours, tokenizer, _ = load_pretrained(tmp_path / "m")
    assert (ours.lm_head.bits, ours.transformer.h[1].attn.c_q.mode) == (6, "mxfp4")
    assert ours.transformer.wte.weight.dtype == mx.float32 and ours.transformer.h[1].attn.c_k.bits == 4
    ids = some_ids(tokenizer.vocab_size)
    assert mx.abs(ours(ids) - theirs(ids)).max().item() <= 1e-4
    assert mx.abs(read_pretrained(tmp_path / "m").whole().model()(ids) - theirs(ids)).max().item() <= 1e-4


@pytest.mark.parametrize("how", HOW, ids=str)
def test_another_type_changes_the_scales_and_nothing_that_is_packed(tmp_path, how):
    mlx_lm_folder(tmp_path / "m", how=how)
    model, tokenizer, _ = load_pretrained(tmp_path / "m")
    before = dict(tree_flatten(model.parameters()))
    ids = some_ids(tokenizer.vocab_size)
    logits = model(ids)
    model.set_dtype(mx.bfloat16)
    for name, array in tree_flatten(model.parameters()):
        is_float = before[name].dtype == mx.float32
        assert array.dtype == (mx.bfloat16 if is_float else before[name].dtype)
        assert is_float or mx.array_equal(array, before[name])
    whole = read_pretrained(tmp_path / "m").whole().model()
    whole.set_dtype(mx.bfloat16)
    lost = mx.abs(whole(ids) - logits).max().item()  # by weights in 16 bits; a scale's error counts for all its steps
    assert mx.abs(model(ids) - logits).max().item() <= max(6 * lost, 1e-4)


def test_a_packed_vocabulary_that_is_padded_is_cut_with_its_scales(tmp_path):
    mlx_lm_folder(tmp_path / "m", how=HOW[2])
    path = tmp_path / "m/model.safetensors"
    expected, tokenizer, _ = load_pretrained(tmp_path / "m")
    arrays = mx.load(str(path))
    for name, array in arrays.items():
        if name.startswith(("transformer.wte.", "lm_head.")):
            arrays[name] = mx.pad(array, ((0, 320 - 285), (0, 0)), constant_values=9)
    mx.eval(arrays)
    mx.save_safetensors(str(path), arrays)
    ids = some_ids(tokenizer.vocab_size)
    assert mx.array_equal(load_pretrained(tmp_path / "m")[0](ids), expected(ids))


@pytest.mark.parametrize(
    "how",
    [
        "4",
        [64, 4],
        {"group_size": 64},
        {"bits": 4},
        {"group_size": 64, "bits": "4"},
        {"group_size": 64, "bits": True},
        {"group_size": 64, "bits": 5},
        {"group_size": 64, "bits": 99},
        {"group_size": 64, "bits": -4},
        {"group_size": 64, "bits": 10**30},
        {"group_size": 0, "bits": 4},
        {"group_size": -64, "bits": 4},
        {"group_size": float("nan"), "bits": 4},
        {"group_size": 32, "bits": 4},
        {"group_size": 10**30, "bits": 4},
        {"group_size": 64, "bits": 4, "mode": "nf4"},
        {"group_size": 64, "bits": 4, "mode": ["affine"]},
        {"group_size": 32, "bits": 4, "mode": "mxfp4"},
        {"group_size": 64, "bits": 4, "lm_head": {"group_size": 64, "bits": 8}},
        {"group_size": 64, "bits": 4, "lm_head": {}},
        None,
        {},
    ],
    ids=str,
)
def test_quantisation_that_is_none_or_another_is_refused(tmp_path, how):
    mlx_lm_folder(tmp_path / "m", how=HOW[2])
    change(tmp_path / "m/config.json", quantization=how)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    refusal(tmp_path / "m")
    assert mx.get_peak_memory() < before + 10e6


def test_packed_arrays_that_do_not_fit_are_refused(tmp_path):
    layer = "transformer.h.0.mlp.c_fc"
    for number, (name, array) in enumerate(
        (
            (f"{layer}.scales", None),
            (f"{layer}.biases", None),
            (f"{layer}.weight", None),
            (f"{layer}.weight", mx.zeros((256, 8))),
            (f"{layer}.weight", mx.zeros((256, 16), mx.uint32)),
            (f"{layer}.scales", mx.zeros((256, 1), mx.uint8)),
            (f"{layer}.scales", mx.zeros((256, 2))),
            (f"{layer}.biases", mx.zeros((128, 1))),
            ("lm_head.scales", mx.zeros((256, 1))),
            ("transformer.scales", mx.zeros(3)),
        )
    ):
        mlx_lm_folder(tmp_path / str(number), how=HOW[2])
        path = tmp_path / str(number) / "model.safetensors"
        arrays = {own: value for own, value in mx.load(str(path)).items() if own != name}
        mx.eval(arrays)
        mx.save_safetensors(str(path), arrays | ({} if array is None else {name: array}))
        refusal(tmp_path / str(number))


# ---- torch's files


def test_strides_offsets_shared_storages_and_types():
    found = load_torch(FILES / "views.pt")
    base = np.arange(24, dtype=np.float32)
    expected = {
        "turned": base.reshape(4, 6).T,
        "cut": base[2:20].reshape(3, 6)[:, 1:5],
        "same": base[2:20].reshape(3, 6)[:, 1:5],
        "parameter": base[:2],
        "one": np.float16(7.5),
        "none": np.zeros((0, 3), np.float32),
        "bool": np.array([False, False, True]),
        "long": np.array([2**40, -1]),
        "byte": np.array([[255]], np.uint8),
    }
    assert found.keys() == expected.keys() and found["cut"] is found["same"]
    for name, array in expected.items():
        assert found[name].shape == array.shape and np.array_equal(np.array(found[name]), array), name
        assert np.array(found[name]).dtype == array.dtype, name


def test_bfloat16_comes_through_to_the_bit(tmp_path):
    bits = np.arange(65536, dtype=np.uint16)
    (tmp_path / "m.pt").write_bytes(torch_file({"x": bits}))
    (found,) = load_torch(tmp_path / "m.pt").values()
    assert found.dtype == mx.bfloat16 and np.array_equal(np.array(found.view(mx.uint16)), bits)


@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_memory_is_that_of_the_arrays_and_one_more(tmp_path, kind):
    """1.3 times the file, measured in a process of its own: the twelve arrays have 12 MB each."""
    arrays = {f"a{n}": np.full((3000, 1000), n, np.float32) for n in range(12)}
    path = tmp_path / "m.pt"
    if kind == "torch":
        path.write_bytes(torch_file(arrays))
    else:
        mx.save_safetensors(str(tmp_path / "m.safetensors"), {name: mx.array(array) for name, array in arrays.items()})
        path = tmp_path / "m.safetensors"
    program = f"""
import resource, sys
from pathlib import Path
from course_lib.weights.pickles import load_torch
from course_lib.weights.safetensors_files import load_safetensors
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()
found = load_{kind}(Path(sys.argv[1]))
assert len(found) == 12 and found["a7"][5, 5].item() == 7
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 1.3 * path.stat().st_size


def test_a_vocabulary_padded_to_64_is_cut_to_the_ids_that_there_are(copy):
    folder = copy("october")
    path = folder / "model_000010.pt"
    arrays = {name: np.array(array.astype(mx.float32)) for name, array in load_torch(path).items()}
    expected = load_pretrained(folder)[0]
    for name in list(arrays):
        if "wte" in name or "lm_head" in name:
            arrays[name] = np.pad(arrays[name], ((0, 320 - 285), (0, 0)), constant_values=9)
    path.write_bytes(torch_file(arrays))
    model, tokenizer, _ = load_pretrained(folder)
    ids = some_ids(285)
    assert model.lm_head.weight.shape == (285, 16) and mx.array_equal(model(ids), expected(ids))


def test_what_older_files_do_not_say_is_as_it_was_then(copy):
    folder = copy("july")
    change(folder / "meta_000020.json", model_config__window_pattern=None, model_config__sequence_len=None)
    config = load_pretrained(folder)[0].config
    assert config.window_pattern == "L" and config.sequence_len == 2048


# ---- tokenizers


@given(st.text(max_size=60) | st.text("the catsON 2026'll\n\r\t…é日", max_size=60))
def test_ids_are_those_of_tiktoken_and_of_hugging_face(text):
    pickled = pickle.loads((FILES / "october/tokenizer.pkl").read_bytes())  # ours, so it may be run
    theirs = tokenizers.Tokenizer.from_file(str(FILES / "transformers/tokenizer.json"))
    path = FILES / "october/tokenizer.pkl"
    ours = from_encoding(load_encoding(path), path), from_tokenizer_json(FILES / "transformers/tokenizer.json")
    for tokenizer in ours:
        assert tokenizer.pattern == PATTERN
        ids = tokenizer.encode(text)
        assert ids == pickled.encode_ordinary(text)
        plain = text
        for special in SPECIAL_TOKENS:
            plain = plain.replace(special, "")
        if plain == text:  # there a special token's text becomes its id
            assert ids == theirs.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == text


@pytest.fixture(scope="module")
def trained():
    """A tokenizer of more tokens, and the pairs that training merged: those into which each token falls."""
    words = "the then they other another mother moth there here where were anna banana".split()
    texts = [" ".join(words[n % 11 :] + words[: n % 7]) for n in range(40)]
    tokenizer = Tokenizer.train(texts, 330, allow_smaller=True)
    ranks = tokenizer.mergeable_ranks
    pairs = []
    for token in sorted((token for token in ranks if len(token) > 1), key=ranks.get):
        lower = tiktoken.Encoding("lower", pat_str=".+", mergeable_ranks=below(ranks, token), special_tokens={})
        pairs.append(tuple(map(lower.decode_single_token_bytes, lower.encode(token.decode("latin-1")))))
    return tokenizer, pairs


def below(ranks, token):
    return {other: rank for other, rank in ranks.items() if rank < ranks[token]}


def write_json(path, tokenizer, pairs):
    """A tokenizer.json with these merges."""
    letter = {byte: character for character, byte in byte_alphabet().items()}
    name = {token: "".join(letter[byte] for byte in token) for token in tokenizer.mergeable_ranks}
    about = json.loads((FILES / "transformers/tokenizer.json").read_text())
    about["model"]["vocab"] = {name[token]: rank for token, rank in tokenizer.mergeable_ranks.items()}
    about["model"]["merges"] = [f"{name[first]} {name[second]}" for first, second in pairs]
    for n, token in enumerate(about["added_tokens"]):
        token["id"] = len(tokenizer.mergeable_ranks) + n
    path.write_text(json.dumps(about))


def all_cuts(tokenizer):
    """Every way to make a token of two others, in the order of the tokens: as transformers writes tiktoken's."""
    ranks = tokenizer.mergeable_ranks
    for token in sorted(ranks, key=ranks.get):
        cuts = [(token[:n], token[n:]) for n in range(1, len(token))]
        yield from sorted(pair for pair in cuts if pair[0] in ranks and pair[1] in ranks)


@given(st.text("thenmoawrb ", max_size=40))
def test_merges_may_list_one_pair_for_each_token_or_every_one(trained, tmp_path_factory, text):
    tokenizer, pairs = trained
    every = list(all_cuts(tokenizer))
    assert len(every) > len(pairs)
    for merges in (pairs, every):
        path = tmp_path_factory.getbasetemp() / "tokenizer.json"
        write_json(path, tokenizer, merges)
        found = from_tokenizer_json(path)
        assert found.fingerprint == tokenizer.fingerprint
        theirs = tokenizers.Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False)
        assert found.encode(text) == theirs.ids


def test_merges_that_could_give_other_ids_are_refused(trained, tmp_path):
    tokenizer, pairs = trained
    path = tmp_path / "tokenizer.json"
    write_json(path, tokenizer, pairs[::-1])
    with pytest.raises(CourseError, match="merges that do not stand in the order"):
        from_tokenizer_json(path)
    wrong = [other for other in all_cuts(tokenizer) if other not in pairs]
    for pair in wrong:  # in place of the one that training found
        merged = b"".join(pair)
        write_json(path, tokenizer, [pair if b"".join(each) == merged else each for each in pairs])
        with pytest.raises(CourseError, match="a token that its merges do not reach"):
            from_tokenizer_json(path)
    assert len(wrong) > 3


# ---- what does not fit is said


META, CONFIG, JSON = "meta_000010.json", "config.json", "tokenizer.json"


@pytest.mark.parametrize(
    ("form", "file", "changes", "words"),
    [
        ("october", META, {"model_config__n_layer": 3}, "says n_layer=3, vocab_size=285, n_embd=16"),
        ("october", META, {"model_config__n_layer": 10**11}, "n_layer=100000000000"),
        ("october", META, {"model_config__n_embd": -16}, "says n_embd=-16, expected a number above 0"),
        ("october", META, {"model_config__n_head": "2"}, "says n_head='2', expected a number"),
        ("october", META, {"model_config__sequence_len": 10**9}, "sequence_len=1000000000, at most 1048576"),
        ("october", META, {"model_config__vocab_size": 284}, "vocab_size=284"),
        ("october", META, {"model_config__n_kv_head": 2}, "c_k.weight"),
        ("october", META, {"model_config__window_pattern": "SSSL"}, "its arrays are of October 2025"),
        ("october", META, {"model_config__experts": 8}, "has 'experts' in its model_config"),
        ("october", META, {"model_config": None}, "no model_config"),
        ("transformers", CONFIG, {"model_type": "llama"}, "a model of type 'llama'"),
        ("transformers", CONFIG, {"intermediate_size": 32}, "says intermediate_size=32, and nanochat's model has 64"),
        ("transformers", CONFIG, {"hidden_act": "gelu"}, "says hidden_act='gelu'"),
        ("transformers", CONFIG, {"attention_bias": True}, "says attention_bias=True"),
        ("transformers", CONFIG, {"tie_word_embeddings": True}, "says tie_word_embeddings=True"),
        ("transformers", CONFIG, {"head_dim": 4}, "says head_dim=4, and nanochat's model has 8"),
        ("transformers", CONFIG, {"rope_parameters": {"rope_type": "yarn"}}, "says rope_type='yarn'"),
        ("transformers", CONFIG, {"rms_norm_eps": 0}, "says norm_eps=0"),
        ("transformers", CONFIG, {"final_logit_softcapping": "none"}, "says softcap='none'"),
        ("transformers", CONFIG, {"hidden_size": None}, "has no hidden_size"),
        ("transformers", CONFIG, {"hidden_size": 10**30}, "no sound hidden_size"),
        ("transformers", JSON, {"normalizer": {"type": "NFC"}}, "no byte-level BPE without extras"),
        ("transformers", JSON, {"added_tokens": []}, "has the special tokens none, expected nanochat's nine"),
        ("transformers", JSON, {"pre_tokenizer": {"type": "Whitespace"}}, "damaged or not what its name says"),
    ],
)
def test_a_mismatch_is_one_sentence(copy, form, file, changes, words):
    folder = copy(form)
    change(folder / file, **changes)
    assert words in refusal(folder)


@pytest.mark.parametrize(("name", "value"), [("rope_theta", 500.0), ("rms_norm_eps", 1e-2)])
def test_numbers_that_the_model_has_too_are_taken_over(copy, name, value):
    """And not overlooked: with another base or eps the logits are others."""
    folder = copy("transformers")
    before = load_pretrained(folder)[0](some_ids(285))
    change(folder / CONFIG, **({"rope_parameters": {"rope_theta": value}} if "rope" in name else {name: value}))
    assert mx.abs(load_pretrained(folder)[0](some_ids(285)) - before).max().item() > 1e-2


def test_a_tokenizer_of_another_model_is_refused(copy):
    folder = copy("october")
    counts = load_torch(folder / "token_bytes.pt")[""]
    wrong = np.array(counts)
    wrong[270] += 1
    pickled = b"\x80\x02" + tensor(storage("Int", "0", len(wrong)), wrong.shape, (1,)) + b"."
    (folder / "token_bytes.pt").write_bytes(zip_of(pickled, {"0": wrong.tobytes()}))
    assert "counts other bytes" in refusal(folder)
    (folder / "token_bytes.pt").unlink()
    load_pretrained(folder)  # it may be missing


def test_a_tokenizer_with_other_ids_is_refused(copy, trained):
    ranks = trained[0].mergeable_ranks
    specials = {name: len(ranks) + n for n, name in enumerate(SPECIAL_TOKENS)}
    other = tiktoken.Encoding("other", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=specials)
    folder = copy("october")
    (folder / "tokenizer.pkl").write_bytes(pickle.dumps(other))
    assert f"has {len(ranks) + 9} ids and the model 285" in refusal(folder)


def test_a_model_from_in_between_is_refused(copy):
    folder = copy("july")
    path = folder / "model_000020.pt"
    arrays = {name: np.array(a.astype(mx.float32)) for name, a in load_torch(path).items() if "smear" not in name}
    path.write_bytes(torch_file(arrays))
    assert "from between October 2025 and July 2026" in refusal(folder)


@pytest.mark.parametrize("missing", ["tokenizer.pkl", META, "model_000010.pt"])
def test_a_missing_file_is_named(copy, missing):
    folder = copy("october")
    (folder / missing).unlink()
    found = refusal(folder / "model_000010.pt")
    assert missing in found and ("copy it there" in found or "take another copy" in found or "there is no" in found)


def test_the_tokenizer_may_lie_where_nanochat_keeps_it(tmp_path):
    run = tmp_path / "chatsft_checkpoints" / "d20"
    shutil.copytree(FILES / "october", run)
    (tmp_path / "tokenizer").mkdir()
    for name in ("tokenizer.pkl", "token_bytes.pt"):
        shutil.move(run / name, tmp_path / "tokenizer" / name)
    assert load_pretrained(run)[2]["step"] == 10


def test_the_newest_of_several_steps_is_taken(copy):
    folder = copy("october")
    shutil.copy(folder / "model_000010.pt", folder / "model_000009.pt")
    (folder / "model_latest.pt").write_bytes(b"")
    assert load_pretrained(folder)[2]["step"] == 10


def test_a_chat_template_of_another_form_is_noted(copy, capsys):
    folder = copy("transformers")
    (folder / "chat_template.jinja").write_text("{{ bos_token }}<|user_start|>{{ m }}<|user_end|><|assistant_start|>")
    note = "has no <|assistant_end|>, so it may be used to conversations of another form"
    assert note in load_pretrained(folder)[2]["notes"][0] and note in capsys.readouterr().err


def test_other_folders_are_refused_with_what_was_expected(tmp_path, checkout):
    assert "holds no model of a known form" in refusal(tmp_path)
    assert "there is no nowhere" in refusal("nowhere")
    assert "is of this course" in refusal(checkout / "data/starter/sft/starter")
    assert "has no revisions" in refusal(FILES / "october", "main")


# ---- from the hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with WeightsHub() as hub:
        monkeypatch.setattr(hub_constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(hub_constants, "HF_HUB_DISABLE_XET", True)
        yield hub


@pytest.mark.parametrize("form", FORMS)
def test_a_model_of_the_hub_is_fetched_once_and_then_found_without_a_network(hub, monkeypatch, form):
    hub.add("someone/small", FILES / form, {"README.md": b"#", "optim_000010.pt": b"large", "pytorch_model.bin": b""})
    first = load_pretrained("someone/small")[0](some_ids(285))
    here = load_pretrained(FILES / form)[0](some_ids(285))
    assert mx.array_equal(first, here)
    sent = sorted(set(hub.sent))
    assert not {"README.md", "optim_000010.pt", "pytorch_model.bin"} & set(sent) and len(sent) == len(hub.sent)
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    assert mx.array_equal(load_pretrained("someone/small")[0](some_ids(285)), here) and len(sent) == len(hub.sent)


def test_gpt2_of_the_hub_is_fetched_with_its_tokenizer_and_one_copy_of_its_weights(hub):
    hub.add("someone/gpt2", FILES / "gpt2", {"pytorch_model.bin": b"", "onnx/model.safetensors": b"", "64.tflite": b""})
    ids = some_ids(265, 40)
    assert mx.array_equal(load_pretrained("someone/gpt2")[0](ids), load_pretrained(FILES / "gpt2")[0](ids))
    assert {*hub.sent} == {"config.json", "model.safetensors", "vocab.json", "merges.txt"}


def test_what_the_hub_does_not_have_is_said(hub, monkeypatch):
    hub.add("someone/small", FILES / "october")
    hub.add("someone/other", None, {"README.md": b"#"})
    assert "no revision 'v9'" in refusal("someone/small", "v9")
    assert "there is no model someone/nothing on the hub" in refusal("someone/nothing")
    assert "has neither config.json" in refusal("someone/other")
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    assert "was not fetched to its end" in refusal("someone/small")


def test_only_the_files_of_one_model_are_needed():
    pt = ["model_000650.pt", "meta_000650.json", "tokenizer.pkl", "token_bytes.pt"]
    assert needed([*pt, "model_000100.pt", "meta_000100.json", "optim_000650.pt", "x/y.pt"]) == sorted(pt)
    parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert needed([*pt, "config.json", "tokenizer.json", *parts]) == sorted(["config.json", "tokenizer.json", *parts])
    assert needed(["config.json", "model.safetensors", *parts[:1]]) == ["config.json", "model.safetensors"]
    assert needed(["config.json", "README.md"]) == []


# ---- programs


def test_chat_cli_and_base_eval_take_them(home, tmp_path, capsys):
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": f"The cat sat on mat {n}. " * 9}) + "\n" for n in range(60)))
    base_eval.main(["--from", str(FILES / "october"), "--eval", "bpb,sample", "--dataset", str(text)])
    report = json.loads((home / "imported/october/eval_000010.json").read_text())
    assert 0 < report["bits_per_byte"]["val"] < 20 and "chat_sft" not in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended, redirect_stdout(io.StringIO()) as out:
        path = str(FILES / "july" / "model_000020.pt")
        chat_cli.main(["--from", path, "-p", "Hello", "--max-tokens", "4", "--temperature", "0"])
    assert ended.value.code == 0 and out.getvalue()


def test_flags_that_contradict_each_other_are_refused(home):
    for flags, words in (
        (AnyModel(from_="a/b", tag="d4"), "--from and --tag each name a model"),
        (AnyModel(from_="a/b", step=4), "--from and --step each name a model"),
        (AnyModel(revision="main"), "--revision belongs to --from"),
    ):
        with pytest.raises(FlagError, match=words):
            flags.place()


def test_reports_go_to_a_folder_named_after_the_model(home):
    for source, name in (("karpathy/nanochat-d32", "nanochat-d32"), (str(FILES / "july/model_000020.pt"), "july")):
        assert AnyModel(from_=source).place() == (home / "imported" / name, None)


def test_without_from_the_flags_are_those_of_every_program(home, capsys):
    flags = AnyModel(tag="starter")
    model, _, meta = flags.load(*flags.place("sft"))
    assert meta["step"] > 0 and model.lm_head.weight.dtype == mx.float32


def test_safetensors_are_read_as_mlx_reads_them(tmp_path):
    arrays = {
        "bf16": mx.random.normal((3, 5)).astype(mx.bfloat16),
        "f16": mx.random.normal((7,)).astype(mx.float16),
        "u32": mx.array([[1, 2**32 - 1]], mx.uint32),
        "one": mx.array(2.5),
        "none": mx.zeros((0, 4)),
        "bool": mx.array([True, False]),
    }
    mx.save_safetensors(str(tmp_path / "a.safetensors"), arrays, {"made": "here"})
    found = load_safetensors(tmp_path / "a.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert mx.array_equal(found[name], array)


def test_names_of_the_compilers_wrapper_are_taken_off():
    assert all(name.startswith("_orig_mod.") for name in load_torch(FILES / "october/model_000010.pt"))
    assert pickle_of({})  # the helper is used above
