"""What the exercises of chapter 00 must do."""

import io
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import numpy as np


def standardise(answer: Callable) -> str:
    """Columns, not rows and not the whole table, get mean 0 and standard deviation 1."""
    x = mx.array([[1.0, 10.0, -3.0], [3.0, 30.0, 0.0], [5.0, 80.0, 3.0], [7.0, 20.0, 6.0]])
    result = answer(x)
    assert isinstance(result, mx.array), f"return an mx.array, not {type(result).__name__}"
    assert result.shape == x.shape, f"x is (4, 3) and so must the result be, not {result.shape}"
    numbers, table = np.array(result), np.array(x)
    means, spreads = numbers.mean(axis=0), numbers.std(axis=0)
    assert np.allclose(means, 0, atol=1e-5), (
        f"the means of the columns are {_rounded(means)}; take axis=0 to get one mean for each column"
    )
    spread_before = table.std(axis=0)
    assert not np.allclose(spreads, 1 / spread_before, atol=1e-4), (
        "you divided by the variance; the standard deviation is its square root"
    )
    assert not np.allclose(spreads, 0.75**0.5, atol=1e-4), (
        "your standard deviation divides by N - 1; divide by N, as mx.std does without ddof"
    )
    assert np.allclose(spreads, 1, atol=1e-4), (
        f"the standard deviations of the columns are {_rounded(spreads)}; divide each column by its own"
    )
    assert np.allclose(numbers, (table - table.mean(axis=0)) / table.std(axis=0), atol=1e-4), (
        "means and deviations are right, but the order or the sign of the entries changed"
    )
    return "What does it make of a column of equal numbers, and why?"


def _rounded(numbers: np.ndarray) -> str:
    """The numbers with two digits after the point."""
    return ", ".join(f"{number:.2f}" for number in numbers)


class _Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = [{"a": nn.Linear(4, 3)}, [nn.Linear(3, 2, bias=False)]]
        self.gain = mx.ones((5,))
        self._table = mx.ones((100,))


def count_parameters(answer: Callable) -> str:
    """Weights and biases, also in lists, but nothing that begins with an underscore."""
    for model, right, why in (
        (nn.Linear(4, 3, bias=False), 12, "a weight of 3 rows and 4 columns holds 12 numbers"),
        (nn.Linear(4, 3), 15, "12 weights and 3 biases: the bias counts too"),
        (_Nested(), 15 + 6 + 5, "modules in lists and dictionaries count, and so does a bare array; _table does not"),
    ):
        count = answer(model)
        assert isinstance(count, int), f"return a whole number, not {type(count).__name__}"
        assert count == right, f"you counted {count}, it is {right}: {why}"
    return "Try it on the model that wrote the names: does the number surprise you?"


def softcap(answer: Callable) -> str:
    """Nearly x at 0, never beyond the cap, with the gradient that follows."""
    x = mx.array([-1e4, -20.0, -0.1, 0.0, 0.1, 20.0, 1e4])
    for cap in (15.0, 2.0):
        y = answer(x, cap)
        assert isinstance(y, mx.array) and y.shape == x.shape, "return an array of the same shape as x"
        biggest = mx.abs(y).max().item()
        assert biggest <= cap * 1.0001, f"with cap={cap:g} one entry is {biggest:g}: it must never go beyond the cap"
        assert abs(y[4].item() - 0.1) < 0.001, (
            f"softcap(0.1, cap={cap:g}) should be nearly 0.1, it is {y[4].item():.4f}"
        )
        assert abs(y[-1].item() - cap) < 1e-3 * cap, f"far out it should reach {cap:g}, it is {y[-1].item():.4f}"
        slope = mx.vmap(mx.grad(lambda number, cap=cap: answer(number, cap)))(x)
        assert abs(slope[3].item() - 1) < 1e-4, f"the gradient at 0 should be 1, it is {slope[3].item():.4f}"
        assert abs(slope[-1].item()) < 1e-4, f"the gradient far out should be 0, it is {slope[-1].item():.4f}"
        assert mx.allclose(y, cap * mx.tanh(x / cap), rtol=1e-3, atol=1e-3), (
            "it has the right ends, but not the bend of mx.tanh between them: is it smooth everywhere?"
        )
    assert mx.array_equal(answer(x), answer(x, 15.0)), "without a cap it should use 15"
    return "At x = 20 with cap=15 its gradient is still 0.24, where a hard cut would have 0: try mx.grad."


class _Watched(nn.Linear):
    """Notes at each pass how many operations its weights still wait for."""

    def __init__(self):
        super().__init__(2, 1)
        self.weight, self.bias, self._waiting = mx.zeros((1, 2)), mx.zeros((1,)), []

    def __call__(self, x: mx.array) -> mx.array:
        self._waiting.append(_operations(self.weight))
        return super().__call__(x)


def _operations(array: mx.array) -> int:
    """How long the graph of an array is: 0 for one that is computed."""
    graph = io.StringIO()
    mx.export_to_dot(graph, array)
    return graph.getvalue().count("->")


def fit(answer: Callable) -> str:
    """The losses of plain gradient descent on a plane, and a model that has learned it."""
    x = mx.random.uniform(-1, 1, (64, 2), key=mx.random.key(3))
    y = x @ mx.array([[1.5], [-0.5]]) + 0.25
    model = _Watched()
    mx.eval(x, y, model.parameters())
    before = (y**2).mean().item()
    losses = answer(model, x, y, 60, 0.4)
    left = _operations(model.weight)  # before anything below computes it
    assert isinstance(losses, list) and len(losses) == 60, "return a list with one loss for each of the 60 steps"
    assert all(isinstance(loss, float) for loss in losses), (
        "the losses should be Python floats: .item() makes one, and lets the graph go"
    )
    assert abs(losses[0] - before) < 1e-4, (
        f"the first loss should be that of the untrained model, {before:.4f}; yours is {losses[0]:.4f}"
    )
    assert np.abs(np.array(model.weight)).max() > 0, (
        "the model did not change: take the gradients of the argument, nn.value_and_grad(model, loss_fn), and update it"
    )
    assert losses[1] != losses[0], "the loss never changes, the model does: move the optimizer's update into the loop"
    expected = _plain_descent(np.array(x), np.array(y), 60, 0.4)
    assert np.allclose(losses, expected, rtol=1e-2, atol=1e-4), (
        "it learns, but not as SGD with this learning rate would: pass learning_rate on, and use the mean as the loss"
    )
    weight = np.array(model.weight).ravel()
    assert np.allclose(weight, [1.5, -0.5], atol=0.05), (
        f"the weights should end near 1.5 and -0.5, not {_rounded(weight)}"
    )
    waiting = [0, *model._waiting]
    middle = waiting[len(waiting) // 2]
    assert middle < 2 * waiting[:4][-1] + 10, (
        f"right, but the graph grows with each step, to {middle} operations in the middle of the run: call "
        "mx.eval(model.parameters(), optimizer.state) in each step, or the memory runs out"
    )
    assert not left, (
        "right, but the last update still waits to be computed: call mx.eval(model.parameters(), optimizer.state) in "
        "each step, after the update"
    )
    return "Try the example above with learning_rate=2, too: does the loss still fall?"


def _plain_descent(x: np.ndarray, y: np.ndarray, steps: int, learning_rate: float) -> list[float]:
    """Losses of a plane fitted by gradient descent from zero, written out. x: (N, D); y: (N, 1)."""
    weight, bias, losses = np.zeros((x.shape[1], 1)), 0.0, []
    for _ in range(steps):
        error = x @ weight + bias - y  # (N, 1)
        losses.append(float((error**2).mean()))
        weight -= learning_rate * 2 * x.T @ error / len(x)
        bias -= learning_rate * 2 * error.mean()
    return losses
