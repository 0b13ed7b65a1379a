"""Attention gives the numbers of nanochat, of its definition and of mlx-lm, at once or piece by piece."""

import math
import re

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten
from mlx_lm.models import nanochat
from mlx_lm.models.base import create_attention_mask
from mlx_lm.models.cache import KVCache

from course_lib.classroom import check
from course_lib.classroom.exercises import attention as exercises
from course_lib.host.errors import CourseError
from course_lib.model.attention import CausalSelfAttention, Linear, inverse_frequencies, rms_norm, rotate

N_EMBD, N_HEAD, D = 48, 6, 8
KV_HEADS = (6, 3, 2, 1)  # MHA, two kinds of GQA, MQA


class TinyCache:
    """The least that a cache must do."""

    def __init__(self):
        self.offset, self.kept = 0, None

    def update_and_fetch(self, k, v):
        if self.kept is not None:
            k, v = mx.concatenate([self.kept[0], k], axis=2), mx.concatenate([self.kept[1], v], axis=2)
        self.offset, self.kept = k.shape[2], (k, v)
        return k, v


def random(*shape, seed=0):
    return mx.random.normal(shape, key=mx.random.key(seed))


def layer_with(n_kv_head, seed=0, **options):
    layer = CausalSelfAttention(N_EMBD, N_HEAD, n_kv_head, **options)
    for n, (_, linear) in enumerate(sorted(layer.children().items())):
        linear.weight = random(*linear.weight.shape, seed=seed + n) * 0.2
    return layer


# --- the definition, in float64 ------------------------------------------------------------------


def numpy_rotate(x, offset=0, base=10000.0):
    """Each pair (x[i], x[i + D/2]) as a complex number, turned by -position * base^(-2i / D)."""
    half = x.shape[-1] // 2
    speeds = base ** (-np.arange(half) / half)
    angles = (offset + np.arange(x.shape[-2]))[:, None] * speeds
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(-1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def numpy_norm(x, eps=1e-5):
    return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + eps)


def numpy_attention(layer, x, offset=0, eps=1e-5, base=10000.0):
    """One text and one head after the other, each position by itself."""
    weights = {name: np.array(array, dtype=np.float64) for name, array in tree_flatten(layer.parameters())}
    x = np.array(x, dtype=np.float64)
    B, T, C = x.shape
    q, k, v = (x @ weights[f"{name}.weight"].T for name in ("c_q", "c_k", "c_v"))
    group = q.shape[-1] // k.shape[-1]
    mixed = np.zeros((B, T, C))
    for b in range(B):
        for h in range(C // D):
            mine, theirs = slice(h * D, h * D + D), slice(h // group * D, h // group * D + D)
            turned_q = numpy_norm(numpy_rotate(q[b, :, mine], offset, base), eps)
            turned_k = numpy_norm(numpy_rotate(k[b, :, theirs], offset, base), eps)
            for t in range(T):
                scores = turned_k[: t + 1] @ turned_q[t] / math.sqrt(D)
                shares = np.exp(scores - scores.max())
                mixed[b, t, mine] = shares / shares.sum() @ v[b, : t + 1, theirs]
    return mixed @ weights["c_proj.weight"].T


# --- rotary positions ----------------------------------------------------------------------------


@pytest.mark.parametrize("head_dim", [2, 8, 64, 128])
@pytest.mark.parametrize("offset", [0, 1, 100, 2047, 65536])
def test_rotate_is_a_turn_by_minus_theta_of_the_halves(head_dim, offset):
    x = random(2, 3, 5, head_dim)
    found = np.array(rotate(x, inverse_frequencies(head_dim), offset))
    tolerance = 1e-5 + 4e-7 * (offset + 5)  # float32 holds an angle to about 1e-7 of its size
    np.testing.assert_allclose(found, numpy_rotate(np.array(x, np.float64), offset), atol=tolerance)


def test_position_zero_is_left_as_it_is_and_lengths_stay():
    x = random(2, 3, 9, 16)
    turned = rotate(x, inverse_frequencies(16))
    assert mx.allclose(turned[:, :, 0], x[:, :, 0], atol=1e-6)
    assert mx.allclose(mx.linalg.norm(turned, axis=-1), mx.linalg.norm(x, axis=-1), atol=1e-5)


def test_each_text_of_a_batch_and_each_way_of_storing_it_is_turned_alike():
    x = random(3, 4, 1, 8)  # a single new position for several texts
    turned = rotate(x, inverse_frequencies(8), 11)
    for b in range(3):
        assert mx.allclose(rotate(x[b : b + 1], inverse_frequencies(8), 11), turned[b : b + 1], atol=1e-6)
    stored_by_position = mx.contiguous(random(2, 5, 3, 8)).transpose(0, 2, 1, 3)  # (B, H, T, D), not contiguous
    plain = rotate(mx.contiguous(stored_by_position), inverse_frequencies(8), 3)
    assert mx.allclose(rotate(stored_by_position, inverse_frequencies(8), 3), plain, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 500), st.sampled_from([4, 16, 64]))
def test_the_dot_product_depends_on_the_distance_only(here, there, distance, head_dim):
    w = inverse_frequencies(head_dim)
    q, k = random(1, 1, 1, head_dim, seed=1), random(1, 1, 1, head_dim, seed=2)
    scores = [(rotate(q, w, start + distance) * rotate(k, w, start)).sum().item() for start in (here, there)]
    assert scores[0] == pytest.approx(scores[1], abs=3e-3 * math.sqrt(head_dim))


def test_inverse_frequencies_go_from_one_to_nearly_the_base():
    assert inverse_frequencies(8).tolist() == pytest.approx([1, 10, 100, 1000], rel=1e-6)
    assert inverse_frequencies(4, base=100.0).tolist() == pytest.approx([1, 10], rel=1e-6)
    assert inverse_frequencies(128).shape == (64,)
    assert inverse_frequencies(128)[-1].item() == pytest.approx(10000 ** (126 / 128), rel=1e-5)


# --- norm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [1.19e-7, 1e-5, 1e-2])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_rms_norm_is_its_formula(eps, size):
    x = random(4, 7, 32) * size
    np.testing.assert_allclose(np.array(rms_norm(x, eps)), numpy_norm(np.array(x, np.float64), eps), rtol=1e-4)


def test_rms_norm_of_zeros_is_zero_and_its_usual_eps_is_1e_5():
    assert mx.array_equal(rms_norm(mx.zeros((2, 8))), mx.zeros((2, 8)))
    x = random(3, 8) * 1e-3
    assert mx.array_equal(rms_norm(x), rms_norm(x, 1e-5)) and not mx.allclose(rms_norm(x), rms_norm(x, 1e-7))


# --- the layer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_kv_head", KV_HEADS)
def test_attention_equals_its_definition(n_kv_head):
    layer, x = layer_with(n_kv_head), random(2, 13, N_EMBD, seed=9)
    np.testing.assert_allclose(np.array(layer(x)), numpy_attention(layer, x), atol=1e-4)
    layer = layer_with(n_kv_head, rope_base=500.0, norm_eps=0.1)
    np.testing.assert_allclose(np.array(layer(x)), numpy_attention(layer, x, eps=0.1, base=500.0), atol=1e-4)


def mlx_lm_layer(layer, n_kv_head):
    theirs = nanochat.Attention(
        nanochat.ModelArgs(hidden_size=N_EMBD, num_attention_heads=N_HEAD, num_key_value_heads=n_kv_head)
    )
    theirs.load_weights(tree_flatten(layer.parameters()))  # strict: the same names and shapes, no more and no fewer
    return theirs


@pytest.mark.parametrize("n_kv_head", KV_HEADS)
def test_attention_equals_that_of_mlx_lm(n_kv_head):
    layer = layer_with(n_kv_head)
    theirs, x = mlx_lm_layer(layer, n_kv_head), random(2, 40, N_EMBD, seed=9)
    assert mx.allclose(layer(x), theirs(x, mask="causal"), rtol=0, atol=2e-5)


@pytest.mark.parametrize("n_kv_head", KV_HEADS)
def test_with_the_cache_of_mlx_lm_it_goes_on_as_mlx_lm_does(n_kv_head):
    layer = layer_with(n_kv_head)
    theirs, x = mlx_lm_layer(layer, n_kv_head), random(2, 12, N_EMBD, seed=9)
    caches = KVCache(), KVCache()
    for start, stop in ((0, 5), (5, 6), (6, 7), (7, 12)):
        piece = x[:, start:stop]
        expected = theirs(piece, mask=create_attention_mask(piece, caches[1]), cache=caches[1])
        assert mx.allclose(layer(piece, caches[0]), expected, rtol=0, atol=2e-5)
    assert caches[0].offset == caches[1].offset == 12


def naive(weights, x):
    """The layer with plain operations only, so that its gradients are automatic differentiation's."""
    q, k, v = ((x @ weights[name].T).reshape(*x.shape[:2], -1, D).swapaxes(1, 2) for name in ("c_q", "c_k", "c_v"))
    angles = mx.arange(x.shape[1])[:, None] / 10000 ** (mx.arange(0, D, 2) / D)

    def turned_and_normed(a):
        first, second = a[..., : D // 2], a[..., D // 2 :]
        cos, sin = mx.cos(angles), mx.sin(angles)
        a = mx.concatenate([first * cos + second * sin, second * cos - first * sin], axis=-1)
        return a * mx.rsqrt(mx.square(a).mean(axis=-1, keepdims=True) + 1e-5)

    q, k = turned_and_normed(q), turned_and_normed(k)
    k, v = (mx.repeat(a, q.shape[1] // a.shape[1], axis=1) for a in (k, v))
    scores = mx.where(mx.tri(x.shape[1]) == 1, q @ k.swapaxes(2, 3) / math.sqrt(D), -mx.inf)
    exp = mx.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (exp / exp.sum(axis=-1, keepdims=True)) @ v
    return mixed.swapaxes(1, 2).reshape(x.shape) @ weights["c_proj"].T


@pytest.mark.parametrize("n_kv_head", KV_HEADS)
def test_gradients_equal_those_of_a_naive_attention(n_kv_head):
    layer, x, rest = layer_with(n_kv_head), random(2, 11, N_EMBD, seed=9), random(2, 11, N_EMBD, seed=10)
    found = nn.value_and_grad(layer, lambda x: (layer(x) * rest).sum())(x)[1]
    found = {name: linear["weight"] for name, linear in found.items() if linear}
    found["x"] = mx.grad(lambda x: (layer(x) * rest).sum())(x)
    weights = {name: linear.weight for name, linear in layer.children().items()}
    for_weights, for_x = mx.grad(lambda w, x: (naive(w, x) * rest).sum(), argnums=(0, 1))(weights, x)
    expected = {**for_weights, "x": for_x}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        gap = mx.linalg.norm((found[name] - gradient).flatten()) / mx.linalg.norm(gradient.flatten())
        assert gap.item() < 1e-4, name


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=6),
    st.sampled_from(KV_HEADS),
    st.sampled_from([TinyCache, KVCache]),
)
def test_piece_by_piece_equals_at_once(sizes, n_kv_head, kind):
    layer, x, cache = layer_with(n_kv_head), random(2, sum(sizes), N_EMBD, seed=9), kind()
    ends = np.cumsum(sizes).tolist()
    pieces = [layer(x[:, end - size : end], cache) for end, size in zip(ends, sizes, strict=True)]
    assert mx.allclose(mx.concatenate(pieces, axis=1), layer(x), rtol=0, atol=2e-5)
    assert cache.offset == sum(sizes)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 20), st.data())
def test_no_position_sees_a_later_one(T, data):
    t = data.draw(st.integers(1, T - 1))
    layer, x = layer_with(2), random(1, T, N_EMBD, seed=9)
    changed = mx.where(mx.arange(T)[:, None] >= t, random(1, T, N_EMBD, seed=10), x)
    before, after = layer(x), layer(changed)
    assert mx.allclose(before[:, :t], after[:, :t], rtol=0, atol=1e-6)
    assert not mx.allclose(before[:, t], after[:, t], atol=1e-3)


def test_where_a_text_stands_makes_no_difference():
    layer, x = layer_with(2), random(1, 9, N_EMBD, seed=9)

    class Elsewhere(TinyCache):
        offset = 700

        def __init__(self):
            self.kept = None

    assert mx.allclose(layer(x, Elsewhere()), layer(x), rtol=0, atol=1e-4)


def test_scores_stay_within_the_root_of_head_dim_whatever_the_weights():
    layer, x = layer_with(6), random(2, 9, N_EMBD, seed=9)
    expected = layer(x)
    for linear in (layer.c_q, layer.c_k):
        linear.weight = linear.weight * 1000
    assert mx.allclose(layer(x), expected, rtol=0, atol=1e-4)


# --- parameters and types ------------------------------------------------------------------------


@pytest.mark.parametrize("n_kv_head", KV_HEADS)
def test_the_parameters_are_the_four_matrices_and_nothing_else(n_kv_head, tmp_path):
    layer = CausalSelfAttention(N_EMBD, N_HEAD, n_kv_head)
    shapes = {
        "c_q.weight": (N_EMBD, N_EMBD),
        "c_k.weight": (n_kv_head * D, N_EMBD),
        "c_v.weight": (n_kv_head * D, N_EMBD),
        "c_proj.weight": (N_EMBD, N_EMBD),
    }
    for tree in (layer.parameters(), layer.trainable_parameters()):
        assert {name: array.shape for name, array in tree_flatten(tree)} == shapes
    layer.save_weights(str(tmp_path / "layer.safetensors"))
    assert mx.load(str(tmp_path / "layer.safetensors")).keys() == shapes.keys()


def test_a_training_step_leaves_the_inverse_frequencies_alone():
    layer, x = layer_with(2), random(1, 9, N_EMBD, seed=9)
    gradients = nn.value_and_grad(layer, lambda x: layer(x).square().sum())(x)[1]
    layer.update({name: {"weight": gradient["weight"]} for name, gradient in gradients.items() if gradient})
    layer.apply(lambda array: array.astype(mx.bfloat16))
    assert (
        mx.array_equal(layer._inverse_frequencies, inverse_frequencies(D))
        and layer._inverse_frequencies.dtype == mx.float32
    )


def test_bfloat16_goes_in_and_out_while_the_weights_stay_float32():
    layer, x = layer_with(2), random(2, 9, N_EMBD, seed=9)
    found = layer(x.astype(mx.bfloat16), TinyCache())
    assert found.dtype == mx.bfloat16
    assert all(array.dtype == mx.float32 for _, array in tree_flatten(layer.parameters()))
    assert mx.allclose(found.astype(mx.float32), layer(x), atol=0.1) and layer(x).dtype == mx.float32
    gradients = nn.value_and_grad(layer, lambda x: layer(x).sum())(x.astype(mx.bfloat16))[1]
    assert gradients["c_q"]["weight"].dtype == mx.float32


def test_linear_is_a_product_with_the_transposed_weight_in_the_type_of_x():
    linear, x = Linear(6, 4), random(3, 6)
    assert [name for name, _ in tree_flatten(linear.parameters())] == ["weight"] and linear.weight.shape == (4, 6)
    np.testing.assert_allclose(np.array(linear(x)), np.array(x) @ np.array(linear.weight).T, atol=1e-5)
    assert linear(x.astype(mx.bfloat16)).dtype == mx.bfloat16 and linear.weight.dtype == mx.float32


@pytest.mark.parametrize("sizes", [(48, 5, 5), (48, 6, 4), (48, 6, 12), (0, 6, 6), (48, 0, 1), (48, 6, 0), (48, 6, -1)])
def test_numbers_that_do_not_divide_are_refused_by_name(sizes):
    with pytest.raises(CourseError, match="multiple of n_head") as error:
        CausalSelfAttention(*sizes)
    for name, size in zip(("n_embd", "n_head", "n_kv_head"), sizes, strict=True):
        assert f"{name}={size}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("head_dim", [0, 1, 7, -2])
def test_an_odd_head_is_refused(head_dim):
    with pytest.raises(CourseError, match=f"head_dim={head_dim}: .* even"):
        inverse_frequencies(head_dim)


def test_a_layer_with_odd_heads_is_refused():
    with pytest.raises(CourseError, match="head_dim=7: .* even"):
        CausalSelfAttention(42, 6, 6)


# --- the exercises know right from wrong ----------------------------------------------------------


def grouped(q, k, v, mask, *, inner=True, scale=True):
    """An answer to exercise 7.1: whether the group is the inner axis, whether the scores are divided."""
    B, n_head, T, size = q.shape
    kv = k.shape[1]
    cut = (B, kv, n_head // kv, T, size) if inner else (B, n_head // kv, kv, T, size)
    k, v = (mx.expand_dims(a, 2 if inner else 1) for a in (k, v))
    scores = q.reshape(cut) @ mx.swapaxes(k, -1, -2) / (math.sqrt(size) if scale else 1)
    return (mx.softmax(mx.where(mask, scores, -mx.inf), axis=-1) @ v).reshape(q.shape)


def repeated(q, k, v, mask):
    k, v = (mx.repeat(a, q.shape[1] // a.shape[1], axis=1) for a in (k, v))
    return grouped(q, k, v, mask)


def stretched(q, k, v, mask):
    shape = (k.shape[0], k.shape[1], q.shape[1] // k.shape[1], *k.shape[2:])
    k, v = (mx.broadcast_to(a[:, :, None], shape).reshape(shape[0], q.shape[1], *k.shape[2:]) for a in (k, v))
    return grouped(q, k, v, mask)


def joined_in_the_wrong_order(q, k, v, mask):
    found = grouped(q, k, v, mask).reshape(q.shape[0], k.shape[1], -1, *q.shape[2:])
    return found.swapaxes(1, 2).reshape(q.shape)


def of_neighbours(x, w, offset=0, sign=-1):
    return mx.fast.rope(x, x.shape[-1], traditional=True, base=None, scale=1.0, offset=offset, freqs=sign * w)


def naive_halves(weight, head_dim):
    return weight.reshape(-1, head_dim // 2, 2, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)


def entropy(weights):
    return -(weights * mx.log(mx.maximum(weights, 1e-9))).sum(axis=-1)


def seen(T, S):
    return mx.arange(S) <= mx.arange(S - T, S)[:, None]


@pytest.mark.parametrize(
    ("exercise", "answer", "verdict"),
    [
        ("grouped_attend", grouped, "✓"),
        ("grouped_attend", stretched, "✓"),
        ("grouped_attend", repeated, "✗ .*mx.repeat makes copies"),
        (
            "grouped_attend",
            lambda q, k, v, m: grouped(q, *(mx.tile(a, (1, 2, 1, 1)) for a in (k, v)), m),
            "✗ .*mx.tile",
        ),
        (
            "grouped_attend",
            lambda q, k, v, m: grouped(q, k, v, m, inner=False),
            "✗ .*head 1 reads kv head 1, not 1 // 3",
        ),
        ("grouped_attend", lambda q, k, v, m: grouped(q, k, v, m | True), "✗ .*mask is left out"),
        ("grouped_attend", lambda q, k, v, m: grouped(q, k, v, mx.tri(*m.shape) == 1), "✗ .*aligned at the start"),
        ("grouped_attend", lambda q, k, v, m: grouped(q, k, v, m, scale=False), "✗ .*root of D"),
        ("grouped_attend", lambda q, k, v, m: grouped(q, k[:, :1], v[:, :1], m), "✗ .*every head reads kv head 0"),
        ("grouped_attend", joined_in_the_wrong_order, "✗ .*join them in the same order"),
        ("grouped_attend", lambda q, k, v, m: grouped(q, k, v, m)[:, :1], "✗ .*shape of q"),
        ("grouped_attend", lambda q, k, v, m: None, "✗ .*return"),
        ("grouped_attend", lambda q, k, v, m: q, "✗ .*differ"),
        ("window_mask", lambda T, S, window: seen(T, S) & (mx.arange(S) > mx.arange(S - T, S)[:, None] - window), "✓"),
        ("window_mask", lambda T, S, window: mx.tri(T, S) == 1, "✗ .*may see"),
        ("window_mask", lambda T, S, window: seen(T, S), "✗ .*may see"),
        ("window_mask", lambda T, S, window: mx.arange(S) > mx.arange(S - T, S)[:, None] - window, "✗ .*later"),
        (
            "window_mask",
            lambda T, S, window: seen(T, S) & (mx.arange(S) >= mx.arange(S - T, S)[:, None] - window),
            r"✗ .*may see \[1, 2\], itself included, yours sees \[0, 1, 2\]",
        ),
        (
            "window_mask",
            lambda T, S, window: (mx.tri(T, S) == 1) & (mx.arange(S) > mx.arange(T)[:, None] - window),
            "✗ .*aligned at the end",
        ),
        ("window_mask", lambda T, S, window: mx.tri(T, S), "✗ .*True and False"),
        ("window_mask", lambda T, S, window: seen(S, S) & ~mx.tri(S, S, -window).astype(mx.bool_), "✗ .*shape"),
        ("entropy", entropy, "✓"),
        ("entropy", lambda w: -(w * mx.log(w)).sum(axis=-1), "✗ .*nan"),
        ("entropy", lambda w: -entropy(w), "✗ .*sign"),
        ("entropy", lambda w: entropy(w) / math.log(2), "✗ .*bits"),
        ("entropy", lambda w: -(w * mx.log(mx.maximum(w, 1e-9))).mean(axis=-1), "✗ .*sum"),
        ("entropy", lambda w: -(w * mx.log(mx.maximum(w, 1e-9))).sum(), "✗ .*one number for each"),
        ("entropy", lambda w: -mx.log(mx.maximum(w, 1e-9)).sum(axis=-1), "✗ .*ln 4"),
        ("rotate_neighbours", of_neighbours, "✓"),
        ("rotate_neighbours", lambda x, w, offset=0: of_neighbours(x, w, offset, sign=1), "✗ .*clockwise"),
        ("rotate_neighbours", rotate, "✗ .*halves"),
        ("rotate_neighbours", lambda x, w, offset=0: of_neighbours(x, w, min(offset, 1)), "✗ .*offset=7"),
        ("rotate_neighbours", lambda x, w, offset=0: of_neighbours(x, 1 / w, offset), "✗ .*divided by w"),
        ("to_halves", naive_halves, "✓"),
        ("to_halves", lambda weight, head_dim: weight, "✗ .*other scores"),
        ("to_halves", lambda weight, head_dim: naive_halves(weight, weight.shape[0]), "✗ .*within each head"),
        ("to_halves", lambda weight, head_dim: mx.concatenate([weight[::2], weight[1::2]]), "✗ .*within each head"),
        ("to_halves", lambda weight, head_dim: 2 * naive_halves(weight, head_dim), "✗ .*the same rows"),
        ("to_halves", lambda weight, head_dim: naive_halves(weight, head_dim)[:8], "✗ .*shape stays"),
        (
            "to_halves",
            lambda weight, head_dim: (
                weight.reshape(-1, 2, head_dim // 2, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)
            ),
            "✗ .*other scores",
        ),
    ],
)
def test_exercise_checks_know_right_from_wrong(exercise, answer, verdict, capsys):
    check(getattr(exercises, exercise), answer)
    line = capsys.readouterr().out
    assert re.match(verdict, line), line


def test_the_check_of_copies_leaves_mlx_as_it_was():
    before = mx.repeat, mx.tile
    check(exercises.grouped_attend, repeated)
    assert (mx.repeat, mx.tile) == before
