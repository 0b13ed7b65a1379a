"""Checks for the exercises of notebook 09."""

import math

import mlx.core as mx


def _orthogonal(rows: int, columns: int, seed: int) -> mx.array:
    """A random matrix all of whose singular values are 1."""
    long, short = max(rows, columns), min(rows, columns)
    q, _ = mx.linalg.qr(mx.random.normal((long, short), key=mx.random.key(seed)), stream=mx.cpu)
    return q if rows >= columns else q.T


def polar(answer) -> None:
    """Exercise 9.1."""
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
        rank = min(rows, columns)
        u, v = _orthogonal(rows, rank, 10 * seed), _orthogonal(columns, rank, 10 * seed + 1)
        stretch = mx.exp(mx.linspace(0, math.log(least), rank))
        g, truth = size * (u * stretch) @ v.T, u @ v.T
        what = f"a matrix ({rows}, {columns}) with singular values {size * least:g} … {size:g}"
        found = answer(g)
        assert found is not None, "nothing came back: the function needs a return"
        assert found.shape == g.shape, f"{what}: the result has shape {found.shape}"
        assert mx.isfinite(found).all(), f"{what}: NaN or infinity; divide by its size first, or the cubic blows up"
        values = mx.linalg.svd(found.astype(mx.float32), stream=mx.cpu)[1]
        low, high = values.min().item(), values.max().item()
        assert 0.999 < low and high < 1.001, (
            f"{what}: afterwards they are {low:.3f} … {high:.3f}; go on until all are within 0.001 of 1"
        )
        off = mx.abs(found - truth).max().item()
        assert off < 5e-3, f"{what}: orthogonal, but not the nearest one, off by {off:.3f}; keep U and V as they are"


def scale_error(answer) -> None:
    """Exercise 9.2."""
    scales = {
        "√max(1, rows/columns)": lambda rows, columns: math.sqrt(max(1, rows / columns)),
        "√max(rows, columns)": lambda rows, columns: math.sqrt(max(rows, columns)),
        "√max(1, columns/rows)": lambda rows, columns: math.sqrt(max(1, columns / rows)),
        "max(1, rows/columns), without the root": lambda rows, columns: max(1, rows / columns),
        "no scale at all": lambda rows, columns: 1.0,
    }
    for name, scale in scales.items():
        for rows, columns in ((64, 64), (128, 32), (32, 128)):

            def step(direction, rate, scale=scale):
                assert direction.ndim == 2, "give step a matrix (rows, columns)"
                return rate * scale(*direction.shape) * direction

            found = answer(step, rows, columns)
            assert found is not None, "nothing came back: the function needs a return"
            truth = scale(rows, columns) / math.sqrt(max(1, rows / columns))
            what = f"with {name}, a step for ({rows}, {columns}) is {truth:.3g} times as long as it should be"
            swapped = scale(columns, rows) / math.sqrt(max(1, columns / rows))
            if abs(found / truth - 1) > 0.1 and abs(found / swapped - 1) < 0.1:
                raise AssertionError(f"{what}; {float(found):.3g} is the answer for ({columns}, {rows})")
            assert abs(found / truth - 1) < 0.1, f"{what}, not {float(found):.3g}; did you divide by the rate?"


def sqrt_warmdown(answer) -> None:
    """Exercise 9.3."""
    for it in (0, 50, 79, 80):
        found = answer(it, 100)
        assert found is not None, "nothing came back: the function needs a return"
        assert found == 1, f"step {it} of 100: 1.0 up to and with step 80, not {found}"
    for it, truth in ((81, 1 - math.sqrt(0.05)), (85, 0.5), (90, 1 - math.sqrt(0.5)), (100, 0.0)):
        found = answer(it, 100)
        share = (it - 80) / 20
        assert abs(found - (1 - share)) > 1e-6 or abs(truth - (1 - share)) < 1e-6, (
            f"step {it} of 100: {found:.3f} is on a straight line; take 1 - √share"
        )
        assert abs(found - truth) < 1e-6, (
            f"step {it} of 100: {share:.2f} of the warmdown is over, so {truth:.3f}, not {found:.3f}"
        )
    assert abs(answer(10, 20, 1.0) - (1 - math.sqrt(0.5))) < 1e-6, "with warmdown_ratio=1.0 it goes down from step 0 on"
    assert answer(20, 20, 0.0) == 1, "with warmdown_ratio=0.0 it stays 1.0 to the end"
    assert -1e-6 < answer(1, 1) < 1 + 1e-6, "a run of one step ends between 0 and 1"
