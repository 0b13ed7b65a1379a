"""The GPT is nanochat's: names, counts, logits; its fused loss is the naive one, and what cannot work is refused."""

import gc
import math
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models import nanochat as peer
from mlx_lm.models.cache import KVCache

from course_lib import backend
from course_lib.evaluate.scoring import ScoredSequence, scored_logits
from course_lib.generate import kv_cache as engine_cache
from course_lib.generate.rows import next_logits
from course_lib.host.errors import CourseError
from course_lib.model import loss as chunked
from course_lib.model import sizes
from course_lib.model.gpt import GPT, GPTConfig, init_weights
from course_lib.model.head import capped_logits
from course_lib.model.refusals import check_ids
from course_lib.model.sizes import count_parameters, estimate_memory, flops_per_token

pytestmark = pytest.mark.usefixtures("float32")

TINY = dict(sequence_len=24, vocab_size=37, n_layer=2, n_head=4, n_kv_head=4, n_embd=32)


def random_model(config=None, spread=None, seed=1, recompute=False, **sizes):
    """Every matrix random, also those that start at zero; spread: as at the start of training unless given."""
    model = GPT(config or GPTConfig(**TINY | sizes), recompute)
    keys = iter(mx.random.split(mx.random.key(seed), 1000))
    weights = [
        (name, mx.random.normal(a.shape, key=next(keys)) * (spread or (1 if "wte" in name else a.shape[1] ** -0.5)))
        for name, a in tree_flatten(model.parameters())
    ]
    model.update(tree_unflatten(weights))
    return model


def random_ids(model, shape=(3, 9), seed=2, ignored=0.0):
    """Ids of the model, of which a part `ignored` is -1."""
    keys = mx.random.split(mx.random.key(seed), 2)
    ids = mx.random.randint(0, model.config.vocab_size, shape, key=keys[0])
    return mx.where(mx.random.uniform(shape=shape, key=keys[1]) < ignored, -1, ids)


def plain_logits(xp, weights, ids, config):
    """The same model from the weights by name, spelled out; xp: NumPy (float64) or MLX (differentiable)."""
    T, D = ids.shape[1], config.n_embd // config.n_head
    angle = xp.arange(T)[:, None] * (config.rope_base ** (-xp.arange(0, D, 2) / D))[None]  # (T, D/2)
    cos, sin = xp.cos(angle), xp.sin(angle)

    def norm(x):
        return x / xp.sqrt((x * x).mean(-1, keepdims=True) + config.norm_eps)

    def turn(x):
        a, b = x[..., : D // 2], x[..., D // 2 :]
        return norm(xp.concatenate([a * cos + b * sin, b * cos - a * sin], -1))

    def heads(x, count):
        x = x.reshape(*ids.shape, count, D).transpose(0, 2, 1, 3)
        return xp.repeat(x, config.n_head // count, 1)

    x = norm(weights["transformer.wte.weight"][ids])
    for n in range(config.n_layer):
        w = {name[len(f"transformer.h.{n}.") : -7]: a for name, a in weights.items() if f".h.{n}." in name}
        y = norm(x)
        q = turn(heads(y @ w["attn.c_q"].T, config.n_head))
        k = turn(heads(y @ w["attn.c_k"].T, config.n_kv_head))
        v = heads(y @ w["attn.c_v"].T, config.n_kv_head)
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(D)
        exp = xp.exp(scores) * xp.tril(xp.ones((T, T)))
        y = (exp / exp.sum(-1, keepdims=True)) @ v
        x = x + y.transpose(0, 2, 1, 3).reshape(*ids.shape, -1) @ w["attn.c_proj"].T
        x = x + xp.maximum(norm(x) @ w["mlp.c_fc"].T, 0) ** 2 @ w["mlp.c_proj"].T
    return config.softcap * xp.tanh(norm(x) @ weights["lm_head.weight"].T / config.softcap)


def plain_loss(weights, ids, targets, config, reduction="mean"):
    logits = plain_logits(mx, weights, ids, config)
    log_probs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    losses = -mx.take_along_axis(log_probs, mx.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    losses = mx.where(targets >= 0, losses, 0)
    counted = mx.maximum((targets >= 0).sum(), 1)
    return {"mean": losses.sum() / counted, "sum": losses.sum(), "none": losses}[reduction]


def weights_of(model):
    return dict(tree_flatten(model.parameters()))


def gradients_of(model, function):
    """Value and gradients by name of function() with respect to the weights of the model."""
    value, gradients = nn.value_and_grad(model, function)()
    return value, dict(tree_flatten(gradients))


def assert_close(ours, expected, tolerance):
    """Each array within `tolerance` of the largest number of the expected one."""
    assert ours.keys() == expected.keys()
    for name, array in expected.items():
        error = mx.abs(ours[name] - array).max().item() / max(mx.abs(array).max().item(), 1e-30)
        assert error <= tolerance, f"{name}: {error}"


# ---- the model


def peer_of(model):
    c = model.config
    sizes = dict(hidden_size=c.n_embd, num_hidden_layers=c.n_layer, num_attention_heads=c.n_head)
    sizes |= dict(num_key_value_heads=c.n_kv_head, vocab_size=c.vocab_size, intermediate_size=4 * c.n_embd)
    other = peer.Model(peer.ModelArgs(**sizes))
    other.load_weights(tree_flatten(model.parameters()), strict=True)
    return other


@pytest.mark.parametrize("n_kv_head", [4, 2, 1])
@pytest.mark.parametrize("T", [1, 2, 24])
def test_logits_are_those_of_mlx_lm(n_kv_head, T):
    for spread in (None, 0.3):
        model = random_model(n_kv_head=n_kv_head, n_layer=3, spread=spread)
        ids = random_ids(model, (2, T))
        ours, theirs = model(ids), peer_of(model)(ids)
        assert ours.dtype == mx.float32 and ours.shape == (2, T, 37)
        assert mx.abs(theirs).max() > 1 and mx.abs(ours - theirs).max() < 2e-5


@pytest.mark.parametrize("depth, n_kv_head", [(1, None), (2, None), (3, 1), (4, 1), (4, None), (5, None), (6, 3)])
def test_logits_of_every_depth_are_those_of_mlx_lm(depth, n_kv_head):
    model = random_model(GPTConfig.from_depth(depth, vocab_size=300, sequence_len=40, n_kv_head=n_kv_head))
    ids = random_ids(model, (2, 40))
    assert mx.abs(model(ids) - peer_of(model)(ids)).max() < 2e-5


@pytest.mark.parametrize("options", [{}, {"n_kv_head": 2}, {"n_kv_head": 1, "norm_eps": 0.1}, {"rope_base": 50.0}])
def test_logits_are_those_of_a_float64_model_in_numpy(options):
    model = random_model(softcap=3.0, **options)
    ids = random_ids(model, (2, 24))
    weights = {name: np.array(array, dtype=np.float64) for name, array in weights_of(model).items()}
    expected = plain_logits(np, weights, np.array(ids), model.config)
    np.testing.assert_allclose(np.array(model(ids)), expected, atol=2e-5)


class Halved(GPT):
    """A model with another head."""

    def head(self, x):
        return super().head(x) / 2


def test_the_head_is_the_last_step_of_the_model_in_training_in_writing_and_in_scoring():
    plain, halved = random_model(), Halved(GPTConfig(**TINY))
    halved.update(plain.parameters())
    ids = random_ids(plain, (1, 9))
    whole = plain(ids)
    for logits_of, expected in (
        (lambda model: model(ids), whole),
        (lambda model: model.head(model.transformer(ids)), whole),
        (lambda model: next_logits(model, ids, engine_cache.KVCache(model.config)), whole[:, -1]),
        (lambda model: scored_logits(model, [ScoredSequence(ids[0].tolist(), 4)], 0), whole[0, 3:8]),
    ):
        logits = logits_of(plain)
        assert logits.dtype == mx.float32 and mx.allclose(logits, expected, atol=1e-5)
        assert mx.array_equal(logits_of(halved), logits / 2)
    assert mx.array_equal(plain.head(plain.transformer(ids)), whole)


@pytest.mark.parametrize("recompute", [False, True])
def test_weights_have_nanochats_names_and_nothing_else_before_and_after_a_step(recompute):
    model = random_model(n_kv_head=2, recompute=recompute)
    shapes = {"transformer.wte.weight": (37, 32), "lm_head.weight": (37, 32)}
    for n in range(2):
        shapes |= {
            f"transformer.h.{n}.attn.c_q.weight": (32, 32),
            f"transformer.h.{n}.attn.c_k.weight": (16, 32),
            f"transformer.h.{n}.attn.c_v.weight": (16, 32),
            f"transformer.h.{n}.attn.c_proj.weight": (32, 32),
            f"transformer.h.{n}.mlp.c_fc.weight": (128, 32),
            f"transformer.h.{n}.mlp.c_proj.weight": (32, 128),
        }
    ids = random_ids(model)

    def check():
        for arrays in (model.parameters(), model.trainable_parameters()):
            assert {name: array.shape for name, array in tree_flatten(arrays)} == shapes
            assert all(array.dtype == mx.float32 for _, array in tree_flatten(arrays))

    check()
    mx.eval(model(ids))
    check()
    before, (loss, gradients) = model.loss(ids, ids), nn.value_and_grad(model, model.loss)(ids, ids)
    mlx.optimizers.SGD(1e-2).update(model, gradients)
    check()
    assert model.loss(ids, ids) < before == loss


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_changing_a_token_never_changes_logits_before_it(data):
    model = random_model(n_kv_head=data.draw(st.sampled_from([1, 2, 4])), n_layer=1, spread=0.3)
    T = data.draw(st.integers(2, 12))
    ids = data.draw(st.lists(st.integers(0, 36), min_size=T, max_size=T))
    place = data.draw(st.integers(1, T - 1))
    changed = list(ids)
    changed[place] = (ids[place] + data.draw(st.integers(1, 36))) % 37
    a, b = model(mx.array([ids]))[0], model(mx.array([changed]))[0]
    assert mx.array_equal(a[:place], b[:place])
    assert not mx.allclose(a[place], b[place], atol=1e-4)


@pytest.mark.parametrize("n_kv_head", [4, 1])
@pytest.mark.parametrize("parts", [[10, 1, 13], [1] * 24, [24], [23, 1]])
def test_decoding_with_a_cache_equals_the_whole_pass(n_kv_head, parts):
    model = random_model(n_kv_head=n_kv_head)
    ids = random_ids(model, (2, 24))
    caches, ends = [KVCache() for _ in range(2)], np.cumsum(parts)
    out = [model(ids[:, end - size : end], caches) for size, end in zip(parts, ends, strict=True)]
    assert mx.abs(mx.concatenate(out, axis=1) - model(ids)).max() < 2e-5
    assert [cache.offset for cache in caches] == [24, 24]


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_extreme_weights_give_finite_capped_logits_losses_and_gradients(reduction):
    model = random_model()
    model.update(tree_unflatten([(name, 1000 * a) for name, a in weights_of(model).items()]))
    ids = random_ids(model)
    loss, gradients = gradients_of(model, lambda: model.loss(ids, ids, reduction).mean())
    assert 14.9 < mx.abs(model(ids)).max() <= 15
    assert 0 <= loss.item() < 31 and all(mx.isfinite(a).all() for a in gradients.values())


# ---- the start of training


@pytest.mark.parametrize("vocab_size", [37, 4096])
def test_the_first_loss_is_the_log_of_the_vocabulary(vocab_size):
    model = GPT(GPTConfig.from_depth(2, vocab_size=vocab_size, sequence_len=16))
    ids = random_ids(model, (2, 16))
    for reduction in ("mean", "none"):
        assert model.loss(ids, ids, reduction).mean().item() == pytest.approx(math.log(vocab_size), abs=1e-5)


def test_starting_values():
    model = GPT(GPTConfig(sequence_len=8, vocab_size=700, n_layer=2, n_head=4, n_kv_head=1, n_embd=192))
    for name, array in weights_of(model).items():
        expected = 192**-0.5  # fan_in of all but c_proj; c_fc is taller than wide, c_q square
        if "wte" in name:
            expected = 1
        if "c_k" in name or "c_v" in name:
            expected = 192**-0.5 * math.sqrt(48 / 192)
        if "c_proj" in name or "lm_head" in name:
            assert not array.any(), name
        else:
            assert mx.std(array).item() == pytest.approx(expected, rel=0.03), name
            assert abs(mx.mean(array).item()) < 0.05 * expected, name


def test_starting_values_come_from_the_seed_alone():
    a, b, c = (GPT(GPTConfig(**TINY)) for _ in range(3))
    mx.random.seed(99)
    init_weights(b, seed=0)
    init_weights(c, seed=1)
    a, b, c = (weights_of(model) for model in (a, b, c))
    drawn = [name for name, array in a.items() if array.any()]
    assert len(drawn) == 1 + 2 * 4
    assert all(mx.array_equal(a[name], b[name]) for name in a)
    assert not any(mx.allclose(a[name], c[name], atol=1e-3) for name in drawn)
    first = [a[f"transformer.h.{n}.attn.{matrix}.weight"] for n in (0, 1) for matrix in ("c_q", "c_k", "c_v")]
    assert not any(mx.allclose(x, y, atol=1e-3) for n, x in enumerate(first) for y in first[:n])


def test_first_steps_move_the_head_then_the_outputs_then_the_rest():
    model = GPT(GPTConfig(**TINY))
    optimizer, ids = mlx.optimizers.SGD(0.1), random_ids(model)
    moved = []
    for _ in range(3):
        gradients = nn.value_and_grad(model, model.loss)(ids, ids)[1]
        moved.append({name for name, array in tree_flatten(gradients) if array.any()})
        optimizer.update(model, gradients)
    assert moved[0] == {"lm_head.weight"}
    assert moved[1] == {name for name in weights_of(model) if "c_proj" in name or "wte" in name} | moved[0]
    assert moved[2] == set(weights_of(model))


# ---- the loss


@pytest.mark.parametrize("n_kv_head", [4, 2, 1])
@pytest.mark.parametrize("at_once", [1, 37, 4 * 37, 5 * 37 + 36, 27 * 37, 1 << 24])  # rows: 1, 1, 4, 5, all, all
def test_loss_and_gradients_equal_automatic_differentiation_of_the_plain_model(n_kv_head, at_once, monkeypatch):
    monkeypatch.setattr(chunked, "logits_at_once", lambda: at_once)
    ids = random_ids(random_model())
    for spread, recompute in ((None, False), (0.3, False), (None, True)):
        model = random_model(n_kv_head=n_kv_head, spread=spread, recompute=recompute)
        targets = random_ids(model, seed=3, ignored=0.3)
        assert 0 < (targets < 0).sum().item() < 20
        for reduction in ("mean", "sum", "none"):
            importance = mx.random.uniform(shape=ids.shape, key=mx.random.key(4)) if reduction == "none" else 3.0

            def ours(reduction=reduction, importance=importance, model=model, targets=targets):
                return (importance * model.loss(ids, targets, reduction)).sum()

            def plain(weights, reduction=reduction, importance=importance, model=model, targets=targets):
                return (importance * plain_loss(weights, ids, targets, model.config, reduction)).sum()

            loss, gradients = gradients_of(model, ours)
            expected, expected_gradients = mx.value_and_grad(plain)(weights_of(model))
            assert loss.dtype == mx.float32 and loss.item() == pytest.approx(expected.item(), rel=1e-5)
            assert_close(gradients, expected_gradients, 1e-4)


def test_the_loss_can_be_one_term_of_a_sum():
    model = random_model()
    ids, targets = random_ids(model), random_ids(model, seed=3)

    def ours():
        return 3 * model.loss(ids, targets) + mx.square(model(ids)).mean() - model.loss(targets, ids, "sum") / 7

    def plain(weights):
        squares = mx.square(plain_logits(mx, weights, ids, model.config)).mean()
        a, b = ((ids, targets), (targets, ids))
        c = model.config
        return 3 * plain_loss(weights, *a, c) + squares - plain_loss(weights, *b, c, "sum") / 7

    loss, gradients = gradients_of(model, ours)
    expected, expected_gradients = mx.value_and_grad(plain)(weights_of(model))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_close(gradients, expected_gradients, 1e-4)


def test_losses_of_single_targets():
    model = random_model()
    ids, targets = random_ids(model), random_ids(model, seed=3, ignored=0.3)
    losses = model.loss(ids, targets, "none")
    assert losses.shape == (3, 9)
    np.testing.assert_allclose(losses, plain_loss(weights_of(model), ids, targets, model.config, "none"), atol=1e-5)
    assert all(
        (loss == 0) == (t < 0) for loss, t in zip(losses.flatten().tolist(), targets.flatten().tolist(), strict=True)
    )
    assert model.loss(ids, targets).item() == pytest.approx(losses.sum().item() / (targets >= 0).sum().item())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_without_a_target_loss_and_gradients_are_zero(reduction):
    model = random_model()
    ids = random_ids(model)
    loss, gradients = gradients_of(model, lambda: model.loss(ids, mx.full(ids.shape, -1), reduction).sum())
    assert loss.item() == 0 and not any(array.any() for array in gradients.values())  # nan would be "any"


@pytest.mark.parametrize("dtype", [mx.uint8, mx.uint16, mx.int64, mx.uint32])
def test_ids_of_any_integer_type(dtype):
    model = random_model()
    ids = random_ids(model)
    expected = gradients_of(model, lambda: model.loss(ids, ids))
    loss, gradients = gradients_of(model, lambda: model.loss(ids.astype(dtype), ids.astype(dtype)))
    assert loss.item() == expected[0].item()
    assert_close(gradients, expected[1], 1e-6)


@pytest.mark.slow
def test_compiled_and_plain_steps_agree(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where MLX keeps compiled kernels on a CPU
    model = random_model(n_layer=1)
    ids, targets = random_ids(model), random_ids(model, seed=3, ignored=0.3)
    step = nn.value_and_grad(model, model.loss)
    compiled = mx.compile(step, inputs=model.state, outputs=model.state)
    for _ in range(2):
        (loss, gradients), (expected, expected_gradients) = compiled(ids, targets), step(ids, targets)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert_close(dict(tree_flatten(gradients)), dict(tree_flatten(expected_gradients)), 1e-5)
        mlx.optimizers.SGD(0.1).update(model, expected_gradients)


def test_in_bfloat16_weights_gradients_logits_and_loss_stay_float32(monkeypatch):
    model = random_model(n_kv_head=2)
    ids, targets = random_ids(model), random_ids(model, seed=3, ignored=0.3)
    logits, (loss, gradients) = model(ids), gradients_of(model, lambda: model.loss(ids, targets))
    mx.eval(logits, loss, gradients)
    monkeypatch.setenv("COURSE_DTYPE", "bfloat16")
    monkeypatch.setattr(chunked, "logits_at_once", lambda: 5 * 37)
    assert model.transformer(ids).dtype == mx.bfloat16
    low_logits = model(ids)
    low_loss, low_gradients = gradients_of(model, lambda: model.loss(ids, targets))
    assert low_logits.dtype == low_loss.dtype == model.loss(ids, targets, "none").dtype == mx.float32
    assert all(a.dtype == mx.float32 for a in [*low_gradients.values(), *weights_of(model).values()])
    error = mx.abs(low_logits - logits).max().item()
    assert 1e-4 < error < 0.2, "0: it did not compute in bfloat16"
    assert low_loss.item() == pytest.approx(loss.item(), rel=0.01)
    assert_close(low_gradients, gradients, 0.1)


# ---- memory


def peak_bytes(function):
    """The most that was in use during function(), beyond what was there before."""
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(function())
    return mx.get_peak_memory() - before


@pytest.mark.slow
def test_recomputation_gives_the_same_for_less_memory():
    config = GPTConfig(sequence_len=256, vocab_size=64, n_layer=6, n_head=2, n_kv_head=1, n_embd=64)
    plain, again = random_model(config), random_model(config, recompute=True)
    ids = random_ids(plain, (4, 256))
    loss, gradients = gradients_of(plain, lambda: plain.loss(ids, ids))
    loss_again, gradients_again = gradients_of(again, lambda: again.loss(ids, ids))
    assert loss_again.item() == pytest.approx(loss.item(), rel=1e-6)
    assert_close(gradients_again, gradients, 1e-5)
    most, least = (peak_bytes(lambda m=m: nn.value_and_grad(m, m.loss)(ids, ids)) for m in (plain, again))
    assert least < 0.6 * most


@pytest.mark.parametrize(
    "kind, gigabytes, megabytes",
    [("cpu", 64, 64), ("metal", 8, 128), ("metal", 24, 384), ("metal", 32, 512), ("cuda", 141, 512)],
)
def test_chunks_of_logits_are_as_large_as_the_device_likes(kind, gigabytes, megabytes, monkeypatch):
    monkeypatch.setattr(backend, "device_kind", lambda: kind)
    monkeypatch.setattr(backend, "memory_bytes", lambda: gigabytes << 30)
    rows = megabytes * 2**20 // (4 * 65536)
    assert chunked.chunks(2 * rows + 1, 65536) == [slice(n * rows, (n + 1) * rows) for n in range(3)]
    config = GPTConfig.from_depth(1, sequence_len=64)
    needed = estimate_memory(config, 128)["activations"]
    monkeypatch.setattr(chunked, "logits_at_once", lambda: rows // 2 * 65536)
    fewer = needed - estimate_memory(config, 128)["activations"]
    assert fewer == 5 * 2 * megabytes * 2**20 / 2, "five arrays of this chunk and five of the next"


@pytest.mark.slow
def test_memory_of_the_loss_is_bounded_by_the_chunk_and_not_by_the_batch(monkeypatch):
    monkeypatch.setattr(chunked, "logits_at_once", lambda: 1 << 20)
    V, C = 65536, 16
    weight = mx.random.normal((V, C), key=mx.random.key(0))

    def naive(x, weight, targets, importance):
        logits = 15 * mx.tanh(x @ weight.T / 15)
        return (nn.losses.cross_entropy(logits, targets) * importance).sum()

    def peak(loss, rows):
        x, targets = mx.random.normal((rows, C), key=mx.random.key(1)), mx.zeros((rows,), dtype=mx.int32)
        mx.eval(x, targets, weight)
        return peak_bytes(lambda: mx.value_and_grad(loss, (0, 1))(x, weight, targets, mx.ones((rows,))))

    fused = partial(chunked.fused_loss, softcap=15.0)
    small, large, all_at_once = peak(fused, 64), peak(fused, 256), peak(naive, 256)
    assert large < 10 * (4 << 20) + 4 * weight.nbytes and large < 1.1 * small
    assert all_at_once > 4 * 256 * V * 2 > 2 * large
    x, targets = mx.random.normal((256, C)), mx.zeros((256,), dtype=mx.int32)
    mx.eval(x, targets)
    head = partial(capped_logits, weight=weight, softcap=15.0)
    assert peak_bytes(lambda: chunked.row_losses(head, x, targets, V)) < 10 * (4 << 20)


@pytest.mark.slow
@pytest.mark.parametrize(
    "depth, batch_size, T, V, n_kv_head, recompute",
    [
        (2, 4, 256, 4096, None, False),
        (2, 4, 256, 4096, None, True),
        (2, 1, 256, 65536, None, False),
        (3, 2, 512, 4096, None, False),
        (4, 4, 256, 4096, None, False),
        (4, 1, 1024, 4096, None, False),
        (4, 4, 256, 4096, 1, False),
        (5, 2, 256, 4096, None, True),
        (6, 2, 256, 4096, None, False),
        (6, 2, 256, 4096, None, True),
    ],
)
def test_the_memory_estimate_is_within_25_percent_of_the_peak(depth, batch_size, T, V, n_kv_head, recompute):
    config = GPTConfig.from_depth(depth, V, T, n_kv_head)
    ids = mx.zeros((batch_size, T), dtype=mx.int32)
    mx.eval(ids)

    def step():
        model = GPT(config, recompute)
        mx.eval(model.parameters())
        return nn.value_and_grad(model, model.loss)(ids, ids), model.parameters()

    estimate = estimate_memory(config, batch_size, recompute=recompute)
    assert estimate["total"] - estimate["optimizer"] == pytest.approx(peak_bytes(step), rel=0.25)


def test_the_memory_estimate_makes_no_model_and_counts_its_parts():
    before = mx.get_active_memory()
    config = GPTConfig.from_depth(26)
    sizes = estimate_memory(config, 1)
    assert mx.get_active_memory() == before
    assert list(sizes) == ["weights", "gradients", "optimizer", "activations", "total"]
    assert all(type(size) is int for size in sizes.values())
    assert sizes["weights"] == sizes["gradients"] == 4 * 1_081_999_360
    tables = 2 * 65536 * 1664
    assert sizes["optimizer"] == 4 * (1_081_999_360 - tables) + 8 * tables
    assert sizes["total"] == sum(size for name, size in sizes.items() if name != "total")
    assert estimate_memory(config, 1, 1024) == estimate_memory(GPTConfig.from_depth(26, sequence_len=1024), 1)
    assert estimate_memory(config, 1, recompute=True)["activations"] < sizes["activations"] / 3


def test_a_gpu_needs_less_for_activations(monkeypatch):
    config = GPTConfig.from_depth(12)
    monkeypatch.setattr(chunked, "logits_at_once", lambda: 1 << 24)  # else a GPU has larger chunks of logits
    cpu = estimate_memory(config, 4)
    monkeypatch.setenv("COURSE_DTYPE", "bfloat16")
    monkeypatch.setattr(mx, "device_info", lambda of: {"compute_capability_major": 9})
    for kind, share in (("metal", 0.6), ("cuda", 0.5)):  # MLX fuses attention for training on CUDA only
        monkeypatch.setattr(backend, "device_kind", lambda kind=kind: kind)
        gpu = estimate_memory(config, 4)
        assert 0.05 * cpu["activations"] < gpu["activations"] < share * cpu["activations"]
        assert [gpu[name] for name in ("weights", "gradients", "optimizer")] == list(cpu.values())[:3]


@pytest.mark.parametrize(
    "kind, capability, T, head_dim, fused",
    [
        ("cuda", 8, 2048, 128, True),
        ("cuda", 9, 2048, 64, True),
        ("cuda", 7, 2048, 128, False),  # a T4
        ("cuda", 9, 2000, 128, False),
        ("cuda", 9, 64, 128, False),
        ("cuda", 9, 2048, 256, False),
        ("metal", None, 2048, 128, False),
        ("cuda", None, 2048, 128, False),
    ],
)
def test_only_fused_attention_keeps_no_scores(monkeypatch, kind, capability, T, head_dim, fused):
    monkeypatch.setattr(backend, "device_kind", lambda: kind)
    monkeypatch.setattr(backend, "compute_dtype", lambda: mx.bfloat16)
    monkeypatch.setattr(mx, "device_info", lambda of: {"compute_capability_major": capability} if capability else {})
    config = GPTConfig.from_depth(12, 512, T, head_dim=head_dim)
    found = estimate_memory(config, 4)["activations"]
    monkeypatch.setattr(backend, "device_kind", lambda: "metal")
    scores = 2 * 4 * config.n_head * T * T  # bytes of the attention matrices of one layer
    kept = 14 * scores  # by twelve layers, and two more in passing
    assert found == estimate_memory(config, 4)["activations"] - (kept if fused else 0)


# ---- counts

FACTS = {  # depth: n_embd, heads, parameters, FLOPs a token in units of 1e9
    4: (256, 2, 36_700_160, 0.145),
    6: (384, 3, 60_948_480, 0.271),
    8: (512, 4, 92_274_688, 0.453),
    12: (768, 6, 185_597_952, 1.038),
    16: (1024, 8, 335_544_320, 2.013),
    20: (1280, 10, 560_988_160, 3.492),
    26: (1664, 13, 1_081_999_360, 6.901),
}


@pytest.mark.parametrize("depth", FACTS)
def test_sizes_of_nanochat(depth):
    config = GPTConfig.from_depth(depth)
    n_embd, n_head, parameters, flops = FACTS[depth]
    assert (config.n_embd, config.n_head, config.n_kv_head, config.n_layer) == (n_embd, n_head, n_head, depth)
    assert (config.sequence_len, config.vocab_size) == (2048, 65536)
    assert count_parameters(config) == parameters
    assert round(flops_per_token(config) / 1e9, 3) == flops


def test_the_defaults_are_d12():
    assert GPTConfig() == GPTConfig.from_depth(12)
    assert (GPTConfig().rope_base, GPTConfig().norm_eps, GPTConfig().softcap) == (10000.0, 1e-5, 15.0)


@pytest.mark.parametrize("depth", range(1, 33))
def test_every_depth_has_heads_that_divide(depth):
    config = GPTConfig.from_depth(depth)
    wanted = math.ceil(depth / 2)
    fitting = [n for n in range(1, wanted + 1) if 64 * depth % n == 0 and 64 * depth // n % 2 == 0]
    assert config.n_embd == 64 * depth and config.n_head == config.n_kv_head == max(fitting)
    assert GPTConfig.from_depth(depth, n_kv_head=1).n_kv_head == 1


@pytest.mark.parametrize("options", [{}, {"n_kv_head": 2}, {"n_kv_head": 1}, {"n_layer": 5, "vocab_size": 101}])
def test_the_count_is_that_of_the_model(options):
    model = GPT(GPTConfig(**TINY | options))
    assert count_parameters(model.config) == sum(array.size for array in weights_of(model).values())


def closed_forms(c):
    """Parameters and FLOPs a token of a GPT from its sizes, and the bytes of Muon's and AdamW's states."""
    kv = c.n_kv_head * c.n_embd // c.n_head
    blocks, table = c.n_layer * (10 * c.n_embd + 2 * kv) * c.n_embd, c.vocab_size * c.n_embd
    flops = 6 * (blocks + table) + 12 * c.n_layer * c.n_embd * c.sequence_len
    return blocks + 2 * table, flops, 4 * blocks + 2 * 8 * table


@pytest.mark.parametrize("depth", range(4, 27))
def test_counts_of_the_models_arrays_equal_the_closed_forms(depth):
    heads = GPTConfig.from_depth(depth).n_head
    for n_kv_head in (n for n in range(1, heads + 1) if heads % n == 0):
        config = GPTConfig.from_depth(depth, 65536 - depth, 1024 + depth, n_kv_head)
        found = count_parameters(config), flops_per_token(config), estimate_memory(config, 1)["optimizer"]
        assert found == closed_forms(config), f"n_kv_head={n_kv_head}"


def test_counting_takes_no_memory_and_leaves_random_numbers_as_they_were():
    sizes._counts.cache_clear()
    mx.random.seed(3)
    expected = mx.random.normal((4,))
    mx.random.seed(3)
    mx.eval(expected, mx.random.state)
    gc.collect()
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    assert count_parameters(GPTConfig.from_depth(26)) == 1_081_999_360
    assert mx.get_peak_memory() - before < 100_000, "of the 4 GB of the weights"
    assert mx.array_equal(mx.random.normal((4,)), expected)


class WithMore(GPT):
    """A GPT with a table of positions and a second head, and with a gain in each block."""

    def __init__(self, config, recompute=False):
        super().__init__(config, recompute)
        self.wpe = nn.Embedding(config.sequence_len, config.n_embd)
        self.second_head = nn.Linear(config.n_embd, 10, bias=False)
        for block in self.transformer.h:
            block.gain = mx.ones((config.n_embd,))


def test_a_changed_model_is_counted_without_a_change_elsewhere(monkeypatch):
    config = GPTConfig(**TINY)
    plain = [count_parameters(config), flops_per_token(config), estimate_memory(config, 2)]
    monkeypatch.setattr(sizes, "make_model", WithMore)  # as if gpt.py had been edited
    monkeypatch.setattr(sizes, "_counts", sizes._counts.__wrapped__)
    table, head, gains = 24 * 32, 10 * 32, 2 * 32
    assert count_parameters(config) - plain[0] == table + head + gains
    assert flops_per_token(config) - plain[1] == 6 * (head + gains), "a table is looked up: it multiplies nothing"
    memory = estimate_memory(config, 2)
    assert memory["weights"] - plain[2]["weights"] == 4 * (table + head + gains)
    assert memory["optimizer"] - plain[2]["optimizer"] == 4 * gains + 8 * (table + head)


def test_starting_values_leave_what_is_no_matrix_to_its_layer():
    model = WithMore(GPTConfig(**TINY))
    init_weights(model, seed=1)
    assert all((block.gain == 1).all() for block in model.transformer.h)
    assert mx.std(model.transformer.wte.weight).item() == pytest.approx(1, rel=0.1)


# ---- what cannot work


@pytest.mark.parametrize(
    "sizes, words",
    [
        ({"n_embd": 100}, "n_embd=100 .* n_head=6 .* multiple of 12"),
        ({"n_embd": 30, "n_head": 6}, "even size"),
        ({"n_kv_head": 4}, r"n_kv_head=4 does not divide n_head=6; expected one of \[1, 2, 3, 6\]"),
        ({"n_kv_head": 12}, "n_kv_head=12 does not divide n_head=6"),
        ({"n_kv_head": 0}, "n_kv_head=0, expected 1 or more"),
        ({"n_head": 0}, "n_head=0"),
        ({"n_layer": 0}, "n_layer=0"),
        ({"sequence_len": 0}, "sequence_len=0"),
        ({"vocab_size": -1}, "vocab_size=-1"),
        ({"n_embd": 0}, "n_embd=0"),
    ],
)
def test_sizes_that_cannot_work_are_refused(sizes, words):
    with pytest.raises(CourseError, match=words):
        GPTConfig(**sizes)


def test_depths_and_heads_that_cannot_work_are_refused():
    for depth in (0, -3):
        with pytest.raises(CourseError, match=f"depth={depth}, expected 1 or more"):
            GPTConfig.from_depth(depth)
    with pytest.raises(CourseError, match=r"n_kv_head=3 does not divide n_head=4; expected one of \[1, 2, 4\]"):
        GPTConfig.from_depth(8, n_kv_head=3)
    with pytest.raises(CourseError, match="n_kv_head=0, expected 1 or more"):
        GPTConfig.from_depth(8, n_kv_head=0)


@pytest.mark.parametrize(
    "ids, words",
    [
        ([[0, 37]], "ids go from 0 to 37, but this model knows 0 to 36"),
        ([[1, -1]], "ids go from -1 to 1, but this model knows 0 to 36"),
        ([[0] * 25], "25 positions, but the model has sequence_len=24"),
        ([1, 2, 3], r"ids have shape \(3,\), expected \(B, T\)"),
        ([[[1]]], r"ids have shape \(1, 1, 1\), expected \(B, T\)"),
        ([[]], r"ids have shape \(1, 0\), expected \(B, T\) with one token or more"),
        (mx.zeros((0, 4), dtype=mx.int32), r"ids have shape \(0, 4\), expected \(B, T\) with one token or more"),
    ],
)
def test_ids_that_cannot_work_are_refused(ids, words):
    model = random_model()
    ids = ids if isinstance(ids, mx.array) else mx.array(ids, dtype=mx.int32)
    targets = mx.zeros(ids.shape, dtype=mx.int32)
    for call in (
        model,
        lambda ids: model.loss(ids, targets),
        nn.value_and_grad(model, lambda i: model.loss(i, targets)),
    ):
        with pytest.raises(CourseError, match=words):
            call(ids)
    assert mx.isfinite(model(mx.array([[1, 2]]))).all(), "the model still works"


def test_targets_that_cannot_work_are_refused():
    model = random_model()
    ids = random_ids(model, (2, 3))
    for targets, words in (
        ([[1, 2, 3], [4, 5, 37]], "targets go from 1 to 37, but this model knows -1 to 36"),
        ([[1, 2, 3], [4, 5, -2]], "targets go from -2 to 5, but this model knows -1 to 36"),
        ([[1, 2, 3]], r"ids \(2, 3\) and targets \(1, 3\) must have the same shape"),
        ([[1, 2], [3, 4], [5, 6]], r"ids \(2, 3\) and targets \(3, 2\)"),
    ):
        for reduction in ("mean", "none"):
            with pytest.raises(CourseError, match=words):
                model.loss(ids, mx.array(targets), reduction)
            with pytest.raises(CourseError, match=words):
                nn.value_and_grad(model, model.loss)(ids, mx.array(targets), reduction)
    with pytest.raises(CourseError, match="reduction='max', expected 'mean', 'sum' or 'none'"):
        model.loss(ids, ids, "max")


@pytest.mark.parametrize("compiled", [False, True])
def test_ids_and_targets_are_looked_at_once_a_call_and_never_in_a_compiled_one(compiled, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where MLX keeps compiled kernels on a CPU
    model = random_model()
    ids, targets = random_ids(model), random_ids(model, seed=3, ignored=0.3)
    loss = mx.compile(model.loss) if compiled else model.loss
    loss(ids, targets)
    waits, really = [], mx.eval
    monkeypatch.setattr(mx, "eval", lambda *arrays: waits.append(arrays) or really(*arrays))
    for _ in range(3):
        loss(ids, targets)
    assert len(waits) == (0 if compiled else 3)


def test_who_compiles_can_check_before(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    model = random_model()
    ids = random_ids(model)
    loss, wrong = mx.compile(model.loss), mx.full(ids.shape, 37)
    loss(ids, wrong)  # nobody notices
    for arrays, words in (((wrong,), "ids go from 37 to 37"), ((ids, wrong), "targets go from 37 to 37")):
        with pytest.raises(CourseError, match=words):
            check_ids(model.config, *arrays)
    check_ids(model.config, ids, ids)
    with pytest.raises(CourseError, match="must have the same shape"):
        loss(ids, ids[:2])


def test_with_a_cache_positions_may_pass_sequence_len_but_ids_are_still_checked():
    model = random_model()
    caches = [KVCache() for _ in range(2)]
    for _ in range(3):
        assert mx.isfinite(model(random_ids(model, (1, 20)), caches)).all()
    assert mx.isfinite(model(random_ids(model, (1, 30)), caches)).all()
    assert caches[0].offset == 90
    with pytest.raises(CourseError, match="ids go from 40 to 40"):
        model(mx.array([[40]]), caches)
