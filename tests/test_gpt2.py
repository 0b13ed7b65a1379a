"""GPT-2: logits, ids and texts as transformers has them (dev/make_gpt2_data.py wrote them), cached and not."""

import json
import re
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import tokenizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError
from course_lib.scripts import base_eval, chat_cli, chat_web, convert
from course_lib.weights.gpt2 import Transformer
from course_lib.weights.hub import needed
from course_lib.weights.load import load_pretrained
from course_lib.weights.tokenizers import byte_alphabet

END = "<|endoftext|>"
FOLDER = Path(__file__).parent / "data/weights/gpt2"
EXPECTED = np.load(FOLDER / "expected.npz")


def altered(folder, **config):
    """A copy of the folder with another config."""
    shutil.copytree(FOLDER, folder)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | config))
    return folder


def test_logits_are_those_of_transformers(float32):
    model, _, _ = load_pretrained(FOLDER)
    logits = np.array(model(mx.array(EXPECTED["ids"])))[:, ::6]
    assert np.abs(EXPECTED["logits"]).max() > 5
    np.testing.assert_allclose(logits, EXPECTED["logits"], atol=1e-4)


def test_ids_of_texts_are_those_of_transformers_and_come_back():
    _, tokenizer, _ = load_pretrained(FOLDER)
    for text, ids in json.loads((FOLDER / "texts.json").read_text(encoding="utf-8")).items():
        assert tokenizer.encode(text) == ids
        assert tokenizer.decode(ids) == text
    assert tokenizer.decode([tokenizer.bos]) == "<|endoftext|>" and tokenizer.bos == tokenizer.vocab_size - 1


def test_bytes_are_counted_for_each_token_and_none_for_the_end():
    _, tokenizer, _ = load_pretrained(FOLDER)
    lengths = [len(tokenizer.token(n)) for n in range(tokenizer.vocab_size - 1)]
    assert tokenizer.token_bytes.tolist() == [*lengths, 0] and max(lengths) > 1


def test_the_engine_writes_with_its_cache_what_transformers_writes(float32):
    model, tokenizer, _ = load_pretrained(FOLDER)
    engine = Engine(model, tokenizer)
    prompts = [EXPECTED["ids"][0, :length].tolist() for length in (8, 3)]
    written = [row.ids for row in engine.generate_batch(prompts, max_tokens=20, temperature=0)]
    assert written[0] == EXPECTED["greedy"].tolist()
    ids = list(prompts[1])  # the shorter row stood at its own places, beside the longer one
    for _ in range(20):
        ids.append(model(mx.array([ids]))[0, -1].argmax().item())
    assert written[1] == ids[3:]


def test_names_without_the_prefix_masks_and_a_copy_of_the_head_are_read_alike(tmp_path):
    folder = altered(tmp_path / "hub")
    arrays = {
        name.removeprefix("transformer."): array
        for name, array in mx.load(str(folder / "model.safetensors")).items()
        if name != "lm_head.weight"
    }
    arrays["h.0.attn.bias"] = mx.tril(mx.ones((48, 48)))[None, None]
    arrays["lm_head.weight"] = arrays["wte.weight"]
    mx.save_safetensors(str(folder / "model.safetensors"), arrays)
    ids = mx.array(EXPECTED["ids"])
    assert mx.array_equal(load_pretrained(folder)[0](ids), load_pretrained(FOLDER)[0](ids))


def refusal(folder):
    """The sentence with which a folder is refused, before anything large is made."""
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    with pytest.raises(CourseError) as caught:
        load_pretrained(folder)
    assert "\n" not in str(caught.value) and mx.get_peak_memory() < before + 10e6
    return str(caught.value)


NUMBERS = ("n_positions", "vocab_size", "n_layer", "n_head", "n_embd", "layer_norm_epsilon")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value", ["12", True, None, [2], {}, -2, 0, float("nan"), float("inf"), 10**12, 10**40], ids=str
)
def test_numbers_that_are_none_are_refused(tmp_path, name, value):
    said = refusal(altered(tmp_path / "m", **{name: value}))
    assert (
        f"config.json says {name.replace('n_positions', 'sequence_len').replace('layer_norm_epsilon', 'norm_eps')}="
        in said
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_embd": 32}, "n_embd=32 and sequence_len=48, at most 1048576, and the arrays are of (2, 265, 16)"),
        ({"n_layer": 3}, "says n_layer=3"),
        ({"n_layer": 10**11}, "says n_layer=100000000000"),
        ({"vocab_size": 264}, "says n_layer=2, vocab_size=264"),
        ({"n_positions": 1 << 30}, "sequence_len=1073741824, at most 1048576"),
        ({"n_positions": 1 << 20}, "for transformer.wpe.weight, the model (1048576, 16)"),
        ({"n_head": 3}, "n_embd=16 cannot be shared out to n_head=3 heads"),
        ({"activation_function": "relu"}, "says activation_function='relu', and GPT-2 has 'gelu_new'"),
        ({"scale_attn_weights": False}, "says scale_attn_weights=False"),
        ({"scale_attn_by_inverse_layer_idx": True}, "says scale_attn_by_inverse_layer_idx=True"),
        ({"add_cross_attention": True}, "says add_cross_attention=True"),
        ({"tie_word_embeddings": False}, "says tie_word_embeddings=False"),
        ({"quantization": {"bits": 4}}, "says quantization="),
        ({"model_type": "gpt_neo"}, "a model of type 'gpt_neo'; expected nanochat's or GPT-2"),
        ({"model_type": ["gpt2"]}, "a model of type ['gpt2']"),
    ],
    ids=str,
)
def test_another_model_is_refused_in_a_sentence(tmp_path, changes, words):
    assert words in refusal(altered(tmp_path / "m", **changes))


def test_damaged_and_missing_files_are_refused_in_a_sentence(tmp_path):
    for number, damage in enumerate((b"[1]", b"{", b'{"model_type": "gpt2", "model_type": "gpt2"}')):
        folder = altered(tmp_path / f"damaged{number}")
        (folder / "config.json").write_bytes(damage)
        assert "is damaged" in refusal(folder)
    folder = altered(tmp_path / "none")
    (folder / "model.safetensors").unlink()
    assert "there is no model.safetensors" in refusal(folder)


def with_arrays(folder, **changes):
    """The folder with some arrays more, others, or (None) fewer."""
    path = altered(folder) / "model.safetensors"
    arrays = mx.load(str(path))
    mx.eval(arrays)
    for name, array in changes.items():
        name = name.replace("__", ".")
        arrays = {own: value for own, value in arrays.items() if own != name} | (
            {name: array} if array is not None else {}
        )
    mx.save_safetensors(str(path), arrays)
    return folder


def test_arrays_that_are_not_its_own_are_refused(tmp_path):
    h = "transformer__h__1__"
    for number, (name, array, words) in enumerate(
        (
            (h + "mlp__c_fc__weight", None, "has nothing for transformer.h.1.mlp.c_fc.weight, the model (64, 16)"),
            (h + "mlp__c_fc__weight", mx.zeros((16, 32)), "has (32, 16) for transformer.h.1.mlp.c_fc.weight"),
            (h + "extra", mx.zeros(3), "has (3,) for transformer.h.1.extra, the model nothing"),
            ("transformer__wte__weight", None, "the arrays are of (2,)"),
            ("transformer__wpe__weight", mx.zeros((16, 16)), "for transformer.wpe.weight"),
            ("lm_head__weight", mx.zeros((265, 16)), "has a head that is not its table of tokens"),
        )
    ):
        assert words in refusal(with_arrays(tmp_path / str(number), **{name: array}))


def test_parts_in_several_files_and_16_bits_are_read(tmp_path, float32):
    folder = altered(tmp_path / "m")
    arrays = {name: array.astype(mx.float16) for name, array in mx.load(str(folder / "model.safetensors")).items()}
    mx.eval(arrays)
    (folder / "model.safetensors").unlink()
    names = sorted(arrays)
    where = {name: f"model-{n % 2}.safetensors" for n, name in enumerate(names)}
    for part in set(where.values()):
        mx.save_safetensors(str(folder / part), {name: arrays[name] for name in names if where[name] == part})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    model, _, meta = load_pretrained(folder)
    assert model.head_weight.dtype == mx.float16 and meta["form"] == "GPT-2"
    logits = np.array(model(mx.array(EXPECTED["ids"])))[:, ::6]
    np.testing.assert_allclose(logits, EXPECTED["logits"], atol=0.05)


# ---- its tokenizer


def tokenizer_json(folder):
    """tokenizer.json of vocab.json and merges.txt, as tokenizers writes it."""
    peer = tokenizers.Tokenizer(BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    peer.pre_tokenizer, peer.decoder = ByteLevel(add_prefix_space=False), tokenizers.decoders.ByteLevel()
    peer.add_special_tokens([END])
    peer.save(str(folder / "tokenizer.json"))
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    return peer


def test_the_tokenizer_may_be_in_tokenizer_json(tmp_path):
    folder = altered(tmp_path / "m")
    peer, tokenizer = tokenizer_json(folder), load_pretrained(folder)[1]
    for text in json.loads((FOLDER / "texts.json").read_text(encoding="utf-8")):
        assert tokenizer.encode(text) == peer.encode(text).ids
    about = json.loads((folder / "tokenizer.json").read_text())
    del about["model"]["type"]  # as in the first files of this form
    (folder / "tokenizer.json").write_text(json.dumps(about))
    assert load_pretrained(folder)[1].mergeable_ranks == tokenizer.mergeable_ranks
    about["added_tokens"] += [{"content": "<|im_start|>", "id": 265}]
    (folder / "tokenizer.json").write_text(json.dumps(about))
    assert "expected <|endoftext|> alone, after the 264 others" in refusal(folder)
    (folder / "tokenizer.json").unlink()
    assert "no tokenizer.json, nor vocab.json with merges.txt, in" in refusal(folder)


VOCABULARY = json.loads((FOLDER / "vocab.json").read_text(encoding="utf-8"))
MERGES = (FOLDER / "merges.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("vocabulary", "merges", "words"),
    [
        (
            {name: n for name, n in VOCABULARY.items() if name != "A"} | {END: 263},
            MERGES,
            "these 263 ranks make no tokenizer",
        ),
        (VOCABULARY | {"A": VOCABULARY["B"]}, MERGES, "these 264 ranks make no tokenizer"),
        (VOCABULARY | {"A": "34"}, MERGES, "ranks that are no whole numbers"),
        (VOCABULARY | {"": 265}, MERGES, "tokens that are no bytes"),
        (VOCABULARY | {"猫": 265}, MERGES, "vocab.json is damaged"),
        ({name: n for name, n in VOCABULARY.items() if name[0] != "<"}, MERGES, "expected <|endoftext|> alone"),
        (VOCABULARY | {END: 7}, MERGES, "expected <|endoftext|> alone"),
        (VOCABULARY | {"zzzz": 264, END: 265}, MERGES, "a token that its merges do not reach"),
        (VOCABULARY, "#version: 0.2\n", "a token that its merges do not reach"),
        (VOCABULARY, "\n".join(reversed(MERGES.split("\n"))), "merges that do not stand in the order"),
        (byte_alphabet() | {END: 256}, "", "has 257 ids and the model 265"),
    ],
    ids=range(11),
)
def test_a_vocabulary_that_is_not_the_models_is_refused(tmp_path, vocabulary, merges, words):
    folder = altered(tmp_path / "m")
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    assert words in refusal(folder)


def test_a_letter_that_stands_twice_is_refused(tmp_path):
    folder = altered(tmp_path / "m")
    (folder / "vocab.json").write_text('{"A": 32, ' + json.dumps(VOCABULARY)[1:])
    assert "a name stands twice" in refusal(folder)


# ---- programs


@pytest.fixture
def even(tmp_path):
    """A GPT-2 of bytes that finds all 257 tokens alike likely, whatever it reads."""
    folder = altered(tmp_path / "even", vocab_size=257)
    arrays = {name: mx.zeros(array.shape) for name, array in mx.load(str(folder / "model.safetensors")).items()}
    arrays = {
        name: array[:257] if ".wte." in name else array for name, array in arrays.items() if "lm_head" not in name
    }
    mx.save_safetensors(str(folder / "model.safetensors"), arrays)
    (folder / "vocab.json").write_text(json.dumps(byte_alphabet() | {END: 256}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def test_base_eval_measures_it_and_reads_no_position_that_it_has_not(even, home, tmp_path, monkeypatch):
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": f"The cat sat on mat {n}. " * 9}) + "\n" for n in range(60)))
    read, places = Transformer.__call__, []

    def watched(self, ids, caches=None):
        places.append((0 if caches is None else caches[0].offset) + ids.shape[1])
        return read(self, ids, caches)

    monkeypatch.setattr(Transformer, "__call__", watched)
    base_eval.main(["--from", str(even), "--max-per-task", "2", "--split-tokens", "2000", "--dataset", str(text)])
    report = json.loads((home / "imported/even/eval_000000.json").read_text())
    assert abs(report["bits_per_byte"]["val"] - np.log2(257)) < 1e-4  # each token is a byte, and <|endoftext|> none
    assert len(report["core"]["tasks"]) > 1 and len(report["samples"]) == 6
    assert max(places) == 48  # of positions, and never one more


def test_the_engine_ends_where_its_positions_end(float32):
    model, tokenizer, _ = load_pretrained(FOLDER)
    prompt = EXPECTED["ids"][0, :8].tolist()
    (row,) = Engine(model, tokenizer).generate_batch([prompt], max_tokens=100, temperature=0)
    assert row.finish_reason == "sequence_len" and len(row.ids) == 48 - 8 + 1
    ids = list(prompt)
    for token in row.ids:
        assert token == model(mx.array([ids]))[0, -1].argmax().item()
        ids.append(token)


def test_losses_are_those_of_the_logits_and_it_is_not_trained(float32):
    model, _, _ = load_pretrained(FOLDER)
    ids = mx.array(EXPECTED["ids"])
    logits = np.array(model(ids[:, :-1]), np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    truth = -np.log(np.take_along_axis(chances, np.array(ids[:, 1:, None]), -1))[..., 0]
    np.testing.assert_allclose(np.array(model.loss(ids[:, :-1], ids[:, 1:], "none")), truth, atol=1e-4)
    with pytest.raises(CourseError, match="GPT-2 is not trained here"):
        model.loss(ids[:, :-1], ids[:, 1:], "mean")


@pytest.mark.parametrize(
    ("program", "flags", "words"),
    [
        (chat_cli, ["-p", "Hello"], "is GPT-2, which has no tokens for turns .* measure this one with base_eval"),
        (chat_web, ["--port", "0"], "is GPT-2, which has no tokens for turns"),
        (convert, ["--to", "nanochat"], "is GPT-2, and convert writes models of nanochat's design; give its folder to"),
    ],
)
def test_programs_for_chat_models_refuse_it_in_a_sentence(home, tmp_path, capsys, program, flags, words):
    out = ["--out", str(tmp_path / "out")] if program is convert else []
    with pytest.raises(SystemExit) as ended:
        program.main(["--from", str(FOLDER), *flags, *out])
    said = capsys.readouterr().err
    assert ended.value.code and re.search(words, said) and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_of_the_hubs_files_those_of_one_program_are_needed():
    files = ["config.json", "merges.txt", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
    others = (
        "64.tflite 64-8bits.tflite flax_model.msgpack pytorch_model.bin rust_model.ot tf_model.h5 README.md".split()
    )
    onnx = ["onnx/config.json", "onnx/decoder_model.onnx", "onnx/vocab.json", "onnx/model.safetensors"]
    assert needed([*files, *others, *onnx]) == files
