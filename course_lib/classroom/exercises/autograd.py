"""What the exercises of chapter 02 must do.

`value_class` is the learner's own Value: the notebook's is another class than the package's.
"""

import math
from collections.abc import Callable

import numpy as np

from course_lib.names.autograd import topological_order


def sigmoid(answer: Callable, value_class: type) -> str:
    """One node with the right number and slope, also far from 0."""
    for number in (0.0, 1.5, -2.0):
        a = value_class(number)
        s = answer(a)
        assert isinstance(s, value_class), f"return a Value, not {type(s).__name__}"
        assert isinstance(s.parents, tuple) and isinstance(s.slopes, tuple), (
            "parents and slopes are tuples, also where there is only one: Value(s, (a,), (slope,))"
        )
        right = 1 / (1 + math.exp(-number))
        assert abs(s.data - right) < 1e-12, f"the sigmoid of {number:g} is {right:.6f}, you gave {s.data:.6f}"
        s.backward()
        slope = right * (1 - right)
        assert abs(a.grad - slope) < 1e-12, (
            f"at {number:g} the slope s(1 - s) is {slope:.6f}, backward gave {a.grad:.6f}"
        )
        nodes = len(topological_order(s))
        assert nodes == 2, (
            f"write it as one node whose only parent is a: the graph should have 2 nodes, yours has {nodes}"
        )
    for number, right in ((-1000.0, 0.0), (1000.0, 1.0)):
        try:
            s = answer(value_class(number))
        except (OverflowError, ValueError):
            raise AssertionError(
                f"it overflows at {number:g}: call exp only with numbers that are not positive"
            ) from None
        assert s.data == right, f"the sigmoid of {number:g} rounds to {right:g}, you gave {s.data:g}"
    return "Its slope is at most 1/4: what becomes of a gradient that passes ten of them?"


def careless_backward(root) -> None:
    """The bug of exercise 2.2: the last report wins, where reports should add up."""
    flow = {root: 1.0}
    for node in reversed(topological_order(root)):
        node.grad += flow[node]
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            flow[parent] = slope * flow[node]


def trap(answer: Callable, value_class: type) -> str:
    """The careless backward pass is wrong for a and right for b."""
    for numbers in ((2.0, 3.0), (-1.5, 0.5), (0.7, -4.0)):
        grads = []
        for walk in (value_class.backward, careless_backward):
            a, b = value_class(numbers[0]), value_class(numbers[1])
            root = answer(a, b)
            assert isinstance(root, value_class), f"return a Value, not {type(root).__name__}"
            known = topological_order(root)
            for name, leaf in (("a", a), ("b", b)):
                assert leaf in known, f"{name} takes no part in your expression"
            walk(root)
            grads.append((a.grad, b.grad))
        (true_a, true_b), (careless_a, careless_b) = grads
        at = f"with a = {numbers[0]:g} and b = {numbers[1]:g}"
        uses_of_a = sum(parent is a for node in known for parent in node.parents)
        assert careless_a != true_a or uses_of_a < 2, (
            f"{at} the careless pass is right for a ({true_a:g}): a reaches the result on {uses_of_a} paths, but the "
            "reports that are lost add up to 0; let a move the result on each path"
        )
        assert careless_a != true_a, (
            f"{at} the careless pass is right for a ({true_a:g}): let a reach the result on two paths, as in a * a "
            "(a power counts once)"
        )
        assert careless_b == true_b, (
            f"{at} it is wrong for b too ({careless_b:g}, not {true_b:g}): use b on one path only"
        )
    return "Now mend careless_backward: which line must add to what is there already?"


def _nudged(forward: Callable, x: np.ndarray, dy: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """Derivative of (dy * forward(x)).sum() for each number of x, measured by nudging."""
    dx = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[place] = h
        dx[place] = (dy * (forward(x + step) - forward(x - step))).sum() / (2 * h)
    return dx


def _same_gradient(mine: object, right: np.ndarray, mistakes: dict[str, np.ndarray]) -> None:
    """mistakes: what to say to the dx that each likely mistake gives."""
    shape = np.shape(mine)
    assert shape == right.shape, f"dx has the shape of x, {right.shape}; yours has {shape}"
    mine = np.asarray(mine, dtype=float)
    gap = np.abs(mine - right)
    if gap.max() < 1e-6:
        return
    for sentence, wrong in mistakes.items():
        assert not np.allclose(mine, wrong, atol=1e-6), sentence
    place = tuple(int(n) for n in np.unravel_index(gap.argmax(), shape))
    raise AssertionError(
        f"dx{list(place)} is {right[place]:.4f} by nudging, yours is {mine[place]:.4f}; "
        "follow each of the two paths from x to y alone, then add"
    )


def centre_backward(answer: Callable) -> str:
    """dx of taking off the mean of each row."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    given = dy.copy()
    mine = answer(dy)
    assert (dy == given).all(), "you changed dy; make a new array instead"
    rows = dy.sum(axis=1, keepdims=True)
    mistakes = {
        "this is the direct path only; x reaches y through the mean, too": dy,
        "this is the path through the mean only; x reaches y directly, too": np.broadcast_to(-rows / 4, dy.shape),
        "the sign: y is x minus the mean, so the path through the mean has slope -1": dy + rows / 4,
        "the 1/D is missing: each x is in the mean with slope 1/D": dy - rows,
        "the sum is missing: the mean goes to all D numbers of its row and collects a report from each": dy - dy / 4,
        "the wrong axis: each row has a mean of its own, so sum along axis=1": dy - dy.mean(axis=0),
        "you took one mean of all numbers; each row has a mean of its own, axis=1": dy - dy.mean(),
    }
    _same_gradient(mine, _nudged(lambda x: x - x.mean(axis=1, keepdims=True), x, dy), mistakes)
    return "Add up each row of your dx: it gives 0, since moving a whole row does not change y."


def rms_norm_backward(answer: Callable) -> str:
    """dx of dividing each row by its root mean square."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    for eps in (0.5, 1e-5):
        given = x.copy(), dy.copy()
        mine = answer(x, dy, eps)
        assert (x == given[0]).all() and (dy == given[1]).all(), "you changed x or dy; make a new array instead"
        right = _nudged(lambda x, eps=eps: x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps), x, dy)
        _same_gradient(mine, right, _rms_norm_mistakes(x, dy, eps))
    return "Look at (dx * x).sum(axis=1): nearly 0, since a row that only grows gives the same y."


def _rms_norm_mistakes(x: np.ndarray, dy: np.ndarray, eps: float) -> dict[str, np.ndarray]:
    def dx(eps: float = eps, axis: int = 1) -> np.ndarray:
        s = ((x**2).mean(axis=axis, keepdims=True) + eps) ** -0.5
        return s * dy - x * s**3 * (dy * x).mean(axis=axis, keepdims=True)

    s = ((x**2).mean(axis=1, keepdims=True) + eps) ** -0.5
    direct, through = s * dy, x * s**3 * (dy * x).mean(axis=1, keepdims=True)
    return {
        "this is the direct path only; x reaches y through the mean of squares, too": direct,
        "this is the path through the mean of squares only; x reaches y directly, too": -through,
        "the sign: the slope of m ** -0.5 is negative, -0.5 * m ** -1.5": direct + through,
        "the 1/D is missing: each x² is in the mean with slope 1/D": direct - 4 * through,
        "a 2 is missing: the slope of x² is 2x": direct - through / 2,
        "a sum: ds adds up dy * x along its row; you took the mean": direct - through / 4,
        "the sum is missing: one s serves its whole row, so ds adds up dy * x along axis=1": direct
        - x * s**3 * dy * x / 4,
        "the power: the slope of m ** -0.5 is -0.5 * m ** -1.5": direct - through / s**2,
        "the slope of y = x * s for x is s; you left it at 1": dy - through,
        "eps is left out: m is mean(x²) + eps": dx(eps=0.0),
        "use the argument eps; you took 1e-5 whatever it is": dx(eps=1e-5),
        "the wrong axis: each row has a root mean square of its own, axis=1": dx(axis=0),
    }
