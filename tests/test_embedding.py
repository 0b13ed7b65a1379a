"""The gradient of looked-up rows is that of a float64 reference, and the same in every bit in any order of adding."""

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.model.embedding import add_rows, look_up
from course_lib.model.gpt import GPT, GPTConfig, init_weights

V, C = 37, 16


@pytest.fixture
def gpu(monkeypatch):
    """What a GPU takes, computed on this device in float32."""
    monkeypatch.setattr(backend, "device_kind", lambda: "metal")
    monkeypatch.setattr(backend, "compute_dtype", lambda: mx.float32)


def rows_and_ids(count, spread=0.0, size=V):
    """Rows (count, C) of which some are e^spread times as large as others, and ids below `size`."""
    rng = np.random.default_rng(count)
    rows = rng.normal(size=(count, C)) * np.exp(spread * rng.normal(size=(count, 1)))
    return rows.astype(np.float32), rng.integers(0, size, count)


def reference(rows, ids, size=V):
    total = np.zeros((size, rows.shape[1]))
    np.add.at(total, ids, rows.astype(np.float64))
    return total


@pytest.mark.parametrize("count", [1, 2, 3, 512, 513, 1 << 16, 100_000])
@pytest.mark.parametrize("spread", [0.0, 3.0])
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
def test_sums_are_those_of_the_float64_reference(count, spread, scale):
    rows, ids = rows_and_ids(count, spread)
    rows *= np.float32(scale)
    total, exact = np.array(add_rows(mx.array(rows), mx.array(ids), V), np.float64), reference(rows, ids)
    each = np.abs(rows).max() * 2**-28 * (4 if count > 1 << 16 else 1)
    allowed = np.bincount(ids, minlength=V)[:, None] * each + 2**-22 * np.abs(exact)
    assert (np.abs(total - exact) <= allowed).all()


def test_sums_are_the_same_in_every_bit_in_any_order_and_those_of_floats_are_not():
    rows, ids = rows_and_ids(5000, 1.0)
    ours, floats = set(), set()
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(ids))
        shuffled, places = mx.array(rows[order]), mx.array(ids[order])
        ours.add(np.array(add_rows(shuffled, places, V)).tobytes())
        floats.add(np.array(mx.zeros((V, C)).at[places].add(shuffled)).tobytes())
    assert len(ours) == 1 and len(floats) > 1


@pytest.mark.parametrize("count", [1 << 16, (1 << 16) + 1, 1 << 18])
@pytest.mark.parametrize("number", [1.0, -1.0, 1 + 2**-20, 2 - 2**-23, 2**-23 - 2])
def test_the_largest_sum_there_can_be_fits(count, number):
    total = add_rows(mx.full((count, 1), number), mx.zeros((count,), mx.int32), 2)
    assert total[0].item() == pytest.approx(count * number, rel=1e-6) and total[1].item() == 0


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_does_not_vanish(number):
    rows, ids = rows_and_ids(50)
    rows[7, 3] = number
    assert not mx.isfinite(add_rows(mx.array(rows), mx.array(ids), V)).any()


def test_no_slopes_give_zeros():
    assert not add_rows(mx.zeros((9, C)), mx.arange(9), V).any()


def test_in_bfloat16_the_sum_is_still_that_of_float32(gpu):
    rows, ids = rows_and_ids(4096)
    low, weight = mx.array(rows).astype(mx.bfloat16), mx.zeros((V, C))
    _, (total,) = mx.vjp(lambda weight: look_up(weight, mx.array(ids)).astype(mx.bfloat16), [weight], [low])
    assert total.dtype == mx.float32
    assert np.abs(np.array(total) - reference(np.array(low.astype(mx.float32)), ids)).max() < 1e-5


@pytest.mark.slow
def test_the_gradient_is_the_same_inside_mx_compile(gpu, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where MLX keeps compiled kernels on a CPU
    rows, ids = rows_and_ids(600)

    def gradient(weight, rows, ids):
        return mx.vjp(lambda weight: look_up(weight, ids), [weight], [rows])[1][0]

    arrays = mx.ones((V, C)), mx.array(rows), mx.array(ids)
    compiled = mx.compile(gradient)(*arrays)
    assert mx.array_equal(compiled, gradient(*arrays))
    assert np.abs(np.array(compiled) - reference(rows, ids)).max() < 1e-5


def gradients(model, ids):
    """Loss and gradients by name."""
    loss, found = nn.value_and_grad(model, model.loss)(ids, ids)
    mx.eval(loss, found)
    return loss, dict(tree_flatten(found))


@pytest.mark.parametrize("recompute", [False, True])
def test_the_gradients_of_a_gpt_are_those_of_plain_indexing(recompute, gpu, monkeypatch):
    model = GPT(GPTConfig(24, V, 1, 2, 1, 32), recompute)
    init_weights(model, seed=1)
    model.lm_head.weight = mx.random.normal(model.lm_head.weight.shape, key=mx.random.key(0))
    ids = mx.random.randint(0, V, (3, 24), key=mx.random.key(1))
    weight = model.transformer.wte.weight
    assert mx.array_equal(look_up(weight, ids), weight[ids])
    loss, ours = gradients(model, ids)
    monkeypatch.setattr(backend, "device_kind", lambda: "cpu")
    expected_loss, expected = gradients(model, ids)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)
    for name in expected:
        largest = mx.abs(expected[name]).max().item()
        assert mx.abs(ours[name] - expected[name]).max().item() <= 2e-5 * largest, name
