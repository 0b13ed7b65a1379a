"""What passes between the steps of an evaluation: a task, a sequence to score, its score.

Written by hand; chapter 11 uses it.
"""

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
