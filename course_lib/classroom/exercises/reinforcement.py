"""Checks for the exercises of notebook 15."""

import math
from collections.abc import Callable

import mlx.core as mx

RETURN = "nothing came back: the function needs a return"


def _close(found: list, expected: list) -> bool:
    return all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(found, expected, strict=True))


def advantages_of_others(answer: Callable) -> str:
    """Exercise 15.1: each reward compared with the mean of the others."""
    given = [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 2.0], [1.0]]
    kept = [list(group) for group in given]
    found = answer(given)
    assert found is not None, RETURN
    assert given == kept, "the groups that were given have changed; make new lists"
    lengths = [len(each) if hasattr(each, "__len__") else 0 for each in found]
    assert lengths == [3, 4, 2, 1], "give back a list for each group, as long as the group"
    found = [[float(each) for each in group] for group in found]
    assert not any(math.isnan(each) for group in found for each in group), (
        "NaN: a group of equals has a spread of 0, and dividing by it is no advantage; nothing is to be divided here"
    )
    first = found[0]
    own_included = [2 / 3, -1 / 3, -1 / 3]
    assert not _close(first, own_included), (
        "[1, 0, 0] gives [2/3, -1/3, -1/3]: the reply itself is in that mean; compare with the others only"
    )
    of_n = [1.0 - 0.0, -1 / 3, -1 / 3]
    assert not _close(first, of_n), "for [1, 0, 0] you divide the sum of the others by 3, but the others are 2"
    assert _close(first, [1.0, -0.5, -0.5]), f"[1, 0, 0] gives [1, -0.5, -0.5], not {first}"
    assert _close(found[1], [0.0] * 4), (
        f"a group of equals teaches nothing: zeros, not {found[1]}; is the mean that of its own group?"
    )
    assert _close(found[2], [-2.0, 2.0]), f"[0, 2] gives [-2, 2], not {found[2]}: each is compared with the other one"
    assert _close(found[3], [0.0]), f"a reply without others has nothing to be compared with: 0, not {found[3][0]}"
    return "By what factor do they differ from reward minus mean, in a group of 8?"


def pass_at_k(answer: Callable) -> str:
    """Exercise 15.2: at least one of k, on average over the questions."""
    found = answer([4, 0], 4, 2)
    assert found is not None, RETURN
    assert not isinstance(found, list), "return one number, the mean over the questions"
    assert not math.isclose(found, 1 - math.comb(4, 2) / math.comb(8, 2)) and not math.isclose(found, 0.75), (
        "4 of 4 right and 0 of 4 right: one question is always solved and the other never, so half; do not add up the "
        "counts before"
    )
    assert math.isclose(found, 0.5), f"one question always solved, the other never: 0.5, not {found:.3g}"
    found = answer([2], 4, 2)
    assert not math.isclose(found, 0.75), "a reply is picked once at most: 1 - (1 - c/n)**k picks with replacement"
    assert math.isclose(found, 5 / 6), (
        f"of the 6 pairs of 4 replies, 5 have one of the 2 right ones: 5/6, not {found:.3g}"
    )
    assert math.isclose(answer([1, 2, 0, 5], 8, 1), 8 / 32), "pass@1 is the share of all replies that are right"
    assert math.isclose(answer([1, 2, 0, 5], 8, 8), 3 / 4), (
        "with k = n it is the share of questions with any right reply"
    )
    assert math.isclose(answer([6, 8], 8, 3), 1.0), "with fewer wrong replies than picks one is always right"
    expected = (1 - math.comb(197, 50) / math.comb(200, 50)) / 2
    assert math.isclose(answer([3, 0], 200, 50), expected), f"3 and 0 of 200 right, k = 50: {expected:.4f}"
    return "Try it on the counts of section 6: where do the curves before and after meet?"


def short_reward(answer: Callable) -> str:
    """Exercise 15.3: a reward for being short that breaks nothing."""
    longest = 32
    right = [answer(True, tokens, longest) for tokens in range(1, longest + 1)]
    wrong = [answer(False, tokens, longest) for tokens in range(1, longest + 1)]
    assert None not in right + wrong, RETURN
    assert all(math.isclose(each, wrong[0], abs_tol=1e-12) for each in wrong), (
        f"a wrong reply of 1 token gets {wrong[0]:.2f}, one of {longest} tokens {wrong[-1]:.2f}: in a group without a "
        "right reply the model learns to be wrong in few words"
    )
    assert all(a > b for a, b in zip(right, right[1:], strict=False)), (
        "of two right replies the shorter one must get more, each time"
    )
    assert min(right) > max(wrong), "a right reply, however long, must get more than a wrong one"
    head = 0.4 * answer(True, 6, longest) + 0.6 * answer(False, 6, longest)
    tool = 0.95 * answer(True, 24, longest) + 0.05 * answer(False, 24, longest)
    assert tool > head, (
        f"the answer in the head pays {head:.2f} and the tool {tool:.2f}: the model would unlearn the tool"
    )
    for span in (longest, 200):
        for share in (0.2, 0.5, 0.8):
            short = share * answer(True, 1, span) + (1 - share) * answer(False, 1, span)
            long = (share + 0.2) * answer(True, span, span) + (0.8 - share) * answer(False, span, span)
            assert long > short, (
                f"right in {share:.0%} with 1 token pays {short:.3f}, right in {share + 0.2:.0%} with {span} tokens "
                f"{long:.3f}; take less off for length"
            )
    return "What would happen to a model whose replies are all right already?"


def _sound(log_p, mask, advantages):
    return -(log_p * mask * advantages[:, None]).sum() / mask.sum()


def _over_all(log_p, mask, advantages):
    return -(log_p * mask * advantages[:, None]).mean()


def _by_reply(log_p, mask, advantages):
    return -(((log_p * mask).sum(axis=1) / mask.sum(axis=1)) * advantages).mean()


def _no_mask(log_p, mask, advantages):
    return -(log_p * advantages[:, None]).mean()


def _one_late(log_p, mask, advantages):
    late = mx.concatenate([mx.ones((len(mask), 1)), mask[:, :-1]], axis=1)
    return -(log_p * late * advantages[:, None]).sum() / mask.sum()


def _praise_only(log_p, mask, advantages):
    used = mx.where(advantages[:, None] > 0, mask, 1)
    return -(log_p * used * advantages[:, None]).sum() / mask.sum()


def _blame_only(log_p, mask, advantages):
    used = mx.where(advantages[:, None] < 0, mask, 1)
    return -(log_p * used * advantages[:, None]).sum() / mask.sum()


def _first_row(log_p, mask, advantages):
    used = mx.concatenate([mask[:1], mx.ones(mask[1:].shape)])
    return -(log_p * used * advantages[:, None]).sum() / mask.sum()


SOUND = {
    "the one of the chapter": _sound,
    "one that divides by the number of all tokens": _over_all,
    "one that takes the mean of each reply first": _by_reply,
}
FAULTY = {
    "forgets the mask": _no_mask,
    "uses the mask one place too late": _one_late,
    "masks only replies that are praised": _praise_only,
    "masks only replies that are blamed": _blame_only,
    "masks only the first row": _first_row,
}


def trains_forced(answer: Callable) -> str:
    """Exercise 15.4: a test that finds the fault."""
    found = answer(_no_mask)
    assert found is not None, RETURN
    for what, loss in SOUND.items():
        found = answer(loss)
        found = found.item() if isinstance(found, mx.array) else found
        assert not found, (
            f"a sound loss is accused: {what}. Whatever number it gives, no log p of a forced token has an influence"
        )
    for what, loss in FAULTY.items():
        found = answer(loss)
        found = found.item() if isinstance(found, mx.array) else found
        assert found, f"one gets away that {what}; ask with several rows, advantages of both signs, and other places"
    return "tests/test_reinforcement.py asks `policy_loss` the same"
