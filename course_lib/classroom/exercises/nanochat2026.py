"""Checks for the exercises of notebook 21."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np


def window(answer: Callable) -> str:
    """Exercise 21.1."""
    cases = [
        (range(6), range(6), 2),
        (range(7, 9), range(9), 3),
        (range(100, 101), range(60, 101), 40),
        (range(5), range(5), 9),
    ]
    for queries, keys, W in cases:
        case = f"queries at {_span(queries)}, keys at {_span(keys)}, W = {W}"
        found = answer(mx.array(list(queries)), mx.array(list(keys)), W)
        assert found is not None, "nothing came back: the function needs a return"
        found = np.array(found)
        shape = len(queries), len(keys)
        assert found.shape == shape, f"{case}: the mask has shape {found.shape}, expected {shape}: (queries, keys)"
        assert found.dtype == bool, f"{case}: the mask has the type {found.dtype}, expected True and False"
        for i, q in enumerate(queries):
            for j, k in enumerate(keys):
                sees = bool(found[i, j])
                here = f"{case}: the query at {q} {'sees' if sees else 'does not see'} the key at {k}"
                assert not (sees and k > q), f"{here}, which comes after it"
                assert not (sees and k < q - W), f"{here}, which is {q - k} before it; at most {W} may be"
                if not sees and k == q - W:
                    raise AssertionError(f"{here}, which is just W before it: W keys, and the query's own, so W + 1")
                assert sees or not q - W <= k <= q, f"{here}, which lies in its window"
    return "a window of 512 keeps 513 keys: the causal mask of chapter 07 is the window that is long enough"


def _span(places: range) -> str:
    return f"{places[0]}" if len(places) == 1 else f"{places[0]} … {places[-1]}"


def smear(answer: Callable) -> str:
    """Exercise 21.2."""
    e = mx.random.normal((12, 4), key=mx.random.key(3))
    gates = mx.random.uniform(0.2, 0.9, (12, 1), key=mx.random.key(4))
    whole = e + gates * mx.concatenate([mx.zeros((1, 4)), e[:-1]])
    for sizes in ((12,), (5, 7), (1,) * 12, (3, 1, 1, 7)):
        start, last, case = 0, None, f"chunks of {', '.join(map(str, sizes))}"
        for size in sizes:
            part = slice(start, start + size)
            given = answer(e[part], gates[part], last)
            assert given is not None, "nothing came back: the function needs a return"
            assert isinstance(given, tuple) and len(given) == 2, "expected a pair: what is smeared, and the new last"
            found, last = given
            where = f"{case}, the one that begins at token {start}"
            assert found.shape == (size, 4), f"{where}: shape {found.shape}, expected {(size, 4)}"
            _judge(found, e, gates, whole, part, where)
            assert last is not None and last.shape == (4,), f"{where}: the new last should have the shape (4,)"
            last_is = e[start + size - 1]
            if not mx.allclose(last, last_is, atol=1e-5):
                smeared = mx.allclose(last, whole[start + size - 1], atol=1e-5)
                why = "is smeared already; the next token takes from the unsmeared one" if smeared else "is another one"
                raise AssertionError(f"{where}: the new last should be the chunk's last embedding, but it {why}")
            start += size
    return "in whatever chunks a text is read, every token takes from the one before it"


def _judge(found: mx.array, e: mx.array, gates: mx.array, whole: mx.array, part: slice, where: str) -> None:
    if mx.allclose(found, whole[part], atol=1e-5):
        return
    first = part.start
    assert first == 0 or not mx.allclose(found[0], e[first], atol=1e-5), (
        f"{where}: its first token is not smeared; the one before it is in `last`"
    )
    assert first > 0 or mx.allclose(found[0], e[0], atol=1e-5), (
        f"{where}: the first token of a text has none before it and stays as it is"
    )
    places = mx.abs(found - whole[part]).max(axis=1) > 1e-5
    wrong = [first + n for n, off in enumerate(places.tolist()) if off]
    raise AssertionError(f"{where}: token {wrong[0]} is not itself plus its gate times the unsmeared one before it")


def _right_schedule(it: int, n: int) -> tuple[float, float]:
    """(multiplier, momentum) of step `it`: the smaller of what rises and what falls."""
    warmdown = round(0.65 * n)
    over = max(0, it - (n - warmdown)) / warmdown
    return min((it + 1) / 40, 1 - 0.95 * over), min(0.85 + 0.12 * it / 400, 0.97 - 0.07 * over)


def _likely_schedule(it: int, n: int) -> dict[str, tuple[float, float]]:
    """What goes wrong -> (multiplier, momentum) that it gives."""
    warmdown = round(0.65 * n)
    over = max(0, it - (n - warmdown)) / warmdown
    fall, slow = 1 - 0.95 * over, 0.97 - 0.07 * over
    rise, ramp = (it + 1) / 40, 0.85 + 0.12 * it / 400
    return {
        "it jumps: the start must not win, take the smaller of both lines": (
            rise if it < 40 else fall,
            ramp if it < 400 else slow,
        ),
        "that is the larger of the two lines": (max(min(rise, 1), fall), max(min(ramp, 0.97), slow)),
        "the rise is one step late: step 0 has 1/40, step 39 has 1": (min(it / 40, fall), ramp),
        "the rates fall to 0, not to 0.05": (min(rise, 1 - over), slow),
        "the momentum's ramp takes 400 steps, not 40": (rise, min(0.85 + 0.12 * it / 40, slow)),
        "the momentum falls to 0.90, not back to 0.85": (rise, min(ramp, 0.97 - 0.12 * over)),
        "rates and momentum are swapped; the multiplier comes first": _right_schedule(it, n)[::-1],
    }


def schedule(answer: Callable) -> str:
    """Exercise 21.3."""
    for n in (2000, 50, 400, 103):
        for it in sorted({0, 1, 17, 18, 19, 39, 40, 41, n // 3, n - round(0.65 * n) + 1, 399, 400, 401, n - 1, n}):
            if it <= n:
                _judge_schedule(answer(it, n), it, n)
    return "Draw it for 50 steps beside nanochat's: how much of the run has the full rate?"


def _judge_schedule(found: object, it: int, n: int) -> None:
    assert found is not None, "nothing came back: the function needs a return"
    assert isinstance(found, tuple | list) and len(found) == 2, f"expected a pair (multiplier, momentum), not {found!r}"
    truth, usual = _right_schedule(it, n), _likely_schedule(it, n)
    for place, what in enumerate(("multiplier", "momentum")):
        if abs(found[place] - truth[place]) < 1e-6:
            continue
        where = f"step {it} of {n}: the {what} should be {truth[place]:.4f}, not {found[place]:.4f}"
        for advice, wrong in usual.items():
            assert abs(found[place] - wrong[place]) > 1e-6, f"{where}; {advice}"
        raise AssertionError(where)
