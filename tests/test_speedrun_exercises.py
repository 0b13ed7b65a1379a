"""The checks of the exercises of chapter 18: right answers pass, and the message for a wrong one teaches."""

import math

import pytest

from course_lib.classroom.exercises import speedrun as exercises
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token
from course_lib.pipeline.plan import SIZE

# ---- 18.1: by luck?


def counts(first, second):
    pairs = list(zip(first, second, strict=True))
    return pairs.count(("0", "1")), pairs.count(("1", "0"))


def tail(n, k):
    return sum(math.comb(n, j) for j in range(k + 1)) / 2**n


def by_luck(first, second):
    gained, lost = counts(first, second)
    return gained, lost, min(1.0, 2 * tail(gained + lost, min(gained, lost)))


def from_the_other_side(first, second):
    gained, lost = counts(first, second)
    n, most = gained + lost, max(gained, lost)
    return gained, lost, min(1, 2 * sum(math.comb(n, j) for j in range(most, n + 1)) / 2**n)


def chance(formula):
    """An answer with right counts and the formula's chance, of gained and lost."""
    return lambda first, second: (*counts(first, second), formula(*counts(first, second)))


def shorter(first, second):
    return by_luck(first[: len(second)], second[: len(first)])


WRONG_LUCK = {
    "needs a return": lambda first, second: None,
    r"return \(gained, lost, chance\)": lambda first, second: by_luck(first, second)[2],
    "other way round": lambda first, second: by_luck(second, first),
    "you count 8": lambda first, second: (second.count("1"), second.count("0"), 0.5),
    "one side only": chance(lambda g, b: tail(g + b, min(g, b))),
    "exactly this split;": chance(lambda g, b: math.comb(g + b, g) / 2 ** (g + b)),
    "mirror image": chance(lambda g, b: 2 * math.comb(g + b, g) / 2 ** (g + b)),
    "normal curve": chance(lambda g, b: math.erfc(abs(g - b) / math.sqrt(2 * max(1, g + b)))),
    "the split itself": chance(lambda g, b: 2 * tail(g + b, min(g, b) - 1) if g != b else 1.0),
    "does \\*not\\* do it": chance(lambda g, b: 1 - min(1, 2 * tail(g + b, min(g, b)))),
    "take at most 1": chance(lambda g, b: 2 * tail(g + b, min(g, b))),
    "are no coins": lambda first, second: (
        *counts(first, second),
        min(1, 2 * tail(len(first), min(counts(first, second)))),
    ),
    "not the same questions": shorter,
}


@pytest.mark.parametrize("answer", [by_luck, from_the_other_side])
def test_right_chances_pass(answer):
    assert "by luck" in exercises.by_luck(answer)


@pytest.mark.parametrize(("said", "answer"), WRONG_LUCK.items(), ids=WRONG_LUCK)
def test_a_wrong_chance_is_told_why(said, answer):
    with pytest.raises(AssertionError, match=said):
        exercises.by_luck(answer)


# ---- 18.2: how many minutes?


def minutes(depth, ratio, speed, share, slower=1, size=SIZE, per=60):
    config, known = GPTConfig.from_depth(depth, **size), GPTConfig.from_depth(4, **size)
    seconds = ratio * count_parameters(config) / speed * (flops_per_token(config) / flops_per_token(known)) ** slower
    return seconds / share / per


WRONG_MINUTES = {
    "needs a return": lambda *flags: None,
    "return a number": lambda *flags: "5 minutes",
    "training alone": lambda depth, ratio, speed, share: minutes(depth, ratio, speed, 1),
    "divide by it": lambda depth, ratio, speed, share: minutes(depth, ratio, speed, 1 / share),
    "in seconds": lambda *flags: minutes(*flags, per=1),
    "by its FLOPs": lambda *flags: minutes(*flags, slower=0),
    "fewer tokens a second": lambda *flags: minutes(*flags, slower=-1),
    "for each parameter": lambda depth, ratio, speed, share: minutes(depth, 1 / ratio, speed, share),
    "are narrow": lambda *flags: minutes(*flags, size={}),
    "depth 4 at 1000": lambda *flags: minutes(*flags) + 1,
}


def test_the_right_minutes_pass():
    assert "depth of 12" in exercises.minutes_needed(minutes)


@pytest.mark.parametrize(("said", "answer"), WRONG_MINUTES.items(), ids=WRONG_MINUTES)
def test_wrong_minutes_are_told_why(said, answer):
    with pytest.raises(AssertionError, match=said):
        exercises.minutes_needed(answer)


# ---- 18.3: once


def once(folder, name, work):
    marker, part = folder / name, folder / f"{name}.part"
    if not marker.exists():
        part.write_text(work())
        part.rename(marker)
    return marker.read_text()


def marked_first(folder, name, work):
    marker = folder / name
    if marker.exists():
        return marker.read_text()
    marker.write_text("")
    text = work()
    marker.write_text(text)
    return text


def written_in_place(folder, name, work):
    marker = folder / name
    if not marker.exists():
        marker.write_text(work())
    return marker.read_text()


def written_by_open(folder, name, work):
    marker = folder / name
    if not marker.exists():
        text = work()
        with marker.open("w") as file:
            file.write(text)
    return marker.read_text()


def always(folder, name, work):
    return work()


def done_in_name_only(folder, name, work):
    marker = folder / name
    if marker.exists():
        return "done before"
    text = work()
    marker.touch()
    return text


def one_for_all(folder, name, work):
    return once(folder, "done", work)


def caught(folder, name, work):
    def safe():
        try:
            return work()
        except BaseException:
            return ""

    return once(folder, name, safe)


def worked_twice(folder, name, work):
    if (folder / name).exists():
        return once(folder, name, work)
    once(folder, name, work)
    return work()


WRONG_ONCE = {
    "nothing came back": lambda folder, name, work: once(folder, name, work) and None,
    "write the marker last": marked_first,
    "under another name": written_in_place,
    "Path.write_text": written_by_open,
    "a later call must not work again": always,
    "return what it returned then": done_in_name_only,
    "another stage is not done": one_for_all,
    "as if nothing had happened": caught,
    "called 2 times": worked_twice,
}


def test_a_stage_that_is_done_once_passes():
    assert exercises.once(once)


@pytest.mark.parametrize(("said", "answer"), WRONG_ONCE.items(), ids=WRONG_ONCE)
def test_a_stage_that_is_not_done_once_is_told_why(said, answer):
    with pytest.raises(AssertionError, match=said):
        exercises.once(answer)
