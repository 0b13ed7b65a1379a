"""GPT-2: logits, ids and texts as transformers has them (dev/make_gpt2_data.py wrote them), cached and not."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError
from course_lib.weights.gpt2 import load_gpt2

FOLDER = Path(__file__).parent / "data/weights/gpt2"
EXPECTED = np.load(FOLDER / "expected.npz")


def altered(folder, **config):
    """A copy of the folder with another config."""
    shutil.copytree(FOLDER, folder)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | config))
    return folder


def test_logits_are_those_of_transformers(float32):
    model, _ = load_gpt2(FOLDER)
    logits = np.array(model(mx.array(EXPECTED["ids"])))[:, ::6]
    assert np.abs(EXPECTED["logits"]).max() > 5
    np.testing.assert_allclose(logits, EXPECTED["logits"], atol=1e-4)


def test_ids_of_texts_are_those_of_transformers_and_come_back():
    _, tokenizer = load_gpt2(FOLDER)
    for text, ids in json.loads((FOLDER / "texts.json").read_text(encoding="utf-8")).items():
        assert tokenizer.encode(text) == ids
        assert tokenizer.decode(ids) == text
    assert tokenizer.decode([tokenizer.bos]) == "<|endoftext|>" and tokenizer.bos == tokenizer.vocab_size - 1


def test_the_engine_writes_with_its_cache_what_transformers_writes(float32):
    model, tokenizer = load_gpt2(FOLDER)
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
    assert mx.array_equal(load_gpt2(folder)[0](ids), load_gpt2(FOLDER)[0](ids))


def test_another_model_and_damaged_files_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(CourseError, match="activation_function='relu', GPT-2 has 'gelu_new'; take another"):
        load_gpt2(altered(tmp_path / "relu", activation_function="relu"))
    for number, absurd in enumerate(({"n_embd": 32}, {"n_layer": 10**12}, {"n_positions": 10**12})):
        with pytest.raises(CourseError, match="config.json of .* says .* its weights have 2 and"):
            load_gpt2(altered(tmp_path / f"absurd{number}", **absurd))
    for number, damage in enumerate((b"{}", b"[1]", b"{")):
        folder = altered(tmp_path / f"damaged{number}")
        (folder / "config.json").write_bytes(damage)
        with pytest.raises(CourseError, match="is damaged"):
            load_gpt2(folder)
    with pytest.raises(CourseError, match="there is no .*nowhere/config.json"):
        load_gpt2(tmp_path / "nowhere")
