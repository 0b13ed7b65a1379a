"""The checks of the exercises of chapter 15: right answers pass, and the message for a wrong one teaches."""

import math
from statistics import pstdev

import mlx.core as mx
import pytest

from course_lib.classroom.exercises import reinforcement as exercises

pytestmark = pytest.mark.usefixtures("float32")


def of_others(groups, own=False, count=1, over_all=False, spread=False, alone=0.0):
    """Advantages, with the mistakes one can make."""
    everything = [reward for group in groups for reward in group]
    found = []
    for group in groups:
        pool = everything if over_all else group
        if len(group) == 1:
            found.append([alone])
            continue
        each = []
        for reward in group:
            mean = sum(pool) / len(pool) if own else (sum(pool) - reward) / (len(pool) - count)
            by = pstdev(group) if spread else 1
            each.append((reward - mean) / by if by else math.nan)
        found.append(each)
    return found


def in_place(groups):
    for n, group in enumerate(of_others(groups)):
        groups[n] = group
    return groups


def at_least_one(counts, n, k, pooled=False, replace=False, largest=False, least=False):
    if pooled:
        right, every = sum(counts), n * len(counts)
        return 1 - math.comb(every - right, k) / math.comb(every, k)
    if replace:
        return sum(1 - (1 - c / n) ** k for c in counts) / len(counts)
    if largest:
        return sum(c > 0 for c in counts) / len(counts)
    if least:
        return sum(math.comb(c, k) / math.comb(n, k) for c in counts) / len(counts)
    return sum(1 - math.comb(n - c, k) / math.comb(n, k) for c in counts) / len(counts)


def by_product(counts, n, k):
    """The same without large numbers, as one finds it in papers."""
    found = 0.0
    for c in counts:
        found += 1.0 if n - c < k else 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))
    return found / len(counts)


ROWS = -mx.array([[0.5, 1.0, 2.0, 0.3], [0.2, 1.5, 0.7, 0.9], [1.1, 0.4, 0.6, 0.8]])
MASK = mx.array([[1.0, 0, 0, 1], [1, 1, 0, 1], [0, 1, 1, 1]])
BOTH = mx.array([0.75, -0.5, 0.25])


def by_slope(loss, log_p=ROWS, mask=MASK, advantages=BOTH):
    slope = mx.grad(loss)(log_p, mask, advantages)
    return bool(((slope != 0) * (mask == 0)).any().item())


def by_change(loss):
    """Another number for the forced tokens, another loss?"""
    return not math.isclose(loss(ROWS, MASK, BOTH).item(), loss(ROWS - 3 * (1 - MASK), MASK, BOTH).item(), rel_tol=1e-5)


def by_one_row(loss):
    return by_slope(loss, ROWS[:1], MASK[:1], BOTH[:1])


def by_praise(loss):
    return by_slope(loss, advantages=mx.abs(BOTH))


def by_blame(loss):
    return by_slope(loss, advantages=-mx.abs(BOTH))


def by_formula(loss):
    """Compares with what the loss should be, by another mean."""
    should = -(ROWS * MASK * BOTH[:, None]).sum() / MASK.sum()
    return not math.isclose(loss(ROWS, MASK, BOTH).item(), should.item(), rel_tol=1e-4)


def by_all_masked(loss):
    return by_slope(loss, mask=mx.ones(MASK.shape))


def by_forced_end(loss):
    """Forced tokens at the end of each row: the one place late looks the same."""
    mask = mx.array([[1.0, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]])
    return by_slope(loss, mask=mask, advantages=mx.abs(BOTH))


def by_own_slope(loss):
    return bool((mx.grad(loss)(ROWS, MASK, BOTH) != 0).any().item())


@pytest.mark.parametrize(
    ("test", "answer"),
    [
        (exercises.advantages_of_others, of_others),
        (exercises.pass_at_k, at_least_one),
        (exercises.pass_at_k, by_product),
        (exercises.short_reward, lambda right, tokens, longest: right * (1 - 0.1 * tokens / longest)),
        (exercises.short_reward, lambda right, tokens, longest: 10 - tokens / longest if right else -3),
        (exercises.trains_forced, by_slope),
        (exercises.trains_forced, by_change),
    ],
)
def test_right_answers_pass(test, answer):
    test(answer)


@pytest.mark.parametrize(
    ("test", "answer", "said"),
    [
        (exercises.advantages_of_others, lambda groups: None, "needs a return"),
        (
            exercises.advantages_of_others,
            lambda groups: of_others(groups, own=True),
            "the reply itself is in that mean",
        ),
        (exercises.advantages_of_others, lambda groups: of_others(groups, count=0), "the others are 2"),
        (exercises.advantages_of_others, lambda groups: of_others(groups, over_all=True), "[1, 0, 0] gives"),
        (exercises.advantages_of_others, lambda groups: of_others(groups, spread=True), "NaN"),
        (exercises.advantages_of_others, lambda groups: of_others(groups, alone=1.0), "nothing to be compared with"),
        (exercises.advantages_of_others, lambda groups: sum(of_others(groups), []), "a list for each group"),
        (exercises.advantages_of_others, in_place, "make new lists"),
        (exercises.pass_at_k, lambda *_: None, "needs a return"),
        (exercises.pass_at_k, lambda *a: at_least_one(*a, pooled=True), "do not add up the counts"),
        (exercises.pass_at_k, lambda *a: at_least_one(*a, replace=True), "picks with replacement"),
        (exercises.pass_at_k, lambda *a: at_least_one(*a, largest=True), "5 have one of the 2 right ones"),
        (exercises.pass_at_k, lambda *a: at_least_one(*a, least=True), "5 have one of the 2 right ones"),
        (exercises.pass_at_k, lambda counts, n, k: [at_least_one([c], n, k) for c in counts], "one number"),
        (exercises.short_reward, lambda *_: None, "needs a return"),
        (exercises.short_reward, lambda right, tokens, longest: right - tokens / longest, "wrong in few words"),
        (exercises.short_reward, lambda right, tokens, longest: right / tokens, "would unlearn the tool"),
        (exercises.short_reward, lambda right, tokens, longest: right * (1 - 0.5 * tokens / longest), "take less off"),
        (exercises.short_reward, lambda right, tokens, longest: float(right), "the shorter one must get more"),
        (
            exercises.short_reward,
            lambda right, tokens, longest: right * (1 - tokens / longest),
            "must get more than a wrong one",
        ),
        (exercises.short_reward, lambda right, tokens, longest: right * (1 + tokens / longest), "the shorter one"),
        (exercises.trains_forced, lambda loss: None, "needs a return"),
        (exercises.trains_forced, lambda loss: True, "a sound loss is accused"),
        (exercises.trains_forced, lambda loss: False, "forgets the mask"),
        (exercises.trains_forced, by_one_row, "masks only replies that are praised"),
        (exercises.trains_forced, by_praise, "masks only replies that are praised"),
        (exercises.trains_forced, by_blame, "masks only replies that are blamed"),
        (exercises.trains_forced, by_formula, "divides by the number of all tokens"),
        (exercises.trains_forced, by_all_masked, "forgets the mask"),
        (exercises.trains_forced, by_forced_end, "masks only replies that are praised"),
        (exercises.trains_forced, by_own_slope, "a sound loss is accused"),
    ],
)
def test_wrong_answers_are_told_why(test, answer, said):
    with pytest.raises(AssertionError) as caught:
        test(answer)
    assert said in str(caught.value)
