"""How good a base model is: bits per byte, and CORE's three kinds of tasks.

Source: DCLM (Li et al., 2024), whose CORE this is, and nanochat, whose choices of seeds, separators
and scores are kept, so that the numbers compare.

Exported from notebooks/11_evaluation.ipynb; edit it there.
"""

import csv
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import yaml
from matplotlib.axes import Axes

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError
from course_lib.host.paths import data_dir
from course_lib.model.gpt import GPT
from course_lib.train.trainer import validate

# ---- 1. Why not the loss


def bits_per_byte(model: GPT, batches: Iterable[tuple[mx.array, mx.array]], token_bytes: mx.array) -> float:
    """Bits that the model needs for each byte of the targets of batches (inputs, targets), (B, T).

    token_bytes: (vocab_size,), 0 for special tokens, which do not count, nor do targets of -1. A
    batch with nothing to count costs nothing; nan when there is nothing to count at all.
    """

    def counts(targets: mx.array) -> bool:
        sizes = mx.where(targets >= 0, token_bytes[mx.maximum(targets, 0)], 0)
        return sizes.any().item()

    return validate(model, (batch for batch in batches if counts(batch[1])), token_bytes)


# ---- 3. Questions with an answer


FIELDS = {  # of an item, by the kind of its task
    "multiple_choice": ("query", "choices"),
    "schema": ("continuation", "context_options"),
    "language_modeling": ("context", "continuation"),
}


@dataclass(frozen=True)
class Task:
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


def parts_of(task: Task, item: dict) -> tuple[list[str], list[str]]:
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


def render(task: Task, item: dict, examples: Iterable[dict] = ()) -> list[tuple[str, str]]:
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


@dataclass(frozen=True)
class Row:
    """Ids of a prompt with its continuation; those from `start` on are judged."""

    ids: list[int]
    start: int


def common_length(rows: list[list[int]]) -> int:
    """How many first ids all rows share."""
    for n, column in enumerate(zip(*rows)):  # noqa: B905
        if len(set(column)) > 1:
            return n
    return min(map(len, rows))


def tokenise(task: Task, tokenizer: Tokenizer, prompts: list[tuple[str, str]], sequence_len: int) -> list[Row]:
    """A row for each option, <|bos|> in front; one too long for the model loses its beginning.

    Judged are: in multiple choice, what follows the beginning that the options share; in a schema,
    the end that they share; in language modelling, what the continuation adds to the prompt. It is
    at least one token. Raises CourseError when the continuation adds nothing.
    """
    rows = [tokenizer.encode(text, bos=True) for _, text in prompts]
    if task.kind == "multiple_choice":
        starts = [common_length(rows)] * len(rows)
    elif task.kind == "schema":
        shared = common_length([ids[::-1] for ids in rows])
        starts = [len(ids) - shared for ids in rows]
    else:
        starts = [common_length([tokenizer.encode(prompts[0][0].strip(), bos=True), rows[0]])]
        if starts[0] == len(rows[0]):
            raise CourseError(f"the continuation of {prompts[0][1]!r} is empty; give it a text")
    kept = []
    for ids, start in zip(rows, starts, strict=True):
        start = min(start, len(ids) - 1)  # an option that is the beginning of another one
        crop = max(0, len(ids) - sequence_len - 1)
        kept.append(Row(ids[crop:], max(1, start - crop)))
    return kept


# ---- 4. The score


class PrefixCache:
    """What one block keeps of a prefix, for all rows that go on from it."""

    def __init__(self):
        self.offset, self._prefix = 0, None

    def update_and_fetch(self, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
        """First call: keep the prefix (1, H, P, D). Later: put it before k and v (B, H, T, D)."""
        if self._prefix is None:
            self.offset, self._prefix = k.shape[2], (k, v)
            return k, v
        return tuple(
            mx.concatenate([mx.broadcast_to(old, (new.shape[0], *old.shape[1:])), new], axis=2)
            for old, new in zip(self._prefix, (k, v), strict=True)
        )


def shared_prefix(rows: list[Row]) -> int:
    """How many first ids the model may read once for all rows: shared, and not needed to judge."""
    if len(rows) < 2:
        return 0
    return min(common_length([row.ids for row in rows]), min(row.start for row in rows) - 1)


@dataclass(frozen=True)
class Score:
    """What the model makes of the judged tokens of a row.

    loss: their mean, in nats; exact: whether each was the model's first choice.
    """

    loss: float
    exact: bool


def judged_logits(model: GPT, rows: list[Row], shared: int) -> mx.array:
    """Logits that predict the judged tokens of all rows, one after the other: (N, vocab_size).

    The first `shared` ids are the same in all rows, and read once.
    """
    caches = [PrefixCache() for _ in model.transformer.h] if shared else None
    if shared:
        model.transformer(mx.array([rows[0].ids[:shared]]), caches)
    inputs = [row.ids[shared:-1] for row in rows]
    width = max(map(len, inputs))
    padded = mx.array([ids + [0] * (width - len(ids)) for ids in inputs])  # (B, T)
    x = model.transformer(padded, caches)  # (B, T, n_embd)
    picked = [x[n, row.start - 1 - shared : len(row.ids) - 1 - shared] for n, row in enumerate(rows)]
    return model.head(mx.concatenate(picked))


def score(model: GPT, rows: list[Row], shared: int = 0) -> list[Score]:
    """Score rows of any lengths in one batch; `shared` as in `judged_logits`."""
    targets = mx.array([token for row in rows for token in row.ids[row.start :]])
    logits = judged_logits(model, rows, shared)  # (N, V)
    losses, hits = nn.losses.cross_entropy(logits, targets), logits.argmax(axis=-1) == targets
    mx.eval(losses, hits)
    losses, hits = iter(losses.tolist()), iter(hits.tolist())
    scores = []
    for row in rows:
        count = len(row.ids) - row.start
        loss = sum(next(losses) for _ in range(count)) / count
        scores.append(Score(loss, all([next(hits) for _ in range(count)])))
    return scores


# ---- 5. A task


def is_right(task: Task, item: dict, scores: list[Score]) -> bool:
    """Whether the option of lowest loss is right; in language modelling, whether all is exact."""
    if task.kind == "language_modeling":
        return scores[0].exact
    losses = [each.loss for each in scores]
    return losses.index(min(losses)) == item["gold"]


def standard_error(accuracy: float, count: int) -> float:
    """How far an accuracy on `count` items typically lies from that on endlessly many."""
    return math.sqrt(accuracy * (1 - accuracy) / count)


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
    asked: Iterable[tuple[dict, list[Row]]], batch_size: int
) -> Iterator[tuple[list[tuple[dict, list[Row]]], int]]:
    """Items with their rows as they are scored together, and how many first ids are read once.

    An item whose rows share half of their tokens or more comes alone, others as about `batch_size`
    rows.
    """
    waiting = []
    for item, rows in asked:
        shared = shared_prefix(rows)
        if 2 * shared >= max(len(row.ids) for row in rows):
            yield [(item, rows)], shared
            continue
        waiting.append((item, rows))
        if sum(len(rows) for _, rows in waiting) >= batch_size:
            yield waiting, 0
            waiting = []
    if waiting:
        yield waiting, 0


def evaluate_task(
    model: GPT,
    tokenizer: Tokenizer,
    task: Task,
    data: list[dict],
    limit: int | None = None,
    batch_size: int = 32,
    on_items: Callable[[int, int], None] = lambda done, count: None,
) -> TaskResult:
    """Ask the model the items of a task, or the first `limit`; all others serve as examples still.

    batch_size: rows at a time, about. on_items(done, count) is called now and then.
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

    def rows_of(index: int) -> list[Row]:
        prompts = render(task, data[index], fewshot_examples(data, index, task.num_fewshot))
        return tokenise(task, tokenizer, prompts, model.config.sequence_len)

    done = right = 0
    for items, shared in group_items(((data[n], rows_of(n)) for n in range(count)), batch_size):
        scores = iter(score(model, [row for _, rows in items for row in rows], shared))
        for item, rows in items:
            right += is_right(task, item, [next(scores) for _ in rows])
        done += len(items)
        on_items(done, count)
    return TaskResult(task, right, count)


def draw_results(ax: Axes, results: list[TaskResult]) -> None:
    """Centred scores, two standard errors to each side; filled where that is above 0, guessing."""
    for n, result in enumerate(results):
        clear = result.centred - 2 * result.centred_error > 0
        style = {
            "fmt": "o" if clear else "s",
            "mfc": "#0072B2" if clear else "white",
            "color": "#0072B2",
        }
        ax.errorbar(result.centred, n, xerr=2 * result.centred_error, capsize=4, **style)
    ax.axvline(0, color="#D55E00", linestyle="--")
    ax.set_yticks(range(len(results)), [result.task.name for result in results])
    ax.set_ylim(len(results) - 0.5, -0.5)
    ax.set_xlabel("centred score: 0 is guessing, 1 is all right")


# ---- Appendix: the program


def load_tasks(folder: Path | None = None) -> list[Task]:
    """The tasks of a folder: core.yaml, eval_meta_data.csv (baselines in percent), eval_data/.

    folder: by default the tasks of this course. Raises CourseError for what is missing or wrong.
    """
    folder = folder or data_dir() / "core"
    try:
        with (folder / "eval_meta_data.csv").open(encoding="utf-8", newline="") as file:
            baselines = {row["Eval Task"]: float(row["Random baseline"]) / 100 for row in csv.DictReader(file)}
        entries = yaml.safe_load((folder / "core.yaml").read_text(encoding="utf-8"))["icl_tasks"]
        return [
            Task(
                name=entry["label"],
                kind=entry["icl_task_type"],
                num_fewshot=entry["num_fewshot"][0],
                delimiter=entry.get("continuation_delimiter", " "),
                baseline=baselines[entry["label"]],
                path=folder / "eval_data" / entry["dataset_uri"],
            )
            for entry in entries
        ]
    except (OSError, KeyError, TypeError, ValueError, IndexError, yaml.YAMLError) as error:
        if isinstance(error, CourseError):
            raise
        raise CourseError(
            f"the tasks in {folder} cannot be read ({' '.join(repr(error).split())}); expected "
            "core.yaml and eval_meta_data.csv as in the CORE bundle: get them anew"
        ) from error


def load_items(task: Task) -> list[dict]:
    """The items of a task, shuffled as nanochat does it, so that the first ones are a fair sample.

    Raises CourseError for a file that cannot be read or an item that is not of the task's kind.
    """
    try:
        lines = task.path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CourseError(f"cannot read {task.path} ({error}); get the tasks anew") from error
    items = [read_item(task, line, n) for n, line in enumerate(lines, start=1) if line.strip()]
    random.Random(1337).shuffle(items)
    return items


def read_item(task: Task, line: str, number: int) -> dict:
    """The item of a line of JSON. Raises CourseError when it is not of the task's kind."""
    one, several = FIELDS[task.kind]
    try:
        item = json.loads(line)
        item[one] = _text(item[one])
        if task.kind == "language_modeling":
            item[several] = _text(item[several])
        elif not isinstance(item[several], list) or item["gold"] not in range(len(item[several])):
            raise ValueError("gold is not one of the options")
        else:
            item[several] = [_text(option) for option in item[several]]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CourseError(
            f"{task.path}, line {number}: expected a {task.kind} item, with {one} and {several} "
            f"({error!r}); correct that line, or get the tasks anew"
        ) from error
    return item


def _text(value: object) -> str:
    """The value as text: numbers are, too."""
    if not isinstance(value, str | int | float):
        raise TypeError(f"{value!r} is no text")
    return str(value)
