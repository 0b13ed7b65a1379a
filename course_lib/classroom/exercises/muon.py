"""Checks for the exercises of notebook 09."""

import math
from collections.abc import Callable

import mlx.core as mx


def _orthogonal(rows: int, columns: int, seed: int) -> mx.array:
    """A random matrix all of whose singular values are 1."""
    long, short = max(rows, columns), min(rows, columns)
    q, _ = mx.linalg.qr(mx.random.normal((long, short), key=mx.random.key(seed)), stream=mx.cpu)
    return q if rows >= columns else q.T


def _singular_values(matrix: mx.array) -> mx.array:
    return mx.linalg.svd(matrix.astype(mx.float32), stream=mx.cpu)[1]


def polar(answer: Callable) -> str:
    """Exercise 9.1: U Vᵀ to three digits."""
    for seed, (rows, columns, least, size) in enumerate(
        (
            (12, 12, 0.5, 1),
            (12, 30, 0.1, 1),
            (30, 12, 0.1, 1),
            (16, 24, 0.1, 100),
            (24, 16, 1e-3, 1),
            (16, 16, 1e-3, 1e-4),
        )
    ):
        short = min(rows, columns)
        u, v = _orthogonal(rows, short, 10 * seed), _orthogonal(columns, short, 10 * seed + 1)
        stretch = mx.exp(mx.linspace(0, math.log(least), short))
        g, truth = size * (u * stretch) @ v.T, u @ v.T
        what = f"a matrix ({rows}, {columns}) with singular values {size * least:g} … {size:g}"
        found = answer(g)
        assert found is not None, "nothing came back: the function needs a return"
        assert found.shape == g.shape, f"{what}: the result has shape {found.shape}; was it turned over and not back?"
        assert mx.isfinite(found).all(), f"{what}: NaN or infinity; divide by its size first, or the cubic blows up"
        values = _singular_values(found)
        low, high = values.min().item(), values.max().item()
        near = f"{what}: afterwards they are {low:.3f} … {high:.3f}"
        assert not (0.6 < low and high > 1.03), f"{near}; Muon's coefficients never settle, the classic ones do"
        assert 0.999 < low and high < 1.001, f"{near}; go on until all are within 0.001 of 1"
        square = rows == columns
        assert not (square and mx.abs(found - truth.T).max() < 5e-3), f"{what}: the result is that of g transposed"
        off = mx.abs(found - truth).max().item()
        assert off < 5e-3, f"{what}: orthogonal, but not the nearest one, off by {off:.3f}; keep U and V as they are"
    return "How many rounds does it take when the smallest singular value is a thousandth of the largest?"


def scale_error(answer: Callable) -> str:
    """Exercise 9.2: how many times too long a step is."""
    scales = {
        "√max(1, rows/columns)": lambda rows, columns: math.sqrt(max(1, rows / columns)),
        "√max(rows, columns)": lambda rows, columns: math.sqrt(max(rows, columns)),
        "√max(1, columns/rows)": lambda rows, columns: math.sqrt(max(1, columns / rows)),
        "max(1, rows/columns), without the root": lambda rows, columns: max(1, rows / columns),
        "no scale at all": lambda rows, columns: 1.0,
    }
    for name, scale in scales.items():
        for rows, columns in ((64, 64), (128, 32), (32, 128)):
            _judge_scale(answer, name, scale, rows, columns)
    return "Would it also find a mistake in a scale that you have never seen?"


def _judge_scale(answer: Callable, name: str, scale: Callable, rows: int, columns: int) -> None:
    rates = []

    def step(direction, rate):
        assert direction.shape == (rows, columns), (
            f"step was given a direction of shape {direction.shape} for a weight ({rows}, {columns})"
        )
        off = mx.abs(_singular_values(direction) - 1).max().item()
        assert off < 0.01, "give step an orthogonal direction, all of whose singular values are 1"
        rates.append(rate)
        return rate * scale(rows, columns) * direction

    found = answer(step, rows, columns)
    assert found is not None, "nothing came back: the function needs a return"
    assert rates, "it never calls step, so it cannot know its scale"
    found, rate = float(found), float(rates[-1])
    truth = scale(rows, columns) / math.sqrt(max(1, rows / columns))
    if abs(found / truth - 1) < 0.1:
        return
    what = f"with {name}, a step for ({rows}, {columns}) is {truth:.3g} times as long as it should be, not {found:.3g}"
    usual = {
        "divide what comes out by the rate": truth * rate,
        "that is how many times too short it is": 1 / truth,
        "measure what comes out of a layer, not the size of the step": scale(rows, columns),
        "take the root of the mean square": truth**2,
        f"that is the answer for ({columns}, {rows})": scale(columns, rows) / math.sqrt(max(1, columns / rows)),
    }
    for advice, wrong in usual.items():
        assert abs(found / wrong - 1) > 0.1, f"{what}; {advice}"
    raise AssertionError(f"{what}; measure what comes out of a layer for inputs whose root mean square is 1")


def sqrt_warmdown(answer: Callable) -> str:
    """Exercise 9.3: 1 - √share over the warmdown."""
    for it in (0, 50, 79, 80):
        found = answer(it, 100)
        assert found is not None, "nothing came back: the function needs a return"
        assert found == 1, f"step {it} of 100: 1.0 up to and including step 80, not {found}"
    for it in (81, 85, 90, 100):
        share = (it - 80) / 20
        found, truth = answer(it, 100), 1 - math.sqrt(share)
        where = f"step {it} of 100: {share:.2f} of the warmdown is over, so {truth:.3f}, not {found:.3f}"
        usual = {
            "that is on a straight line; take 1 - √share": 1 - share,
            "that is the root of what is left; take 1 minus the root of what is over": math.sqrt(1 - share),
            "the share is that of the warmdown, not of the run": 1 - math.sqrt(it / 100),
            "that is one step late": 1 - math.sqrt(share - 0.05),
        }
        for advice, wrong in usual.items():
            assert abs(found - wrong) > 1e-6 or abs(truth - wrong) < 1e-6, f"{where}; {advice}"
        assert abs(found - truth) < 1e-6, where
    assert abs(answer(10, 20, 1.0) - (1 - math.sqrt(0.5))) < 1e-6, "with warmdown_ratio=1.0 it goes down from step 0 on"
    assert abs(answer(9, 11, 0.25) - (1 - math.sqrt(1 / 3))) < 1e-6, (
        "11 steps and a ratio of 0.25 make a warmdown of 2.75 steps, rounded to 3: step 9 is the first of them"
    )
    assert answer(20, 20, 0.0) == 1, "with warmdown_ratio=0.0 it stays 1.0 to the end"
    assert -1e-6 < answer(1, 1) < 1 + 1e-6, "a run of one step ends between 0 and 1"
    return "Draw it beside `lr_multiplier`: which of the two spends more steps at small rates?"
