"""How often a chat model's replies are right, task by task: `chat_eval --help`.

Source: nanochat.

"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from course_lib import backend
from course_lib.chat.calculator import use_calculator
from course_lib.chat.tasks import DOWNLOADED_TASKS, Answer, Task, answers, get_task, lesson_tasks
from course_lib.evaluate.core import TaskResult, core_error, core_score, draw_results
from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.program import check_least, run_program
from course_lib.host.progress import StatusLine
from course_lib.host.stop import stop_when_asked
from course_lib.scripts.base_eval import Evaluation
from course_lib.train.checkpoint import load_model, place_of


@dataclass(frozen=True)
class Settings:
    """Ask a chat model the test questions of tasks, and count how many replies are right."""

    tag: str | None = None
    """Name of the run; by default d4."""
    stage: Literal["base", "sft", "rl"] = "sft"
    """Which training of that name: chat_sft writes sft, chat_rl writes rl."""
    checkpoint: Path | None = None
    """Or the run's folder, or one of its step_… folders."""
    step: int | None = None
    """Which checkpoint of the run; by default the newest."""
    tasks: str = "lessons"
    """Which tasks, with commas between: their names, or lessons, downloads, all."""
    max_per_task: int | None = None
    """Questions of each task; by default all."""
    temperature: float = 0.0
    """0 writes the likeliest token each time."""
    top_k: int | None = None
    """Sample from so many tokens only."""
    max_tokens: int = 256
    """Tokens of a reply, at most."""
    device_batch_size: int = 16
    """Questions at a time."""
    samples: int = 0
    """Show so many questions of each task with their replies."""
    seed: int = 42
    """Of what is sampled, where the temperature is above 0."""


def tasks_of(settings: Settings) -> list[str]:
    """The names of the tasks, in order. Raises FlagError for what is not known."""
    groups = {"lessons": lesson_tasks(), "downloads": [*DOWNLOADED_TASKS]}
    groups["all"] = groups["lessons"] + groups["downloads"]
    names = []
    for asked in filter(None, map(str.strip, settings.tasks.split(","))):
        if asked not in groups["all"] and asked not in groups:
            expected = ",".join((*groups["all"], *groups))
            raise FlagError(f"--tasks has {asked!r}, expected some of {expected}")
        names += groups.get(asked, [asked])
    if not names:
        raise FlagError("--tasks is empty, expected names of tasks, or lessons, downloads, all")
    return list(dict.fromkeys(names))


class ChatEvaluation(Evaluation):
    """A chat model, the tasks that it is asked, and what has been found so far."""

    def ask_all(self, tasks: list[Task]) -> None:
        """Every task; the result of each is written as soon as it is there."""
        self.engine = Engine(self.model, self.tokenizer, use_calculator, keep_prefixes=0)
        self.found |= {"tasks": self.earlier("tasks"), "samples": self.earlier("samples")}
        self.found |= {"asked": [task.name for task in tasks], "chatcore": None}
        try:
            for number, task in enumerate(tasks, start=1):
                result, seen = self.count(task, f"task {number} of {len(tasks)}: {task.name}")
                self.results.append(result)
                self.found["tasks"][task.name] = self.entry(result, seen)
                self.show_samples(task, seen[: self.settings.samples])
                self.save()
        finally:
            self.show()
        core, error = core_score(self.results), core_error(self.results)
        self.found |= {"chatcore": core, "chatcore_error": error}
        self.save()
        print(f"mean of the centred scores: {core:+.4f} ± {error:.4f}")

    def earlier(self, name: str) -> dict:
        """What an earlier run about the same checkpoint has put into the report."""
        try:
            return dict(json.loads(self.path.read_text(encoding="utf-8"))[name])
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def entry(self, result: TaskResult, seen: list[Answer]) -> dict:
        """What the report says about a task."""
        return {
            "kind": result.task.kind,
            "items": result.count,
            "right": result.right,
            "too_long": sum(not answer.fits for answer in seen),
            "temperature": self.settings.temperature,
            "baseline": result.task.baseline,
            "accuracy": result.accuracy,
            "standard_error": result.standard_error,
            "centred": result.centred,
        }

    def replies(self, task: Task, count: int) -> Iterator[Answer]:
        """The answers to the first `count` questions."""
        settings, how = self.settings, {}
        if task.kind == "generative":
            names = "max_tokens", "temperature", "top_k", "seed"
            how = {name: getattr(settings, name) for name in names}
        yield from answers(self.engine, task, list(range(count)), settings.device_batch_size, **how)

    def count(self, task: Task, label: str) -> tuple[TaskResult, list[Answer]]:
        """Ask one task, and say how far it is."""
        limit = self.settings.max_per_task
        total = len(task) if limit is None else min(limit, len(task))
        seen = []
        for answer in self.replies(task, total):
            seen.append(answer)
            self.status.hint(f"{label}, {len(seen):,} of {total:,} questions")
            self.pause()
        right, too_long = sum(answer.right for answer in seen), sum(not answer.fits for answer in seen)
        more = f"; {too_long:,} too long for the model" if too_long else ""
        self.status.say(f"{label}, {right:,} of {total:,} right{more}")
        return TaskResult(task, right, total), seen

    def show_samples(self, task: Task, some: list[Answer]) -> None:
        """Show questions with their replies, and put them into the report."""
        shown = []
        for answer in some:
            question = task[answer.number][-2]["content"]
            shown.append({"question": question, "reply": answer.reply, "right": answer.right})
            self.status.say(f"  {'right' if answer.right else 'wrong'}: {question!r} … {answer.reply!r}")
        self.found["samples"][task.name] = shown

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
    for column in ("kind", "questions", "guessing", "right", "centred"):
        table.add_column(column, justify="left" if column == "kind" else "right", no_wrap=True)
    for result in results:
        table.add_row(
            result.task.name,
            result.task.kind,
            f"{result.count:,}",
            f"{result.task.baseline:.1%}",
            f"{result.accuracy:.1%} ± {result.standard_error:.1%}",
            f"{result.centred:+.3f}",
        )
    return table


def work(settings: Settings) -> None:
    """Load the model and ask the tasks; what was finished is written in any case."""
    check_least(settings, max_per_task=1, device_batch_size=1, step=0, temperature=0)
    check_least(settings, samples=0, max_tokens=1, top_k=1, seed=0)
    names = tasks_of(settings)
    folder, step = place_of(settings, settings.stage)
    if not folder.is_dir():
        raise CourseError(
            f"there is no run in {folder}; train one with `chat_sft`, or give another --tag, --stage or --checkpoint"
        )
    model, tokenizer, meta = load_model(folder, step)
    model.set_dtype(backend.compute_dtype())
    tasks = [get_task(name) for name in names]  # first of all fetch what is missing
    path = folder / f"chat_eval_{meta['step']:06d}.json"
    with StatusLine(1) as status, stop_when_asked() as stop:
        status.say(f"model {folder.name}, step {meta['step']:,}")
        run = ChatEvaluation(model, tokenizer, meta, settings, path, status, stop)
        try:
            run.ask_all(tasks)
        except KeyboardInterrupt:
            kept = f"finished tasks are in {path}" if run.results else "no task was finished"
            print(f"chat_eval: stopped; {kept}", file=sys.stderr)
            sys.exit(stop.code or 130)
        status.say(f"the report is {path}")


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("chat_eval", Settings, work, argv)


if __name__ == "__main__":
    main()
