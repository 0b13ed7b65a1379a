"""The checks of the exercises of chapter 21: right answers pass, and the message for a wrong one teaches."""

import mlx.core as mx
import pytest

from course_lib.classroom.exercises import nanochat2026


def right_window(queries, keys, W, least=0, most=0):
    back = queries[:, None] - keys
    return (back >= least) & (back <= W + most)


def test_window_accepts_a_right_answer():
    assert "513" in nanochat2026.window(right_window)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda q, k, W: None, "return"),
        (lambda q, k, W: right_window(q, k, W, most=-1), "W \\+ 1"),
        (lambda q, k, W: right_window(q, k, W, most=1), "3 before it; at most 2"),
        (lambda q, k, W: right_window(q, k, W, least=-1), "comes after it"),
        (lambda q, k, W: right_window(q, k, W, least=1), "lies in its window"),
        (lambda q, k, W: mx.abs(q[:, None] - k) <= W, "comes after it"),
        (lambda q, k, W: right_window(q, k, W).T, "comes after it|shape"),
        (lambda q, k, W: right_window(q, k, W).astype(mx.float32), "True and False"),
        (lambda q, k, W: right_window(mx.arange(len(q)), mx.arange(len(k)), W), "at most 3 may be"),
    ],
)
def test_window_says_what_is_wrong(wrong, words):
    with pytest.raises(AssertionError, match=words):
        nanochat2026.window(wrong)


def right_smear(e, gates, last, start=None, keep=lambda e, out: e[-1]):
    first = mx.zeros(e[:1].shape) if last is None else last[None]
    out = e + gates * mx.concatenate([first, e[:-1]])
    return out, keep(e, out)


def chained(e, gates, last):
    rows, before = [], last if last is not None else mx.zeros(e.shape[1])
    for row, gate in zip(e, gates, strict=True):
        before = row + gate * before
        rows.append(before)
    return mx.stack(rows), e[-1]


def test_smear_accepts_a_right_answer():
    assert "chunks" in nanochat2026.smear(right_smear)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda e, g, last: None, "return"),
        (lambda e, g, last: right_smear(e, g, last)[0], "pair"),
        (lambda e, g, last: right_smear(e, g, None), "not smeared"),
        (lambda e, g, last: right_smear(e, g, last, keep=lambda e, out: out[-1]), "smeared already"),
        (lambda e, g, last: right_smear(e, g, last, keep=lambda e, out: e[0]), "another one"),
        (lambda e, g, last: right_smear(e, g, last, keep=lambda e, out: e[-1:]), "shape"),
        (chained, "unsmeared one before"),
        (lambda e, g, last: (e + g * mx.roll(e, 1, axis=0), e[-1]), "stays as it is"),
        (lambda e, g, last: (e * g, e[-1]), "stays as it is|unsmeared"),
    ],
)
def test_smear_says_what_is_wrong(wrong, words):
    with pytest.raises(AssertionError, match=words):
        nanochat2026.smear(wrong)
