"""GPT2026 against a version of its own in NumPy and float64, written from the published description."""

import dataclasses
import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from course_lib.generate.kv_cache import KVCache
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.gpt2026 import GPT2026, GPT2026Config
from course_lib.model.mask import causal_mask

SMALL = GPT2026Config(sequence_len=600, vocab_size=70, n_layer=5, n_head=4, n_kv_head=2, n_embd=48)


def model_of(config=SMALL, seed=1, scale=0.3):
    """A model whose every parameter matters: none is zero, as some are at the start."""
    model, random = GPT2026(config), np.random.default_rng(seed)
    drawn = [
        (name, mx.array(scale * random.standard_normal(array.shape) + (array.ndim == 1), dtype=mx.float32))
        for name, array in tree_flatten(model.parameters())
    ]
    model.update(tree_unflatten(drawn))
    return model


def ids_of(B, T, config=SMALL, seed=0):
    return mx.array(np.random.default_rng(seed).integers(0, config.vocab_size, (B, T)), dtype=mx.int32)


def weights_of(model):
    return {name: np.array(array, dtype=np.float64) for name, array in tree_flatten(model.parameters())}


# ---- the model once more, in NumPy


def norm(x, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def turned(x, base):
    """Rotary positions of (T, H, D): angles -t · base^(-2i/D), halves split."""
    T, _, D = x.shape
    angle = np.arange(T)[:, None] / base ** (np.arange(0, D, 2) / D)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., : D // 2], x[..., D // 2 :]
    return np.concatenate([a * cos + b * sin, b * cos - a * sin], -1)


def logits_in_numpy(w, config, ids):
    """Logits (T, vocab_size) of one text."""
    eps, L, H, K, D = config.norm_eps, config.n_layer, config.n_head, config.n_kv_head, config.n_embd // config.n_head
    T = len(ids)
    e = norm(w["transformer.wte.weight"][ids], eps)
    x = e.copy()
    for t in range(1, T):
        x[t] += w["smear_lambda"][0] * sigmoid(w["smear_gate.weight"][0] @ e[t, :24]) * e[t - 1]
    x0 = x
    short = 128 * math.ceil(config.sequence_len / 4 / 128)
    for i in range(L):
        x = w["resid_lambdas"][i] * x + w["x0_lambdas"][i] * x0
        y, block = norm(x, eps), f"transformer.h.{i}."
        q = (y @ w[block + "attn.c_q.weight"].T).reshape(T, H, D)
        k = (y @ w[block + "attn.c_k.weight"].T).reshape(T, K, D)
        v = (y @ w[block + "attn.c_v.weight"].T).reshape(T, K, D)
        if (L - 1 - i) % 2 == 0:
            gate = 3 * sigmoid(y[:, :12] @ w[block + "attn.ve_gate.weight"].T)  # (T, K)
            v = v + gate[..., None] * w[f"value_embeds.{i}.weight"][ids].reshape(T, K, D)
        q, k = 1.2 * norm(turned(q, 100_000), eps), 1.2 * norm(turned(k, 100_000), eps)
        letter = "L" if i == L - 1 else (config.window_pattern * L)[i]
        window = config.sequence_len if letter == "L" else short
        out = np.zeros((T, H, D))
        for t in range(T):
            first = max(0, t - window)
            for h in range(H):
                g = h // (H // K)
                scores = k[first : t + 1, g] @ q[t, h] / math.sqrt(D)
                p = np.exp(scores - scores.max())
                out[t, h] = p / p.sum() @ v[first : t + 1, g]
        x = x + out.reshape(T, -1) @ w[block + "attn.c_proj.weight"].T
        hidden = np.maximum(norm(x, eps) @ w[block + "mlp.c_fc.weight"].T, 0) ** 2
        x = x + hidden @ w[block + "mlp.c_proj.weight"].T
        if i == L // 2:
            half_way = x
    x = norm(x - w["backout_lambda"][0] * half_way, eps)
    return 15 * np.tanh(x @ w["lm_head.weight"][: config.vocab_size].T / 15)


def loss_in_numpy(w, config, ids, targets):
    total, count = 0.0, 0
    for row, wanted in zip(ids, targets, strict=True):
        logits = logits_in_numpy(w, config, row)
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        trained = wanted >= 0
        total -= log_p[np.arange(len(row)), np.maximum(wanted, 0)][trained].sum()
        count += trained.sum()
    return total / count


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"n_layer": 1},
        {"n_layer": 4, "window_pattern": "L"},
        {"n_layer": 2, "window_pattern": "SSSL", "vocab_size": 64},
        {"n_kv_head": 4, "window_pattern": "LS"},
    ],
)
def test_logits_are_those_of_numpy(changed):
    config = dataclasses.replace(SMALL, **changed)
    model, ids = model_of(config), ids_of(2, 290, config)
    expected = np.stack([logits_in_numpy(weights_of(model), config, np.array(row)) for row in ids])
    ours = np.array(model(ids))
    assert ours.shape == (2, 290, config.vocab_size)
    assert np.abs(ours - expected).max() < 2e-4 * max(1, np.abs(expected).max())


def test_gradients_are_those_of_numpy():
    config = GPT2026Config(sequence_len=140, vocab_size=40, n_layer=3, n_head=2, n_kv_head=1, n_embd=24)
    model, ids = model_of(config), ids_of(1, 136, config)
    targets = mx.where(ids_of(1, 136, config, seed=5) % 3 > 0, ids_of(1, 136, config, seed=3), -1)
    _, gradients = nn.value_and_grad(model, model.loss)(ids, targets)
    gradients, w = dict(tree_flatten(gradients)), weights_of(model)
    assert gradients.keys() == w.keys()
    random = np.random.default_rng(2)
    for name in w:  # along one direction for each parameter
        way, step = random.standard_normal(w[name].shape), 1e-6
        sides = [
            loss_in_numpy(w | {name: w[name] + s * way}, config, np.array(ids), np.array(targets))
            for s in (step, -step)
        ]
        expected, ours = (sides[0] - sides[1]) / (2 * step), (np.array(gradients[name]) * way).sum()
        assert ours == pytest.approx(expected, rel=2e-3, abs=2e-5), name


def test_padding_rows_get_no_gradient():
    model = model_of()
    _, gradients = nn.value_and_grad(model, model.loss)(ids_of(2, 9), ids_of(2, 9, seed=1))
    gradients = dict(tree_flatten(gradients))
    for name in ("lm_head.weight", "transformer.wte.weight", "value_embeds.2.weight"):
        assert gradients[name].shape[0] == 128
        assert not gradients[name][70:].any().item() and gradients[name][:70].any().item()


def test_names_and_shapes_are_nanochats():
    config = GPT2026Config.from_depth(2, vocab_size=100, n_kv_head=1)
    shapes = {name: array.shape for name, array in tree_flatten(GPT2026(config).parameters())}
    expected = {
        "transformer.wte.weight": (128, 128),
        "lm_head.weight": (128, 128),
        "value_embeds.1.weight": (128, 128),
        "transformer.h.1.attn.ve_gate.weight": (1, 12),
        "smear_gate.weight": (1, 24),
        "smear_lambda": (1,),
        "backout_lambda": (1,),
        "resid_lambdas": (2,),
        "x0_lambdas": (2,),
    }
    for i in range(2):
        block = {f"attn.c_{x}.weight": (128, 128) for x in "qkv"} | {"attn.c_proj.weight": (128, 128)}
        block |= {"mlp.c_fc.weight": (512, 128), "mlp.c_proj.weight": (128, 512)}
        expected |= {f"transformer.h.{i}.{name}": shape for name, shape in block.items()}
    assert shapes == expected


def test_the_pattern_of_windows_comes_after_the_sizes():
    config = GPT2026Config(64, 100, 2, 2, 1, 32, "LS", norm_eps=1e-6)
    assert (config.window_pattern, config.norm_eps, config.rope_base) == ("LS", 1e-6, 100_000.0)


def test_depth_gives_the_sizes():
    sizes = {depth: GPT2026Config.from_depth(depth) for depth in (1, 3, 4, 12, 26)}
    assert [(c.n_embd, c.n_head, c.n_kv_head) for c in sizes.values()] == [
        (128, 1, 1),
        (256, 2, 2),
        (256, 2, 2),
        (768, 6, 6),
        (1664, 13, 13),
    ]
    windows = {T: GPT2026Config.from_depth(6, sequence_len=T).windows for T in (2048, 2049, 512, 513, 256, 64)}
    assert windows[2048] == [512, 512, 512, 2048, 512, 2048]
    assert windows[2049][0] == 640 and windows[512][0] == 128 and windows[513][0] == 256
    assert windows[256][0] == 128 and windows[64][:1] == [64]
    assert sizes[12].value_layers == [1, 3, 5, 7, 9, 11] and GPT2026Config.from_depth(3).value_layers == [0, 2]


def test_first_weights():
    config = GPT2026Config.from_depth(6, vocab_size=1000)
    model = GPT2026(config)
    w, d = weights_of(model), config.n_embd
    assert w["transformer.wte.weight"].std() == pytest.approx(0.8, rel=0.02)
    assert w["lm_head.weight"].std() == pytest.approx(0.001, rel=0.02)
    for name in ("transformer.h.0.attn.c_q.weight", "value_embeds.3.weight"):
        assert np.abs(w[name]).max() == pytest.approx(math.sqrt(3 / d), rel=0.01)
        assert w[name].std() == pytest.approx(1 / math.sqrt(d), rel=0.02) and abs(w[name].mean()) < 1e-3
    assert np.abs(w["transformer.h.0.mlp.c_fc.weight"]).max() == pytest.approx(0.4 * math.sqrt(3 / d), rel=0.01)
    assert not any(w[name].any() for name in w if "c_proj" in name)
    assert 0 < w["smear_gate.weight"].min() and w["smear_gate.weight"].max() < 0.02
    assert 0 < w["transformer.h.1.attn.ve_gate.weight"].min() < 0.01
    assert w["resid_lambdas"].tolist() == pytest.approx([1.15, 1.13, 1.11, 1.09, 1.07, 1.05])
    assert w["x0_lambdas"].tolist() == pytest.approx([0.2, 0.17, 0.14, 0.11, 0.08, 0.05])
    assert w["smear_lambda"] == 0 and w["backout_lambda"] == pytest.approx(0.2)
    assert not np.allclose(weights_of(model)["lm_head.weight"][0], w["lm_head.weight"][1])


def test_with_every_idea_at_zero_it_is_the_model_of_2025():
    sizes = {"sequence_len": 64, "vocab_size": 64, "n_layer": 3, "n_head": 2, "n_kv_head": 1, "n_embd": 32}
    old, new = GPT(GPTConfig(**sizes, rope_base=100_000.0)), GPT2026(GPT2026Config(**sizes, window_pattern="L"))
    shared = {name: a for name, a in tree_flatten(model_of(new.config).parameters())}
    shared |= {name: mx.zeros_like(a) for name, a in shared.items() if "lambda" in name or "value_embeds" in name}
    shared["resid_lambdas"] = mx.ones(3)
    new.update(tree_unflatten(list(shared.items())))
    names = {name for name, _ in tree_flatten(old.parameters())}
    old.update(tree_unflatten([(name, shared[name]) for name in names]))
    for block in new.transformer.h:
        block.attn.scale = block.attn.head_dim**-0.5  # no gain
    ids = ids_of(2, 50, new.config)
    assert mx.allclose(old(ids), new(ids), atol=1e-5)


def test_masks():
    assert causal_mask(0, 5, 5) == causal_mask(0, 5, 5, window=4) == "causal" and causal_mask(4, 1, 5, window=4) is None
    seen = np.array(causal_mask(2, 4, 6, window=2))
    expected = [[a - 2 <= b <= a for b in range(6)] for a in range(2, 6)]
    assert (seen == np.array(expected)).all()
    rows = np.array(causal_mask(mx.array([0, 3]), 2, 6, window=1))
    assert rows.shape == (2, 1, 2, 6)
    assert [np.flatnonzero(row).tolist() for row in rows[:, 0].reshape(4, 6)] == [[0], [0, 1], [2, 3], [3, 4]]


@pytest.mark.parametrize("changed", [{"window_pattern": ""}, {"window_pattern": "SX"}, {"n_embd": 16, "n_head": 2}])
def test_numbers_that_make_no_model(changed):
    with pytest.raises(CourseError, match="window_pattern|n_embd"):
        dataclasses.replace(SMALL, **changed)


# ---- with a cache


@pytest.mark.parametrize("chunk", [1, 7, 128, 300, (1, 200, 1, 1, 5, 92)])
def test_cached_is_uncached_for_every_chunk(chunk):
    model, ids = model_of(), ids_of(1, 300)
    whole, cache, parts, start = model(ids), KVCache(SMALL), [], 0
    sizes = chunk if isinstance(chunk, tuple) else [chunk] * 300
    for size in sizes:
        if start < 300:
            parts.append(model(ids[:, start : start + size], cache.layers))
            start += size
    assert mx.abs(mx.concatenate(parts, axis=1) - whole).max().item() < 2e-4


def test_rows_of_different_lengths_share_a_cache():
    model, lengths, T = model_of(), (3, 200, 140, 290), 90
    texts, cache = [ids_of(1, n + T, seed=n) for n in lengths], KVCache(SMALL, rows=0)
    for n, text in zip(lengths, texts, strict=True):
        one = KVCache(SMALL)
        model(text[:, :n], one.layers)
        cache.append(one)
    out = []
    for t in range(T):
        new = mx.concatenate([text[:, n + t : n + t + 1] for n, text in zip(lengths, texts, strict=True)])
        out.append(model(new, cache.layers))
    out = mx.concatenate(out, axis=1)
    for row, (n, text) in enumerate(zip(lengths, texts, strict=True)):
        assert mx.abs(out[row] - model(text)[0, n:]).max().item() < 2e-4
    cache.remove(1)
    assert cache.lengths == [93, 380, 230]


def test_keys_beyond_the_window_are_not_kept():
    config = dataclasses.replace(SMALL, sequence_len=4000, window_pattern="SL")  # a window of 1,024
    cache, heads = KVCache(dataclasses.replace(config, n_layer=2)), (1, 2, 100, 12)
    for _ in range(39):
        for layer in cache.layers[:2]:
            layer.update_and_fetch(mx.ones(heads), mx.ones(heads))
    short, full = cache.layers[:2]
    assert full.keys.shape[2] >= 3900 and short.keys.shape[2] <= 1024 + 512


def test_a_copy_reaches_only_as_far_back_as_keys_are_kept():
    model, ids, cache = model_of(), ids_of(1, 600), KVCache(SMALL)  # a window of 256
    model(ids[:, :590], cache.layers)
    assert cache.reaches(580) and cache.reaches(590) and not cache.reaches(300)
    again = cache.copy(length=580)
    assert mx.abs(model(ids[:, 580:], again.layers) - model(ids)[:, 580:]).max().item() < 2e-4
    with pytest.raises(CourseError, match="window"):
        cache.copy(length=300)
