"""CORE: three kinds of tasks, how a base model is asked, and how sure a score is.

Source: DCLM (Li et al., 2024), whose CORE this is, and nanochat (October 2025), whose choices of
seeds, separators and scores are kept, so that the numbers compare.

Exported from notebooks/11_evaluation.ipynb; edit it there.
"""

import math
import random
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate.records import CoreTask, Score, ScoredSequence, Task
from course_lib.host.errors import CourseError

# ---- 3. Questions with an answer


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


# ---- 4. Text, tokens, loss


def common_length(all_ids: list[list[int]]) -> int:
    """How many first ids all lists share."""
    for n, column in enumerate(zip(*all_ids)):  # noqa: B905
        if len(set(column)) > 1:
            return n
    return min(map(len, all_ids))


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


def is_right(task: CoreTask, item: dict, scores: list[Score]) -> bool:
    """Whether the option of lowest loss is right; in language modelling, whether all is exact."""
    if task.kind == "language_modeling":
        return scores[0].exact
    losses = [each.loss for each in scores]
    return losses.index(min(losses)) == item["gold"]


# ---- 5. How far to trust an accuracy


def standard_error(accuracy: float, count: int) -> float:
    """How far the accuracy on `count` independent items lies from the true one, typically."""
    return math.sqrt(accuracy * (1 - accuracy) / count)


def by_cluster(items: Iterable[dict], values: Sequence[float]) -> list[tuple[float, int]]:
    """(sum of its values, how many) of each cluster: items of a task that are not independent.

    Items with the same "cluster" belong together; one without stands alone.
    """
    sums: dict[Hashable, tuple[float, int]] = {}
    for n, (item, value) in enumerate(zip(items, values, strict=False)):
        key = item.get("cluster", (n,))
        total, count = sums.get(key, (0, 0))
        sums[key] = total + value, count + 1
    return list(sums.values())


def clustered_error(clusters: Sequence[tuple[float, int]]) -> float:
    """The standard error of the mean of all values, from (sum, how many) of each cluster.

    Of clusters of one item each it is that of independent items. Source: Miller, 2024.
    """
    count = sum(many for _, many in clusters)
    mean = sum(total for total, _ in clusters) / count
    return math.sqrt(sum((total - mean * many) ** 2 for total, many in clusters)) / count


@dataclass(frozen=True)
class TaskResult:
    """How many items of a task a model got right.

    clusters: (right, how many) of each group of items that belong together; by default each item
    stands alone.
    """

    task: Task
    right: int
    count: int
    clusters: tuple[tuple[float, int], ...] = ()

    @property
    def accuracy(self) -> float:
        return self.right / self.count

    @property
    def standard_error(self) -> float:
        if self.clusters:
            return clustered_error(self.clusters)
        return standard_error(self.accuracy, self.count)

    @property
    def centred(self) -> float:
        return (self.accuracy - self.task.baseline) / (1 - self.task.baseline)

    @property
    def centred_error(self) -> float:
        return self.standard_error / (1 - self.task.baseline)


def task_result(task: Task, items: Iterable[dict], hits: Sequence[bool]) -> TaskResult:
    """The result of a task, from its items and whether each was right."""
    clusters = by_cluster(items, hits)
    return TaskResult(task, sum(hits), len(hits), tuple(clusters) if len(clusters) < len(hits) else ())


# ---- 6. One number for all


def core_score(results: list[TaskResult]) -> float:
    """The mean of the centred scores. Raises CourseError for no results."""
    if not results:
        raise CourseError("CORE is a mean over tasks, and there are none; evaluate at least one")
    return sum(result.centred for result in results) / len(results)


def core_error(results: list[TaskResult]) -> float:
    """The standard error of `core_score`, as far as it comes from the choice of the items."""
    return math.sqrt(sum(result.centred_error**2 for result in results)) / len(results)
