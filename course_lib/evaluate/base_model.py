"""Measure a base model of a run: bits per byte, the tasks of CORE, samples of what it writes.

Source: nanochat, whose three measures these are.

Written by hand; chapter 11 uses it.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import mlx.core as mx

from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import Dataset, open_dataset
from course_lib.data.sizes import corpus_tokens
from course_lib.evaluate.bundle import fetch_bundle
from course_lib.evaluate.core import CoreTask, TaskResult, evaluate_task
from course_lib.evaluate.reports import Evaluation, open_evaluation, report_entry
from course_lib.evaluate.task_files import load_items, load_tasks
from course_lib.host.words import plural
from course_lib.train.checkpoint import load_model
from course_lib.train.trainer import continue_text, validate

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


def evaluate_base_model(
    folder: Path,
    step: int | None = None,
    parts: list[str] | tuple[str, ...] = PARTS,
    max_per_task: int | None = None,
    bundle: bool = False,
    batch_size: int = 16,
    split_tokens: int = 100_000,
    dataset: str | None = None,
) -> None:
    """Measure a checkpoint of the run in `folder`; the report is eval_<step>.json there.

    step: by default the newest; parts: some of PARTS, in their order; max_per_task: items of each task, by default all;
    bundle: the 22 tasks of CORE, fetched once, in place of the course's; split_tokens: tokens of each split for bits
    per byte; dataset: the text for it, by default the one that the model was trained on.
    Raises CourseError when the run, the tasks or the text cannot be used.
    """
    model, tokenizer, meta = load_model(folder, step)
    tasks = load_tasks(fetch_bundle() if bundle else None) if "core" in parts else []
    path = folder / f"eval_{meta['step']:06d}.json"
    with open_evaluation("base_eval", model, tokenizer, meta["step"], path) as run:
        for part in parts:
            run.part = part
            if part == "bpb":
                trained = meta["settings"]
                text = open_dataset(dataset) if dataset else open_dataset(trained["dataset"], trained["streaming"])
                measure_bits(run, text, split_tokens, batch_size)
            elif part == "core":
                run.found["core"] = {"tasks_of": "bundle" if bundle else "course", "max_per_task": max_per_task}
                ask_tasks(run, tasks, max_per_task, batch_size)
            else:
                write_samples(run)
            run.save()


def measure_bits(run: Evaluation, text: Dataset, split_tokens: int, batch_size: int) -> None:
    """Bits per byte of the first tokens of the training and of the validation text."""
    values = {}
    for split, tokens in zip(("train", "val"), corpus_tokens(text, run.tokenizer), strict=True):
        batches = _batches(run, text, split, int(min(tokens, split_tokens)), batch_size)
        values[split] = validate(run.model, batches, run.tokenizer.token_bytes)
        run.status.say(f"{split:5s} {values[split]:.4f} bits per byte of {text.name}")
    run.found["bits_per_byte"] = {"dataset": text.name, **values}


def _batches(
    run: Evaluation, text: Dataset, split: str, tokens: int, batch_size: int
) -> Iterator[tuple[mx.array, mx.array]]:
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


def ask_tasks(run: Evaluation, tasks: list[CoreTask], max_per_task: int | None, batch_size: int) -> None:
    """Every task; the result of each is written as soon as it is there."""
    found = run.found["core"]
    found |= {"core": None, "tasks": {}}
    try:
        for number, task in enumerate(tasks, start=1):
            label = f"task {number} of {len(tasks)}: {task.name}"
            result = _ask(run, task, label, max_per_task, batch_size)
            run.results.append(result)
            found["tasks"][task.name] = report_entry(result, num_fewshot=task.num_fewshot)
            run.save()
    finally:
        run.show(lambda task: f"{KINDS[task.kind]}, {plural(task.num_fewshot, 'shot')}")
    found["core"], found["core_error"] = run.mean()


def _ask(run: Evaluation, task: CoreTask, label: str, max_per_task: int | None, batch_size: int) -> TaskResult:
    """Evaluate one task, and say how far it is."""

    def on_items(done: int, count: int) -> None:
        run.status.hint(f"{label}, {done:,} of {count:,} items")
        run.pause()

    result = evaluate_task(run.model, run.tokenizer, task, load_items(task), max_per_task, batch_size, on_items)
    run.status.say(f"{label}, {result.right:,} of {result.count:,} right")
    return result


def write_samples(run: Evaluation) -> None:
    """What the model writes after each of PROMPTS."""
    samples = []
    for seed, prompt in enumerate(PROMPTS):
        run.pause()
        text = continue_text(run.model, run.tokenizer, prompt, max_tokens=32, seed=seed)
        samples.append([prompt, text])
        run.status.say(f"  {prompt!r} … {text!r}")
    run.found["samples"] = samples
