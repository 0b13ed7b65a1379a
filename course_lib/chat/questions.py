"""Where the questions of tasks come from: lessons, blind questions, and data sets of the hub.

Written by hand; chapter 14 uses it.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from course_lib.chat.corpora import rows
from course_lib.chat.lessons import KINDS, blind_questions, lesson
from course_lib.chat.sources import FROM_HUB
from course_lib.host.errors import CourseError

LESSONS = 200  # questions of a kind
DOWNLOADED_TASKS = ("gsm8k", "mmlu", "arc-easy", "arc-challenge")


class Questions(NamedTuple):
    """How many there are; the conversation of each, by number; and, of a multiple choice, its letters."""

    count: int
    conversation: Callable[[int], list[dict]]
    letters_of: Callable[[int], tuple[str, ...]] = lambda number: ()


def lesson_tasks() -> list[str]:
    """Names of the tasks that need no download: each kind of lesson, and its blind questions."""
    blind = {each["kind"] for each in blind_questions()}
    return [*KINDS, *(f"blind-{kind}" for kind in KINDS if kind in blind)]


def questions(name: str, split: str = "test") -> Questions:
    """The questions of a task: one of `lesson_tasks()`, or of DOWNLOADED_TASKS, which are fetched once.

    split: "train" or "test"; the two have no question in common. Blind questions are for tests. Raises CourseError for
    any other name or split, and when a data set cannot be had.
    """
    known = [*lesson_tasks(), *DOWNLOADED_TASKS]
    if name not in known:
        raise CourseError(f"no task is called {name!r}, expected one of {', '.join(known)}")
    kind = name.removeprefix("blind-")
    splits = ("test",) if name != kind else ("train", "test")
    if split not in splits:
        raise CourseError(f"{name} has no split {split!r}, expected {' or '.join(splits)}")
    if name in KINDS:
        return Questions(LESSONS, partial(lesson, name, split))
    if name in DOWNLOADED_TASKS:
        return _from_hub(name, split)
    blind = [
        [{"role": "user", "content": each["question"]}, {"role": "assistant", "content": each["answer"]}]
        for each in blind_questions()
        if each["kind"] == kind
    ]
    return Questions(len(blind), blind.__getitem__)


def commonest_share(said: Sequence[str], is_right: Callable[[str, str], bool]) -> float:
    """The share that is right when every reply is the commonest of the right answers `said`: guessing, in writing.

    0 where all of them are the same, as nothing could be better than such a guess.
    """
    commonest = max(said, key=Counter(said).__getitem__)
    share = sum(is_right(each, commonest) for each in said) / len(said)
    return share if share < 1 else 0.0


def _from_hub(name: str, split: str) -> Questions:
    """Shuffled, always in the same way, so that the first hundred are a fair sample."""
    items = rows(name, split)
    order = random.Random(42).sample(range(len(items)), len(items))

    def conversation(number: int) -> list[dict]:
        return FROM_HUB[name](items[order[number]])

    def letters_of(number: int) -> tuple[str, ...]:
        """ARC brings its own letters, and some are 1, 2, 3, 4."""
        choices = items[order[number]]["choices"]
        return tuple(choices["label"] if isinstance(choices, dict) else "ABCD"[: len(choices)])

    if name == "gsm8k":
        return Questions(len(items), conversation)
    return Questions(len(items), conversation, letters_of)
