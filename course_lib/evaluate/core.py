"""CORE: three kinds of tasks, how a base model is asked, and how sure a score is.

Source: DCLM (Li et al., 2024), whose CORE this is, and nanochat, whose choices of seeds, separators
and scores are kept, so that the numbers compare.

Exported from notebooks/11_evaluation.ipynb; edit it there.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate.scoring import (
    Score,
    ScoredSequence,
    common_length,
    score_sequences,
    shared_prefix,
)
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT

# ---- 3. Questions with an answer


FIELDS = {  # of an item, by the kind of its task
    "multiple_choice": ("query", "choices"),
    "schema": ("continuation", "context_options"),
    "language_modeling": ("context", "continuation"),
}


@dataclass(frozen=True)
class CoreTask:
    """A task: a file of items and how to ask them.

    kind: a key of FIELDS; num_fewshot: solved items shown before each; delimiter: between context
    and continuation; baseline: accuracy of guessing. Raises CourseError for values that cannot be.
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


def parts_of(task: CoreTask, item: dict) -> tuple[list[str], list[str]]:
    """The contexts of an item and its continuations, paired: one pair for each option."""
    if task.kind == "multiple_choice":
        return [item["query"]] * len(item["choices"]), item["choices"]
    if task.kind == "schema":
        return item["context_options"], [item["continuation"]] * len(item["context_options"])
    return [item["context"].strip()], [item["continuation"]]


def fewshot_examples(data: list[dict], index: int, count: int) -> list[dict]:
    """`count` other items of the task, for item `index` always the same: nanochat's choice."""
    others = [n for n in range(len(data)) if n != index]
    if count > len(others):
        raise CourseError(f"{count} examples for each of {len(data)} items; give more items, or fewer examples")
    return [data[n] for n in random.Random(1234 + index).sample(others, count)]


def render(task: CoreTask, item: dict, examples: Iterable[dict] = ()) -> list[tuple[str, str]]:
    """(prompt without the continuation, with it) of each option, after the solved examples."""
    before = ""
    for example in examples:
        contexts, continuations = parts_of(task, example)
        gold = example.get("gold", 0)
        before += f"{contexts[gold]}{task.delimiter}{continuations[gold]}\n\n"
    contexts, continuations = parts_of(task, item)
    return [
        (f"{before}{context}{task.delimiter}", f"{before}{context}{task.delimiter}{continuation}")
        for context, continuation in zip(contexts, continuations, strict=True)
    ]


def tokenise(
    task: CoreTask, tokenizer: Tokenizer, prompts: list[tuple[str, str]], sequence_len: int
) -> list[ScoredSequence]:
    """A sequence for each option, <|bos|> in front; one too long for the model loses its beginning.

    Scored tokens: in multiple choice, those after the prefix that the options share; in a schema,
    the suffix that they share; in language modelling, the continuation. There is at least one.
    Raises CourseError when the continuation is empty.
    """
    all_ids = [tokenizer.encode(text, bos=True) for _, text in prompts]
    if task.kind == "multiple_choice":
        starts = [common_length(all_ids)] * len(all_ids)
    elif task.kind == "schema":
        shared = common_length([ids[::-1] for ids in all_ids])
        starts = [len(ids) - shared for ids in all_ids]
    else:
        starts = [common_length([tokenizer.encode(prompts[0][0].strip(), bos=True), all_ids[0]])]
        if starts[0] == len(all_ids[0]):
            raise CourseError(f"the continuation of {prompts[0][1]!r} is empty; give it a text")
    kept = []
    for ids, start in zip(all_ids, starts, strict=True):
        start = min(start, len(ids) - 1)  # an option that is the beginning of another one
        crop = max(0, len(ids) - sequence_len - 1)
        kept.append(ScoredSequence(ids[crop:], max(1, start - crop)))
    return kept


# ---- 5. A task


def is_right(task: CoreTask, item: dict, scores: list[Score]) -> bool:
    """Whether the option of lowest loss is right; in language modelling, whether all is exact."""
    if task.kind == "language_modeling":
        return scores[0].exact
    losses = [each.loss for each in scores]
    return losses.index(min(losses)) == item["gold"]


def standard_error(accuracy: float, count: int) -> float:
    """How far an accuracy on `count` items typically lies from that on endlessly many."""
    return math.sqrt(accuracy * (1 - accuracy) / count)


class Task(Protocol):
    """What a result needs to know of a task; baseline: the accuracy of guessing."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def baseline(self) -> float: ...


@dataclass(frozen=True)
class TaskResult:
    """How many items of a task a model got right."""

    task: Task
    right: int
    count: int

    @property
    def accuracy(self) -> float:
        """Share of the items that are right."""
        return self.right / self.count

    @property
    def standard_error(self) -> float:
        """Of the accuracy."""
        return standard_error(self.accuracy, self.count)

    @property
    def centred(self) -> float:
        """0 for guessing, 1 for all right; below 0 for worse than guessing."""
        return (self.accuracy - self.task.baseline) / (1 - self.task.baseline)

    @property
    def centred_error(self) -> float:
        """The standard error of the centred score."""
        return self.standard_error / (1 - self.task.baseline)


def core_score(results: list[TaskResult]) -> float:
    """The mean of the centred scores. Raises CourseError for no results."""
    if not results:
        raise CourseError("CORE is a mean over tasks, and there are none; evaluate at least one")
    return sum(result.centred for result in results) / len(results)


def core_error(results: list[TaskResult]) -> float:
    """The standard error of `core_score`, as far as it comes from the choice of the items."""
    return math.sqrt(sum(result.centred_error**2 for result in results)) / len(results)


def group_items(
    asked: Iterable[tuple[dict, list[ScoredSequence]]], batch_size: int
) -> Iterator[tuple[list[tuple[dict, list[ScoredSequence]]], int]]:
    """Items with their sequences as they are scored together, and how many first ids are read once.

    An item whose sequences share half of their tokens or more comes alone, others as about
    `batch_size` sequences.
    """
    waiting = []
    for item, sequences in asked:
        shared = shared_prefix(sequences)
        if 2 * shared >= max(len(each.ids) for each in sequences):
            yield [(item, sequences)], shared
            continue
        waiting.append((item, sequences))
        if sum(len(sequences) for _, sequences in waiting) >= batch_size:
            yield waiting, 0
            waiting = []
    if waiting:
        yield waiting, 0


def evaluate_task(
    model: GPT,
    tokenizer: Tokenizer,
    task: CoreTask,
    data: list[dict],
    limit: int | None = None,
    batch_size: int = 32,
    on_items: Callable[[int, int], None] = lambda done, count: None,
) -> TaskResult:
    """Ask the model the items of a task, or the first `limit`; all others serve as examples still.

    batch_size: sequences at a time, about. on_items(done, count) is called now and then.
    Raises CourseError for no items, or another tokenizer than the model's.
    """
    count, V = len(data) if limit is None else min(limit, len(data)), tokenizer.vocab_size
    if count < 1 or batch_size < 1:
        raise CourseError(f"task {task.name}: {count} items, batch_size={batch_size}; expected 1 or more of each")
    if V != model.config.vocab_size:
        raise CourseError(
            f"the tokenizer has {V} ids, the model {model.config.vocab_size}; "
            "give the tokenizer that the model was trained with"
        )

    def sequences_of(index: int) -> list[ScoredSequence]:
        prompts = render(task, data[index], fewshot_examples(data, index, task.num_fewshot))
        return tokenise(task, tokenizer, prompts, model.config.sequence_len)

    done = right = 0
    asked = ((data[n], sequences_of(n)) for n in range(count))
    for items, shared in group_items(asked, batch_size):
        together = [each for _, sequences in items for each in sequences]
        scores = iter(score_sequences(model, together, shared))
        for item, sequences in items:
            right += is_right(task, item, [next(scores) for _ in sequences])
        done += len(items)
        on_items(done, count)
    return TaskResult(task, right, count)
