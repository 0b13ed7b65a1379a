"""Products with a weight on a CPU: one row without MLX, several with the weight in the faster order."""

import threading

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.model import products
from course_lib.model.attention import Linear
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.products import columns_are_faster, in_order, inference_mode, lay_out, project

on_cpu = pytest.mark.skipif(backend.device_kind() != "cpu", reason="a GPU has routines for every case")


@pytest.fixture
def with_numpy(monkeypatch):
    """No weight is too small for NumPy; gives the list of the products that went there."""
    made, view = [], np.array

    def spy(array, *args, **kwargs):
        made.append(array.shape)
        return view(array, *args, **kwargs)

    monkeypatch.setattr(products, "LARGE", 0)
    monkeypatch.setattr(products.np, "array", spy)
    return made


@pytest.fixture
def model():
    model = GPT(GPTConfig(64, 300, n_layer=2, n_head=4, n_kv_head=2, n_embd=32))
    model.apply_to_modules(lambda _, module: module.apply(lambda a: 0.3 * mx.random.normal(a.shape)))
    mx.eval(model.parameters())
    return model


@on_cpu
@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("shape", [(24,), (1, 24), (1, 1, 24)], ids=str)
def test_one_row_goes_to_numpy_and_comes_back_as_from_mlx(shape, by_columns, with_numpy):
    x, weight = mx.random.normal(shape), in_order(mx.random.normal((40, 24)), by_columns)
    with inference_mode():
        product = project(x + 0, weight)
    assert with_numpy == [(40, 24), shape]
    assert product.shape == (*shape[:-1], 40) and product.dtype == mx.float32
    assert mx.allclose(product, x @ weight.T, atol=1e-5)


@pytest.mark.parametrize("x", [mx.ones((2, 24)), mx.ones((1, 2, 24)), mx.ones((1, 24), dtype=mx.bfloat16)], ids=str)
def test_everything_else_is_left_to_mlx(x, with_numpy):
    weight = mx.random.normal((40, 24))
    with inference_mode():
        product = project(x, weight)
        project(mx.ones((1, 24)), weight.astype(mx.bfloat16))
    assert not with_numpy
    assert product.dtype == x.dtype and mx.array_equal(product, x @ weight.astype(x.dtype).T)


def test_small_weights_are_left_to_mlx(with_numpy, monkeypatch):
    monkeypatch.setattr(products, "LARGE", 40 * 24 + 1)
    with inference_mode():
        project(mx.ones((1, 24)), mx.ones((40, 24)))
    assert not with_numpy


def test_outside_inference_mode_one_row_has_gradients(with_numpy):
    linear, x = Linear(3, 2), mx.array([[1.0, 2.0, 3.0]])
    with pytest.raises(RuntimeError), inference_mode():
        raise RuntimeError("the mode ends all the same")
    gradients = nn.value_and_grad(linear, lambda x: linear(x).sum())(x)[1]
    assert gradients["weight"].tolist() == [[1, 2, 3]] * 2
    assert not with_numpy


@on_cpu
def test_inference_mode_is_of_one_thread(with_numpy):
    def elsewhere():
        mx.eval(project(mx.ones((1, 24)), mx.ones((40, 24))))

    with inference_mode():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert not with_numpy


def test_on_a_gpu_nothing_is_done(with_numpy, monkeypatch, model):
    monkeypatch.setattr(backend, "device_kind", lambda: "cuda")
    monkeypatch.setattr(products, "ORDERED", 0)
    before = tree_flatten(model.parameters())
    with inference_mode():
        project(mx.ones((1, 24)), mx.ones((40, 24)))
    lay_out(model)
    assert not with_numpy
    assert all(weight is old for (_, weight), (_, old) in zip(tree_flatten(model.parameters()), before, strict=True))


@on_cpu
@pytest.mark.parametrize("faster", [False, True], ids=["rows", "columns"])
def test_weights_get_the_order_that_was_measured_as_faster(faster, model, monkeypatch):
    measured = []

    def seconds(weight):
        measured.append(weight.shape)
        by_columns = memoryview(weight).f_contiguous
        return 1.0 if by_columns == faster else 1.1

    monkeypatch.setattr(products, "product_seconds", seconds)
    monkeypatch.setattr(products, "ORDERED", 32 * 64)
    columns_are_faster.cache_clear()
    before = {name: mx.array(weight) for name, weight in tree_flatten(model.parameters())}
    try:
        lay_out(model)
        once = len(measured)
        after = dict(tree_flatten(model.parameters()))
        lay_out(model)
    finally:
        columns_are_faster.cache_clear()
    for name, weight in after.items():
        assert mx.array_equal(weight, before[name])
        chosen = weight.size >= 32 * 64 and "wte" not in name
        assert memoryview(weight).f_contiguous == (faster and chosen), name
    assert set(measured) == {(128, 32), (32, 128), (300, 32)} and len(measured) == once  # once for each shape
    assert all(weight is after[name] for name, weight in tree_flatten(model.parameters()))


@on_cpu
def test_a_small_gain_is_none_and_a_large_weight_is_not_tried_whole(monkeypatch):
    tried = []
    monkeypatch.setattr(
        products, "product_seconds", lambda weight: tried.append(weight.shape) or 1.0 - 0.003 * len(tried)
    )
    assert columns_are_faster.__wrapped__((1 << 20, 64)) is False
    assert set(tried) == {((1 << 18) + 1, 64)}


@on_cpu
def test_the_last_bits_of_a_training_step_do_not_depend_on_the_order():
    x, slope = mx.random.normal((4, 256)), mx.random.normal((4, 1024))
    weight = mx.random.normal((1024, 256))
    assert weight.size == products.ORDERED
    turned = in_order(weight, by_columns=True)
    assert mx.array_equal(x @ weight.T, x @ turned.T) and mx.array_equal(slope @ weight, slope @ turned)
