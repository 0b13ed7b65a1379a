"""Evaluations that can be stopped, and their reports: a JSON file and a picture beside the checkpoint, a table.

Written by hand; chapters 11 and 14 use it.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate.core import TaskResult, core_error, core_score
from course_lib.evaluate.records import Task
from course_lib.host.files import write_atomically
from course_lib.host.paths import check_writable, data_dir
from course_lib.host.progress import StatusLine, console
from course_lib.host.stop import StopRequest, stop_when_asked
from course_lib.model.gpt import GPT
from course_lib.train.checkpoint import run_folder

Kind = TypeVar("Kind", bound=Task)


@dataclass
class Evaluation:
    """A checkpoint's model, and what has been found about it; the report is the file `path`.

    part: what is being measured now. found: the report's new entries, for JSON; what an earlier evaluation put there
    stays. results: of the tasks that are done.
    """

    model: GPT
    tokenizer: Tokenizer
    path: Path
    status: StatusLine
    stop: StopRequest
    part: str = ""
    found: dict = field(default_factory=dict)
    results: list[TaskResult] = field(default_factory=list)
    saved: bool = False

    def pause(self) -> None:
        """Between two batches: stop here when that was asked for."""
        if self.stop.code:
            raise KeyboardInterrupt

    def earlier(self) -> dict:
        """The report of an earlier evaluation of the same checkpoint; empty when there is none that can be read."""
        try:
            report = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return report if isinstance(report, dict) else {}

    def save(self) -> None:
        """Write the report."""
        report = {**self.earlier(), **self.found}
        with write_atomically(self.path) as file:
            file.write(json.dumps(report, indent=1) + "\n")
        self.saved = True

    def ask_tasks(
        self,
        tasks: list[Kind],
        ask: Callable[[Kind, str], tuple[TaskResult, dict]],
        entries: dict,
        kind_of: Callable[[Any], str],
    ) -> tuple[float, float]:
        """Ask one task after another; the mean of the centred scores and its standard error.

        ask(task, label): its result, and what the report says besides; label: such as "task 2 of 5: words", for the
        status line. entries: the report's dict of tasks. The report is written after each; in the end, be it early,
        what is done is printed as a table, with kind_of(task) in it, and drawn beside the report.
        """
        try:
            for number, task in enumerate(tasks, start=1):
                result, more = ask(task, f"task {number} of {len(tasks)}: {task.name}")
                self.results.append(result)
                entries[task.name] = report_entry(result) | more
                self.save()
        finally:
            if self.results:
                console().print(results_table(self.results, kind_of))
                figure = Figure(figsize=(6, 1.2 + 0.35 * len(self.results)), layout="constrained")
                draw_results(figure.subplots(), self.results)
                figure.savefig(self.path.with_suffix(".png"), dpi=120)
        core, error = core_score(self.results), core_error(self.results)
        print(f"mean of the centred scores: {core:+.4f} ± {error:.4f} (0: guessing, 1: all right)")
        return core, error


def report_folder(folder: Path, out: Path | None) -> Path:
    """Where the report of a run goes: to `out`, else into the run's folder. Raises CourseError where it cannot.

    That of the starter model goes into the home, where a run of this name would be.
    """
    out = out or (run_folder(folder.name, folder.parent.name) if folder.is_relative_to(data_dir()) else folder)
    check_writable(out, "give one that you can write to by --out")
    out.mkdir(parents=True, exist_ok=True)
    return out


@contextmanager
def open_evaluation(
    program: str, name: str, model: GPT, tokenizer: Tokenizer, step: int, path: Path
) -> Iterator[Evaluation]:
    """An evaluation for a `with` block, in which Ctrl-C and SIGTERM take effect at the next `pause`.

    They end the program with one sentence that says what is kept.
    """
    with StatusLine(1) as status, stop_when_asked() as stop:
        status.say(f"model {name}, step {step:,}")
        run = Evaluation(model, tokenizer, path, status, stop, found={"step": step})
        try:
            yield run
        except KeyboardInterrupt:
            kept = f"what was finished is in {path}" if run.saved else "nothing was finished"
            print(f"{program}: stopped during {run.part}; {kept}", file=sys.stderr)
            sys.exit(stop.code or 130)
        status.say(f"the report is {path}")


def report_entry(result: TaskResult) -> dict:
    """What a report says about a task; clusters: groups of items that are independent of each other."""
    return {
        "kind": result.task.kind,
        "items": result.count,
        "right": result.right,
        "baseline": result.task.baseline,
        "accuracy": result.accuracy,
        "standard_error": result.standard_error,
        "clusters": len(result.clusters) or result.count,
        "centred": result.centred,
    }


def results_table(results: list[TaskResult], kind_of: Callable[[Task], str]) -> Table:
    """The results as a table; ± is the standard error, over clusters where items belong together."""
    table = Table("task", header_style="")
    for column in ("kind", "items", "guessing", "accuracy", "centred"):
        table.add_column(column, justify="left" if column == "kind" else "right", no_wrap=True)
    for result in results:
        table.add_row(
            result.task.name,
            kind_of(result.task),
            f"{result.count:,}",
            f"{result.task.baseline:.1%}",
            f"{result.accuracy:.1%} ± {result.standard_error:.1%}",
            f"{result.centred:+.3f}",
        )
    return table


def draw_results(ax: Axes, results: list[TaskResult]) -> None:
    """Centred scores, two standard errors to each side; filled where that is above 0, guessing."""
    for n, result in enumerate(results):
        clear = result.centred - 2 * result.centred_error > 0
        marker, fill = ("o", "#0072B2") if clear else ("s", "white")
        doubt = 2 * result.centred_error
        ax.errorbar(result.centred, n, xerr=doubt, capsize=4, fmt=marker, mfc=fill, color="#0072B2")
    ax.axvline(0, color="#D55E00", linestyle="--")
    ax.set_yticks(range(len(results)), [result.task.name for result in results])
    ax.set_ylim(len(results) - 0.5, -0.5)
    ax.set_xlabel("centred score: 0 is guessing, 1 is all right")
