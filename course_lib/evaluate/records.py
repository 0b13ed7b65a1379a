"""What passes between the steps of an evaluation: a task, a sequence to score, its score; what counts can say.

Written by hand; chapters 11 and 14 use it.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from course_lib.host.errors import CourseError

FIELDS = {  # of an item, by the kind of its task
    "multiple_choice": ("query", "choices"),
    "schema": ("continuation", "context_options"),
    "language_modeling": ("context", "continuation"),
}


class Task(Protocol):
    """What a result needs to know of a task, CORE's or another; baseline: the accuracy of guessing."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def baseline(self) -> float: ...


@dataclass(frozen=True)
class CoreTask:
    """A task: a file of items and how to ask them.

    kind: a key of FIELDS; num_fewshot: solved items shown before each; delimiter: between context and continuation;
    baseline: accuracy of guessing. Raises CourseError for values that cannot be.
    """

    name: str
    kind: str
    num_fewshot: int = 0
    delimiter: str = " "
    baseline: float = 0.0
    path: Path | None = None

    def __post_init__(self):
        if self.kind not in FIELDS:
            raise CourseError(f"task {self.name} is of kind {self.kind!r}; expected one of {', '.join(FIELDS)}")
        if self.num_fewshot < 0 or not 0 <= self.baseline < 1:
            raise CourseError(
                f"task {self.name}: num_fewshot={self.num_fewshot}, baseline={self.baseline}; "
                "expected 0 or more, and an accuracy below 1"
            )


@dataclass(frozen=True)
class ScoredSequence:
    """Ids of a prompt with its continuation; those from `start` on are scored."""

    ids: list[int]
    start: int


@dataclass(frozen=True)
class Score:
    """What the model makes of the scored tokens of a sequence.

    loss: their mean, in nats; exact: whether each was the model's first choice.
    """

    loss: float
    exact: bool


def interval(right: int, count: int) -> tuple[float, float]:
    """The shares from which `right` of `count` are two standard errors away at most: lowest, highest.

    As with any interval of two standard errors, the true share is outside in about one of twenty cases. Unlike
    right / count ± 2 standard errors it is good for few questions, and never of length 0. Source: Wilson, 1927.
    """
    if not 0 <= right <= count or not count:
        raise CourseError(f"{right} right of {count}; expected one question or more, and not more right than asked")
    middle = (right + 2) / (count + 4)
    reach = 2 / (count + 4) * math.sqrt(right * (count - right) / count + 1)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def paired_difference(first: str, second: str) -> tuple[float, float]:
    """The accuracy of the second minus that of the first, and its standard error: two models on the same questions.

    first, second: "1" for a right reply and "0" for a wrong one, for each question in order, as reports keep it in
    "each". Questions on which both are right or both wrong do not count; the others are McNemar's discordant pairs,
    b and c, and the error is that of chapter 11 for independent items, √(b + c − (b − c)² / n) / n. It is 1 / n at the
    least: that no question of n differs does not prove that none would. Raises CourseError for other strings.
    """
    n = len(first)
    if not n or len(second) != n or not set(first + second) <= {"0", "1"}:
        said = f"{first!r:.40} and {second!r:.40}"
        raise CourseError(f"{said} cannot be compared; expected a 1 or a 0 for each of the same questions")
    pairs = list(zip(first, second, strict=True))
    gained, lost = pairs.count(("0", "1")), pairs.count(("1", "0"))
    return (gained - lost) / n, math.sqrt(max(gained + lost - (gained - lost) ** 2 / n, 1)) / n
