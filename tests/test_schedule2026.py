"""The schedules of 2026 at all their corners, what depth sets, and the exercise on them."""

import math
import re

import pytest

from course_lib.classroom.exercises import nanochat2026 as exercises
from course_lib.train.schedule2026 import (
    batch_size_2026,
    decay_2026,
    lr_multiplier_2026,
    muon_momentum_2026,
    rate_scale,
    weight_decay_2026,
)


@pytest.mark.parametrize(
    "n, options, expected",
    [
        # 65 % of 1,000: up to and including step 350 it is 1
        (
            1000,
            {},
            {0: 1 / 40, 1: 2 / 40, 38: 39 / 40, 39: 1, 40: 1, 350: 1, 351: 1 - 0.95 / 650, 675: 0.525, 1000: 0.05},
        ),
        (1000, {"warmup_steps": 0}, {0: 1, 350: 1, 1000: 0.05}),
        (1000, {"warmdown_ratio": 0.0}, {0: 1 / 40, 40: 1, 1000: 1}),
        (1000, {"warmdown_ratio": 1.0}, {39: 1, 40: 0.05 + 0.95 * 0.96, 500: 0.525, 1000: 0.05}),
        (1000, {"final_lr_frac": 0.0}, {350: 1, 675: 0.5, 1000: 0}),
        (1000, {"final_lr_frac": 1.0}, {39: 1, 999: 1}),
        # the start is looked at first, even where the warmdown has begun
        (50, {}, {0: 1 / 40, 30: 31 / 40, 39: 1, 40: 0.05 + 0.95 * 10 / 32, 50: 0.05}),
        (10, {}, {0: 1 / 40, 9: 10 / 40, 10: 11 / 40}),
        (41, {}, {39: 1, 40: 0.05 + 0.95 / 27, 41: 0.05}),
        # 0.65 · 103 = 66.95 steps are 67, 0.65 · 50 = 32.5 are 32
        (103, {}, {36: 37 / 40, 40: 0.05 + 0.95 * 63 / 67, 103: 0.05}),
    ],
)
def test_the_multiplier_is_that_of_a_table_written_by_hand(n, options, expected):
    for it, value in expected.items():
        assert lr_multiplier_2026(it, n, **options) == pytest.approx(value, abs=1e-12), f"step {it}"


@pytest.mark.parametrize(
    "n, ratio, expected",
    [
        (5000, 0.65, {0: 0.85, 1: 0.8503, 200: 0.91, 399: 0.85 + 0.12 * 399 / 400, 400: 0.97, 1750: 0.97}),
        (5000, 0.65, {1751: 0.97 - 0.07 / 3250, 3375: 0.935, 5000: 0.90}),
        (400, 0.65, {140: 0.892, 399: 0.85 + 0.12 * 399 / 400, 400: 0.90}),  # the ramp is looked at first
        (1000, 0.65, {399: 0.85 + 0.12 * 399 / 400, 400: 0.97 - 0.07 * 50 / 650, 1000: 0.90}),
        (1000, 0.0, {400: 0.97, 1000: 0.97}),
        (1000, 1.0, {400: 0.97 - 0.028, 1000: 0.90}),
        (1, 0.65, {0: 0.85, 1: 0.8503}),
    ],
)
def test_the_momentum_is_that_of_a_table_written_by_hand(n, ratio, expected):
    for it, value in expected.items():
        assert muon_momentum_2026(it, n, ratio) == pytest.approx(value, abs=1e-12), f"step {it}"


def test_the_decay_is_half_a_cosine():
    for it, value in {0: 1, 250: 0.5 + math.sqrt(0.5) / 2, 500: 0.5, 750: 0.5 - math.sqrt(0.5) / 2, 1000: 0}.items():
        assert weight_decay_2026(it, 1000) == pytest.approx(value, abs=1e-12)


def scaling_parameters(depth):
    """Blocks with the gates of their value embeddings, and lm_head, at a vocabulary of 2^15."""
    width = math.ceil(depth / 2) * 128
    heads = width // 128
    return depth * (4 * width**2 + 2 * 4 * width**2) + math.ceil(depth / 2) * heads * 12 + 2**15 * width


@pytest.mark.parametrize(
    "depth, power", [(8, 18), (10, 19), (12, 19), (16, 19), (20, 20), (26, 20), (32, 21), (50, 21)]
)
def test_the_batch_grows_with_depth_as_nanochat_says(depth, power):
    tokens, tokens_12 = 12 * scaling_parameters(depth), 12 * scaling_parameters(12)
    B = batch_size_2026(tokens, tokens_12)
    assert B == 2**power and isinstance(B, int)
    assert rate_scale(B) == pytest.approx(2 ** ((power - 19) / 2))
    assert decay_2026(B, tokens, tokens_12) == pytest.approx(0.28 * 2 ** ((power - 19) / 2) * tokens_12 / tokens)


def test_at_a_depth_of_12_nothing_is_scaled():
    assert (batch_size_2026(1e9, 1e9), rate_scale(2**19), decay_2026(2**19, 1e9, 1e9)) == (2**19, 1.0, 0.28)
    assert batch_size_2026(2 ** (1.55 / 0.383), 1) == 2**21 and batch_size_2026(2 ** (1.45 / 0.383), 1) == 2**20


# ---- the exercise


def answer(it, n, warmup=40, ramp=400, late=0, least=min, final=0.05, low=0.90, whole=round):
    warmdown = whole(0.65 * n)
    over = max(0, it - late - (n - warmdown)) / warmdown
    rise, climb = min((it + 1) / warmup, 1), min(0.85 + 0.12 * it / ramp, 0.97)
    return least(rise, 1 - (1 - final) * over), least(climb, 0.97 - (0.97 - low) * over)


def test_the_right_answer_is_accepted():
    assert "Draw it" in exercises.schedule(answer)
    exercises.schedule(lambda it, n: list(answer(it, n)))


@pytest.mark.parametrize(
    "wrong, said",
    [
        (lambda it, n: None, "return"),
        (lambda it, n: answer(it, n)[0], "expected a pair"),
        (lambda it, n: (lr_multiplier_2026(it, n), muon_momentum_2026(it, n)), "the start must not win"),
        (lambda it, n: answer(it, n, least=max), "the larger of the two lines"),
        (lambda it, n: (min(it / 40, answer(it, n)[0]), answer(it, n)[1]), "one step late"),
        (lambda it, n: answer(it, n, final=0.0), "not to 0.05"),
        (lambda it, n: answer(it, n, ramp=40), "takes 400 steps"),
        (lambda it, n: answer(it, n, low=0.85), "not back to 0.85"),
        (lambda it, n: answer(it, n)[::-1], "swapped"),
        (lambda it, n: answer(it, n, whole=int), "of 103"),
        (lambda it, n: answer(it, n, late=1), "should be"),
        (lambda it, n: (answer(it, n)[0], 0.95), "the momentum should be"),
    ],
)
def test_wrong_answers_are_refused_with_the_likely_mistake(wrong, said):
    with pytest.raises(AssertionError, match=re.escape(said)):
        exercises.schedule(wrong)
