"""The checks of the exercises of chapter 10: right answers pass, and the message for a wrong one teaches."""

import math
import random
from functools import partial

import pytest
from mlx.utils import tree_map

from course_lib.classroom.exercises import training as exercises

# ---- 10.1: unequal micro-batches


def weighted(parts, weigh, divide=lambda counts: max(sum(counts), 1), gradients=True):
    """Loss and gradients with a weight for each part, made of its count."""
    by = divide([count for count, _, _ in parts])
    shares = [weigh(count) / by for count, _, _ in parts]
    loss = sum(share * loss for share, (_, loss, _) in zip(shares, parts, strict=True))
    own = shares if gradients else [1 / len(parts)] * len(parts)
    scaled = [tree_map(lambda g, s=s: s * g, g) for s, (_, _, g) in zip(own, parts, strict=True)]
    total = scaled[0]
    for each in scaled[1:]:
        total = tree_map(lambda a, b: a + b, total, each)
    return loss, total


right_batch = partial(weighted, weigh=float)


def only_where_something_counts(parts):
    kept = [part for part in parts if part[0]]
    return right_batch(kept) if kept else (0.0, {})


# ---- 10.2: name the fault


def right_fault(training, unseen, sound_training, sound_unseen, last=-1, allow=0.5):
    if not math.isfinite(sum(training)):
        return "rates too high"
    if max(training) - min(training) < 0.05:
        return "nothing moves"
    if training[last] > sound_training[last] + allow:
        return "rates too high" if training[0] > sound_training[0] + 1 else "rates too low"
    if training[last] < sound_training[last] - allow:
        return "leak" if unseen[last] < sound_unseen[last] - allow else "few texts"
    return "none"


def without_nan(training, *others):
    """Compares only: NaN is neither above nor below."""
    return right_fault([loss for loss in training if math.isfinite(loss)], *others)


def by_the_end(training, *others):
    """Where a run ends does not tell too low from too high."""
    return {"rates too high": "rates too low"}.get(found := right_fault(training, *others), found)


def by_training_alone(training, unseen, sound_training, sound_unseen):
    return right_fault(training, training, sound_training, sound_training)


def any_rise(training, unseen, *sound):
    """Takes a single high loss for rates that are too high."""
    rises = max(b - a for a, b in zip(training, training[1:], strict=False))
    return "rates too high" if rises > 1 else right_fault(training, unseen, *sound)


def swapped(*curves):
    other = {"few texts": "leak", "leak": "few texts"}
    return other.get(right_fault(*curves), right_fault(*curves))


def changing(training, *others):
    training.sort(reverse=True)
    return right_fault(training, *others)


# ---- 10.3: forget nothing

NAMES = ("weight", "momentum", "iteration", "place", "lowest")


def pack(run, names=NAMES):
    return {name: getattr(run, name) for name in names} | {"random": run.random.getstate()}


def unpack(packed, tuples=True):
    run = exercises.ToyRun(seed=0)
    for name, value in packed.items():
        if name != "random":
            setattr(run, name, value)
    if "random" in packed:
        version, numbers, gauss = packed["random"]
        run.random.setstate((version, tuple(numbers) if tuples else numbers, gauss))
    return run


def drawing(run):
    return pack(run) | {"seed": run.random.random()}


def without(name):
    return partial(pack, names=[other for other in NAMES if other != name])


def of_the_seed(packed):
    run = unpack({name: value for name, value in packed.items() if name != "random"})
    run.random = random.Random(0)
    return run


@pytest.mark.parametrize(
    ("test", "answers"),
    [
        (exercises.whole_batch, [right_batch]),
        (exercises.name_fault, [right_fault]),
        (exercises.name_fault, [partial(right_fault, allow=0.4)]),
        (exercises.forget_nothing, [pack, unpack]),
    ],
)
def test_right_answers_are_accepted(test, answers):
    test(*answers)


@pytest.mark.parametrize(
    ("test", "answers", "said"),
    [
        (exercises.whole_batch, [lambda parts: None], "return"),
        (exercises.whole_batch, [partial(weighted, weigh=lambda n: 1, divide=len)], "plain mean of three means"),
        (exercises.whole_batch, [partial(weighted, weigh=bool, divide=lambda n: max(1, sum(map(bool, n))))], "two"),
        (exercises.whole_batch, [partial(weighted, weigh=float, divide=lambda n: 1)], "divide by their number"),
        (exercises.whole_batch, [partial(weighted, weigh=float, gradients=False)], "gradient of w is the plain mean"),
        (exercises.whole_batch, [partial(weighted, weigh=float, divide=sum)], "divides by 0"),
        (exercises.whole_batch, [only_where_something_counts], "still have their names"),
        (exercises.name_fault, [lambda *curves: None], "return"),
        (exercises.name_fault, [lambda *curves: "none"], "you said 'none'"),
        (exercises.name_fault, [lambda *curves: right_fault(*curves).upper()], "expected one of none"),
        (exercises.name_fault, [without_nan], "whose losses are nan"),
        (exercises.name_fault, [by_the_end], "its first losses are far above"),
        (exercises.name_fault, [by_training_alone], "its unseen loss above it"),
        (exercises.name_fault, [any_rise], "one strange text"),
        (exercises.name_fault, [swapped], "is 'few texts', and you said 'leak'"),
        (exercises.name_fault, [changing], "leave the lists"),
        (exercises.name_fault, [partial(right_fault, last=0)], "you said"),
        (exercises.name_fault, [partial(right_fault, allow=0.0)], "you said"),
        (exercises.forget_nothing, [lambda run: None, unpack], "return"),
        (exercises.forget_nothing, [lambda run: run, unpack], "json.dumps cannot write"),
        (exercises.forget_nothing, [drawing, unpack], "pack drew random numbers"),
        (exercises.forget_nothing, [pack, partial(unpack, tuples=False)], "json.loads gave back"),
        (exercises.forget_nothing, [pack, of_the_seed], "save their state, not only the seed"),
        *((exercises.forget_nothing, [without(name), unpack], f"steps {name} was") for name in NAMES),
    ],
)
def test_wrong_answers_are_told_why(test, answers, said):
    with pytest.raises(AssertionError, match=said):
        test(*answers)
