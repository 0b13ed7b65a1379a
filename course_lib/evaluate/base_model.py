"""Measure a base model of a run: bits per byte, the tasks of CORE, samples of what it writes.

Source: nanochat, whose three measures these are.

Written by hand; chapter 11 uses it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import Dataset, open_dataset
from course_lib.data.sizes import corpus_tokens
from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate.bundle import fetch_bundle
from course_lib.evaluate.core import TaskResult
from course_lib.evaluate.records import CoreTask
from course_lib.evaluate.reports import Evaluation, open_evaluation, report_folder
from course_lib.evaluate.scoring import evaluate_task
from course_lib.evaluate.task_files import load_items, load_tasks
from course_lib.host.program import AtLeastOne
from course_lib.host.words import plural
from course_lib.model.gpt import GPT
from course_lib.train.checkpoint import load_model
from course_lib.train.validation import continue_text, validate

PARTS = ("bpb", "core", "sample")

PROMPTS = (  # the first three as in the bundled corpus, the others as anywhere
    "Return True if",
    "If the argument is not given,",
    "This module provides",
    "The capital of Italy is",
    "The opposite of up is",
    "Once upon a time, there was",
)

KINDS = {"multiple_choice": "choice", "schema": "schema", "language_modeling": "language"}


@dataclass(frozen=True)
class BaseOptions:
    """How to measure a base model."""

    max_per_task: AtLeastOne | None = None
    """Items of each task; by default all."""
    bundle: bool = False
    """Ask the 22 tasks of CORE (162 MB, fetched once) and not the small ones of this course."""
    device_batch_size: AtLeastOne = 16
    """Rows at a time."""
    split_tokens: AtLeastOne = 100_000
    """Tokens of the training and of the validation text for bits per byte."""
    dataset: str | None = None
    """Text for bits per byte; by default the one that the model was trained on, with --from the bundled one."""


def evaluate_base_model(
    folder: Path,
    step: int | None,
    options: BaseOptions,
    parts: Iterable[str] = PARTS,
    out: Path | None = None,
    load: Callable[[Path, int | None], tuple[GPT, Tokenizer, dict[str, Any]]] = load_model,
) -> None:
    """Measure a checkpoint of the run in `folder`, by default the newest; the report is eval_<step>.json in `out`.

    parts: some of PARTS; out: by default the run's folder; load: what reads the checkpoint. Raises CourseError when the
    run, the tasks or the text cannot be used.
    """
    out = report_folder(folder, out)
    model, tokenizer, meta = load(folder, step)
    tasks = load_tasks(fetch_bundle() if options.bundle else None) if "core" in parts else []
    path = out / f"eval_{meta['step']:06d}.json"
    with open_evaluation("base_eval", folder.name, model, tokenizer, meta["step"], path) as run:
        for part in parts:
            run.part = part
            if part == "bpb":
                trained, name = meta["settings"], options.dataset
                own = "dataset" in trained and not name  # a model of another program does not say
                known = (trained["dataset"], trained["streaming"]) if own else (name or "bundled",)
                text = open_dataset(*known)
                measure_bits(run, text, options, meta.get("bits_per_byte") if own else None)
            elif part == "core":
                ask_tasks(run, tasks, options)
            else:
                write_samples(run)
            run.save()


def measure_bits(run: Evaluation, text: Dataset, options: BaseOptions, seen: float | None) -> None:
    """Bits per byte of the first tokens of the training and of the validation text.

    seen: what training measured, in less of the validation text; None where it was another text.
    """
    values = {}
    for split, tokens in zip(("train", "val"), corpus_tokens(text, run.tokenizer), strict=True):
        tokens = int(min(tokens, options.split_tokens))
        batches = _batches(run, text, split, tokens, options.device_batch_size)
        values[split] = validate(run.model, batches, run.tokenizer.token_bytes)
        run.status.say(f"{split:11}  {values[split]:.4f} bits per byte of about {tokens:,} tokens of {text.name}")
    if seen is not None:
        run.status.say(f"in training  {seen:.4f} bits per byte of val, of fewer of these tokens")
    run.found["bits_per_byte"] = {"dataset": text.name, **values}


def _batches(run: Evaluation, text: Dataset, split: str, tokens: int, batch_size: int) -> Iterator[tuple]:
    """The first batches of a split: so many tokens of it, or all, but no text twice."""
    T = run.model.config.sequence_len
    rows = max(1, min(batch_size, tokens // T))
    count = max(1, tokens // (rows * T))
    with TokenLoader(text, run.tokenizer, split, rows, T, num_threads=1) as loader:
        for number, batch in enumerate(islice(loader, count)):
            if number and loader.state["epoch"] > 0:  # this batch has begun the text again
                break
            run.pause()
            yield batch


def ask_tasks(run: Evaluation, tasks: list[CoreTask], options: BaseOptions) -> None:
    """Every task; the result of each is written as soon as it is there."""
    found: dict[str, Any] = {"tasks_of": "bundle" if options.bundle else "course", "core": None, "tasks": {}}
    found["max_per_task"] = options.max_per_task
    run.found["core"] = found

    def ask(task: CoreTask, label: str) -> tuple[TaskResult, dict]:
        def on_items(done: int, count: int) -> None:
            run.status.hint(f"{label}, {done:,} of {count:,} items")
            run.pause()

        how = {"limit": options.max_per_task, "batch_size": options.device_batch_size, "on_items": on_items}
        result = evaluate_task(run.model, run.tokenizer, task, load_items(task), **how)
        run.status.say(f"{label}, {result.right:,} of {result.count:,} right")
        return result, {"num_fewshot": task.num_fewshot}

    def kind_of(task: CoreTask) -> str:
        return f"{KINDS[task.kind]}, {plural(task.num_fewshot, 'shot')}"

    found["core"], found["core_error"] = run.ask_tasks(tasks, ask, found["tasks"], kind_of)


def write_samples(run: Evaluation) -> None:
    """What the model writes after each of PROMPTS."""
    samples = []
    for seed, prompt in enumerate(PROMPTS):
        run.pause()
        text = continue_text(run.model, run.tokenizer, prompt, max_tokens=32, seed=seed)
        samples.append([prompt, text])
        run.status.sample(prompt, text)
    run.found["samples"] = samples
