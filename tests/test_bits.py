"""Weights in fewer bits: by hand as MLX has them, whole models, their sizes, saved and loaded again."""

import json

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from course_lib.generate.engine import Engine
from course_lib.generate.kv_cache import KVCache
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.gpt2026 import GPT2026, GPT2026Config
from course_lib.scripts import convert
from course_lib.train.starter import load_starter
from course_lib.weights.bits import (
    BITS,
    Bits,
    PackedGPT,
    affine_by_hand,
    bytes_of,
    ends_kept,
    in_fewer_bits,
    packed_model,
    quantised_weights,
    with_tables,
)
from course_lib.weights.cache_bits import packed_cache
from course_lib.weights.load import load_pretrained

pytestmark = pytest.mark.usefixtures("float32")

SHARED = {"8": 64, "6": 64, "4": 64, "3": 64, "mxfp4": 32, "nvfp4": 16}  # numbers that share a scale


@pytest.fixture(scope="module")
def starter():
    return load_starter()


def weights_of(model):
    return dict(tree_flatten(model.parameters()))


@given(seed=st.integers(0, 10**6), bits=st.sampled_from([2, 4, 8]), group_size=st.sampled_from([32, 64, 128]))
@settings(max_examples=60)
def test_affine_by_hand_is_mlx_to_the_bit(seed, bits, group_size):
    rng = np.random.default_rng(seed)
    size = rng.choice([1e-9, 1e-3, 1.0, 300.0], size=(9, 1))
    weight = (rng.normal(size=(9, 256)) * size + rng.choice([0, 1], size=(9, 1)) * rng.normal()).astype(np.float32)
    weight[0], weight[1], weight[2], weight[3, ::2] = 0, 3, np.abs(weight[2]), 0
    for mine, theirs in zip(
        affine_by_hand(weight, bits, group_size), mx.quantize(mx.array(weight), group_size, bits), strict=True
    ):
        theirs = np.array(theirs)
        assert mine.dtype == theirs.dtype and mine.tobytes() == theirs.tobytes()


def test_the_number_furthest_from_zero_and_zero_are_kept():
    weight = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    weight[:, 5] = 0
    packed, scales, biases = affine_by_hand(weight)
    back = np.array(mx.dequantize(*map(mx.array, (packed, scales, biases))))
    edge = np.abs(weight).argmax(axis=1)
    rows = np.arange(4)
    np.testing.assert_allclose(back[rows, edge], weight[rows, edge], rtol=1e-6)
    np.testing.assert_allclose(back[:, 5], 0, atol=1e-6)
    steps = np.abs(back - weight) / np.abs(scales)
    assert steps.max() <= 1.01  # at the end that is cut; the others are rounded to the nearest
    assert np.sort(steps, axis=1)[:, :-2].max() <= 0.501


@pytest.mark.parametrize("name", BITS)
def test_a_packed_model_computes_with_the_numbers_that_are_stored(starter, name):
    """The same logits as of a whole model with the unpacked weights."""
    model, tokenizer = starter
    ids = mx.array([tokenizer.encode("How many letters has a word?", bos=True)])
    for bits in (BITS[name], with_tables(BITS[name])):
        packed = in_fewer_bits(model, bits)
        unpacked, layers = {}, weights_of(packed)
        for full, array in layers.items():
            layer, _, kind = full.rpartition(".")
            if kind == "weight":
                unpacked[full] = array
                if f"{layer}.scales" in layers:
                    parts = array, layers[f"{layer}.scales"], layers.get(f"{layer}.biases")
                    unpacked[full] = mx.dequantize(*parts, bits.group_size, bits.bits, bits.mode, dtype=mx.float32)
        whole = GPT(model.config)
        whole.load_weights(list(unpacked.items()))
        assert mx.abs(packed(ids) - whole(ids)).max().item() < 1e-3
        assert mx.abs(packed(ids) - model(ids)).max().item() > 1e-2


@pytest.mark.parametrize("name", BITS)
def test_sizes_are_the_bits_of_a_number_and_its_share_of_the_scale(starter, name):
    model, _ = starter
    bits, whole = BITS[name], weights_of(model)
    packed = weights_of(in_fewer_bits(model, bits))
    blocks = [array for full, array in whole.items() if full.startswith("transformer.h.")]
    numbers = sum(array.size for array in blocks)
    assert bits.group_size == SHARED[name]
    shared = 8 if name.endswith("fp4") else 2 * 32  # the scale, and of affine ones the offset, as exact as the weights
    expected = numbers * (bits.bits + shared / bits.group_size) / 8
    tables = sum(array.nbytes for full, array in whole.items() if not full.startswith("transformer.h."))
    assert sum(array.nbytes for array in packed.values()) == expected + tables
    for full in ("transformer.wte.weight", "lm_head.weight"):
        assert packed[full] is whole[full] or mx.array_equal(packed[full], whole[full])


def test_what_a_recipe_keeps_stays_as_it_is(starter):
    model, _ = starter
    whole, bits = weights_of(model), ends_kept(BITS["4"], model.config.n_layer)
    packed = weights_of(in_fewer_bits(model, bits))
    stay = {full for full in whole if full in packed and packed[full].shape == whole[full].shape}
    ends = {full for full in whole if full.startswith(("transformer.h.0.", "transformer.h.3."))}
    assert stay == ends | {"transformer.wte.weight", "lm_head.weight"}
    assert bytes_of(in_fewer_bits(model, BITS["4"])) < bytes_of(in_fewer_bits(model, bits)) < bytes_of(model)
    tables = weights_of(in_fewer_bits(model, with_tables(bits)))
    stay = {full for full in whole if full in tables and tables[full].shape == whole[full].shape}
    assert stay == ends and tables["lm_head.weight"].dtype == tables["transformer.wte.weight"].dtype == mx.uint32


@pytest.mark.parametrize("name", ["4", "nvfp4"])
def test_a_packed_model_comes_back_from_a_file_to_the_bit(starter, tmp_path, name):
    model, tokenizer = starter
    weights, quantization = quantised_weights(weights_of(model), BITS[name])
    mx.save_safetensors(str(tmp_path / "model.safetensors"), weights)
    back = packed_model(GPT(model.config), mx.load(str(tmp_path / "model.safetensors")), quantization)
    packed = in_fewer_bits(model, BITS[name])
    assert all(mx.array_equal(array, weights_of(back)[full]) for full, array in weights_of(packed).items())
    ids = mx.array([tokenizer.encode("a b c", bos=True)])
    assert mx.array_equal(back(ids), packed(ids))


@pytest.mark.parametrize("flags", [["--bits", "4"], ["--bits", "3", "--tables"], ["--bits", "nvfp4", "--tables"]])
def test_a_folder_for_mlx_lm_comes_back_as_small_as_it_is(starter, tmp_path, flags):
    model, tokenizer = starter
    convert.main(["--tag", "starter", *flags, "--out", str(tmp_path / "packed")])
    back, its_tokenizer, meta = load_pretrained(tmp_path / "packed")
    bits = BITS[flags[1]]
    packed = in_fewer_bits(model, with_tables(bits) if flags[2:] else bits)
    mine, theirs = weights_of(packed), weights_of(back)
    assert mine.keys() == theirs.keys() and all(mx.array_equal(mine[full], theirs[full]) for full in mine)
    assert (back.config, its_tokenizer.fingerprint) == (model.config, tokenizer.fingerprint)
    assert bytes_of(back) == bytes_of(packed) and meta["notes"] == []
    about = json.loads((tmp_path / "packed/config.json").read_text())
    for change in ({"quantization": {}}, {"quantization": {"group_size": 7, "bits": 99}}, {"num_hidden_layers": 10**9}):
        (tmp_path / "packed/config.json").write_text(json.dumps(about | change))
        with pytest.raises(CourseError):
            load_pretrained(tmp_path / "packed")


def test_a_layer_may_have_bits_of_its_own(starter):
    """As in the mixed recipes of mlx-lm."""
    model, tokenizer = starter
    weights, how = quantised_weights(weights_of(model), BITS["4"])
    parts = mx.quantize(model.lm_head.weight, 32, 8)
    weights |= dict(zip(("lm_head.weight", "lm_head.scales", "lm_head.biases"), parts, strict=True))
    mixed = packed_model(PackedGPT(model.config), weights, how | {"lm_head": {"group_size": 32, "bits": 8}})
    ids = mx.array([tokenizer.encode("Once", bos=True)])
    assert mixed.lm_head.bits == 8
    assert mx.abs(mixed(ids) - in_fewer_bits(model, BITS["4"])(ids)).max().item() < 0.2


def test_it_writes_and_is_measured_and_cannot_be_trained(starter):
    model, tokenizer = starter
    packed = in_fewer_bits(model, with_tables(BITS["8"]))
    prompt = tokenizer.encode("Once", bos=True)
    (written,) = Engine(packed, tokenizer).generate_batch([prompt], 12, temperature=0)
    ids = list(prompt)
    for _ in range(len(written.ids)):
        ids.append(packed(mx.array([ids]))[0, -1].argmax().item())
    assert written.ids and ids[len(prompt) :] == written.ids
    inputs, targets = mx.array([ids[:-1]]), mx.array([ids[1:]])
    losses = packed.loss(inputs, targets, reduction="none")
    expected = mx.logsumexp(packed(inputs), -1) - mx.take_along_axis(packed(inputs), targets[..., None], -1)[..., 0]
    assert mx.abs(losses - expected).max().item() < 1e-4
    with pytest.raises(CourseError, match="a model in fewer bits is not trained"):
        packed.loss(inputs, targets, "mean")


def test_the_model_of_july_2026_is_packed_with_its_tables():
    config = GPT2026Config(sequence_len=64, vocab_size=100, n_layer=2, n_head=2, n_kv_head=2, n_embd=64)
    model = GPT2026(config)
    model.lm_head.weight = mx.random.normal(model.lm_head.weight.shape, key=mx.random.key(0))
    packed = in_fewer_bits(model, Bits(8, 32, keep=()))
    assert packed.transformer.wte.weight.dtype == packed.lm_head.weight.dtype == mx.uint32
    ids = mx.arange(20)[None]
    assert packed(ids).shape == (1, 20, 100)
    assert mx.abs(packed(ids) - model(ids)).max().item() < 0.5
    assert mx.array_equal(packed.value_embeds[1].weight, model.value_embeds[1].weight)


def test_what_cannot_be_packed_or_does_not_fit_is_refused_in_a_sentence(starter):
    model, _ = starter
    narrow = GPT(GPTConfig(16, 64, 1, 2, 2, 24))
    with pytest.raises(CourseError, match="no matrix of this model has rows of a multiple of 64 numbers"):
        in_fewer_bits(narrow, BITS["4"])
    weights, quantization = quantised_weights(weights_of(model), BITS["4"])
    with pytest.raises(CourseError, match=r"has \(2048, 128\) for lm_head.weight, the model"):
        packed_model(narrow, weights, quantization)
    del weights["transformer.h.0.attn.c_k.biases"]
    with pytest.raises(CourseError, match="has nothing for transformer.h.0.attn.c_k.biases, the model"):
        packed_model(GPT(model.config), weights, quantization)


# ---- keys and values


def read(model, ids, cache, chunk):
    parts = [model(mx.array([ids[start : start + chunk]]), cache.layers) for start in range(0, len(ids), chunk)]
    return mx.concatenate(parts, axis=1)


@pytest.mark.parametrize(("bits", "share"), [(8, 20 / 64), (4, 12 / 64)])
def test_a_packed_cache_gives_back_what_was_rounded_in_any_chunks(starter, bits, share):
    model, _ = starter
    ids = [n * n % 2039 for n in range(255)]
    whole, packed, again = KVCache(model.config), packed_cache(model.config, bits), packed_cache(model.config, bits)
    expected, logits = read(model, ids, whole, 255), read(model, ids, packed, 255)
    assert packed.nbytes == share * whole.nbytes
    error = mx.abs(logits - expected).mean().item()
    assert 1e-3 < error < {8: 0.1, 4: 1.5}[bits]
    apart = mx.abs(read(model, ids, again, 7) - logits).max().item()  # where a near-tie falls otherwise
    assert apart < 2e-2 * 2 ** (8 - bits)
    layer = packed.layers[0]
    keys = layer.unpack(layer.keys)[:, :, :255]
    rounded = mx.dequantize(*mx.quantize(whole.layers[0].keys[:, :, :255], 32, bits), 32, bits)
    assert mx.abs(keys - rounded).max().item() < 1e-6


def test_a_packed_cache_of_rows_of_different_lengths(starter):
    model, tokenizer = starter
    cache = packed_cache(model.config, 8, rows=2)
    ids = mx.array([[5, 6, 7, 8], [9, 10, 11, 12]])
    model(ids, cache.layers)
    for layer in cache.layers:
        layer.lengths = [4, 2]
    found = model(mx.array([[20], [21]]), cache.layers)[:, -1]
    alone = model(mx.array([[9, 10, 21]]), packed_cache(model.config, 8).layers)[:, -1]
    assert mx.abs(found[1:] - alone).max().item() < 1e-4


def test_a_cache_that_cannot_be_packed_is_refused():
    for bits, n_embd in ((3, 64), (4, 48)):
        with pytest.raises(CourseError, match="expected 4 or 8 bits, and a multiple of 32 numbers"):
            packed_cache(GPTConfig(16, 64, 1, 2, 2, n_embd), bits)
