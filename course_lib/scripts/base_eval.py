"""Bits per byte, CORE tasks and samples of a checkpoint: `base_eval --help`.

Source: nanochat.

"""

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import mlx.core as mx
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import Dataset, open_dataset
from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate.bundle import fetch_bundle
from course_lib.evaluate.core import (
    Task,
    TaskResult,
    bits_per_byte,
    core_error,
    core_score,
    draw_results,
    evaluate_task,
    load_items,
    load_tasks,
)
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.files import write_atomically
from course_lib.host.program import check_least, run_program
from course_lib.host.progress import StatusLine
from course_lib.host.stop import StopWish, stop_when_asked
from course_lib.model.gpt import GPT
from course_lib.scripts.base_train import corpus_tokens
from course_lib.train.checkpoint import load_model
from course_lib.train.trainer import continue_text
from course_lib.train.which import place_of


@dataclass(frozen=True)
class Settings:
    """Measure a model that `base_train` made: bits per byte, CORE tasks, samples."""

    tag: str | None = None
    """Name of the run; by default d4."""
    checkpoint: Path | None = None
    """Or the run's folder, or one of its step_… folders."""
    step: int | None = None
    """Which checkpoint of the run; by default the newest."""
    eval: str = "bpb,core,sample"
    """What to do, with commas between."""
    max_per_task: int | None = None
    """Items of each task; by default all."""
    bundle: bool = False
    """Ask the 22 tasks of CORE (162 MB, fetched once) and not the small ones of this course."""
    device_batch_size: int = 16
    """Rows at a time."""
    split_tokens: int = 100_000
    """Tokens of the training and of the validation text for bits per byte."""
    dataset: str | None = None
    """Text for bits per byte; by default the one that the model was trained on."""


KINDS = ("bpb", "core", "sample")

PROMPTS = (  # the first three as in the bundled corpus, the others as anywhere
    "Return True if",
    "If the argument is not given,",
    "This module provides",
    "The capital of Italy is",
    "The opposite of up is",
    "Once upon a time, there was",
)


def kinds_of(settings: Settings) -> list[str]:
    """What to do, in order. Raises FlagError for what is not known."""
    asked = [kind.strip() for kind in settings.eval.split(",") if kind.strip()]
    for kind in asked:
        if kind not in KINDS:
            raise FlagError(f"--eval has {kind!r}, expected some of {','.join(KINDS)}")
    if not asked:
        raise FlagError(f"--eval is empty, expected some of {','.join(KINDS)}")
    return [kind for kind in KINDS if kind in asked]


@dataclass
class Evaluation:
    """A model, what is asked of it, and what has been found so far; the report is at `path`."""

    model: GPT
    tokenizer: Tokenizer
    meta: dict
    settings: Settings
    path: Path
    status: StatusLine
    stop: StopWish

    def __post_init__(self):
        self.found: dict = {"step": self.meta["step"]}
        self.results: list[TaskResult] = []

    def pause(self) -> None:
        """Between two batches: stop here when that was asked for."""
        if self.stop.code:
            raise KeyboardInterrupt

    def bpb(self) -> None:
        """Bits per byte of the first tokens of the training and of the validation text."""
        name, trained = self.settings.dataset, self.meta["settings"]
        text = open_dataset(name) if name else open_dataset(trained["dataset"], trained["streaming"])
        sizes, values = corpus_tokens(text, self.tokenizer), {}
        for split, tokens in zip(("train", "val"), sizes, strict=True):
            batches = self.batches(text, split, tokens)
            values[split] = bits_per_byte(self.model, batches, self.tokenizer.token_bytes)
            self.status.say(f"{split:5s} {values[split]:.4f} bits per byte of {text.name}")
        self.found["bits_per_byte"] = {"dataset": text.name, **values}

    def batches(self, text: Dataset, split: str, tokens: float) -> Iterator[tuple[mx.array, mx.array]]:
        """The first batches of a split: split_tokens of it, or all, but no text twice."""
        T, tokens = self.model.config.sequence_len, int(min(tokens, self.settings.split_tokens))
        rows = max(1, min(self.settings.device_batch_size, tokens // T))
        count = max(1, tokens // (rows * T))
        with TokenLoader(text, self.tokenizer, split, rows, T, num_threads=1) as loader:
            for number, batch in enumerate(islice(loader, count)):
                if number and loader.state["epoch"] > 0:  # this batch has begun the text again
                    break
                self.pause()
                yield batch

    def sample(self) -> None:
        """What the model writes after each of PROMPTS."""
        samples = []
        for seed, prompt in enumerate(PROMPTS):
            self.pause()
            text = continue_text(self.model, self.tokenizer, prompt, max_tokens=32, seed=seed)
            samples.append([prompt, text])
            self.status.say(f"  {prompt!r} … {text!r}")
        self.found["samples"] = samples

    def core(self) -> None:
        """Every task; the result of each is written as soon as it is there."""
        tasks = load_tasks(fetch_bundle() if self.settings.bundle else None)
        found = {"tasks_of": "bundle" if self.settings.bundle else "course"}
        found |= {"max_per_task": self.settings.max_per_task, "core": None, "tasks": {}}
        try:
            for number, task in enumerate(tasks, start=1):
                result = self.ask(task, f"task {number} of {len(tasks)}: {task.name}")
                self.results.append(result)
                found["tasks"][task.name] = {
                    "kind": task.kind,
                    "num_fewshot": task.num_fewshot,
                    "items": result.count,
                    "baseline": task.baseline,
                    "accuracy": result.accuracy,
                    "standard_error": result.standard_error,
                    "centred": result.centred,
                }
                self.found["core"] = found
                self.save()
        finally:
            self.show()
        found |= {"core": core_score(self.results), "core_error": core_error(self.results)}
        print(f"mean of the centred scores: {found['core']:+.4f} ± {found['core_error']:.4f}")

    def ask(self, task: Task, label: str) -> TaskResult:
        """Evaluate one task, and say how far it is."""

        def on_items(done: int, count: int) -> None:
            self.status.hint(f"{label}, {done:,} of {count:,} items")
            self.pause()

        limit, batch_size = self.settings.max_per_task, self.settings.device_batch_size
        items = load_items(task)
        result = evaluate_task(self.model, self.tokenizer, task, items, limit, batch_size, on_items)
        self.status.say(f"{label}, {result.right:,} of {result.count:,} right")
        return result

    def save(self) -> None:
        """Put what was found into the report, beside what an earlier run put there."""
        before = {}
        with suppress(OSError, ValueError):
            before = json.loads(self.path.read_text(encoding="utf-8"))
        with write_atomically(self.path) as file:
            file.write(json.dumps({**before, **self.found}, indent=1) + "\n")

    def show(self) -> None:
        """Print the tasks that are done as a table, and draw them beside the report."""
        if self.results:
            Console(force_jupyter=False).print(table_of(self.results))
            figure = Figure(figsize=(6, 1.2 + 0.35 * len(self.results)), layout="constrained")
            draw_results(figure.subplots(), self.results)
            figure.savefig(self.path.with_suffix(".png"), dpi=120)


def table_of(results: list[TaskResult]) -> Table:
    """The results as a table; ± is the standard error."""
    table = Table("task", header_style="")
    for column in ("kind", "shots", "items", "guessing", "accuracy", "centred"):
        table.add_column(column, justify="left" if column == "kind" else "right", no_wrap=True)
    names = {"multiple_choice": "choice", "schema": "schema", "language_modeling": "language"}
    for result in results:
        task = result.task
        table.add_row(
            task.name,
            names[task.kind],
            f"{task.num_fewshot}",
            f"{result.count:,}",
            f"{task.baseline:.1%}",
            f"{result.accuracy:.1%} ± {result.standard_error:.1%}",
            f"{result.centred:+.3f}",
        )
    return table


def work(settings: Settings) -> None:
    """Load the model and do what --eval says; what was finished is written in any case."""
    check_least(settings, max_per_task=1, device_batch_size=1, split_tokens=1, step=0)
    kinds = kinds_of(settings)
    folder, step = place_of(settings)
    if not folder.is_dir():
        raise CourseError(
            f"there is no run in {folder}; train one with `base_train`, or give another --tag or --checkpoint"
        )
    model, tokenizer, meta = load_model(folder, step)
    path = folder / f"eval_{meta['step']:06d}.json"
    with StatusLine(1) as status, stop_when_asked() as stop:
        status.say(f"model {folder.name}, step {meta['step']:,}")
        run = Evaluation(model, tokenizer, meta, settings, path, status, stop)
        try:
            for kind in kinds:
                getattr(run, kind)()
                run.save()
        except KeyboardInterrupt:
            kept = f"what was finished is in {path}" if path.exists() else "nothing was finished"
            print(f"base_eval: stopped during {kind}; {kept}", file=sys.stderr)
            sys.exit(stop.code or 130)
        status.say(f"the report is {path}")


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("base_eval", Settings, work, argv)


if __name__ == "__main__":
    main()
