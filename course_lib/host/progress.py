"""What programs show on a terminal: bars, tables, labels, samples. Into a pipe goes plain text without any of them."""

import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TextIO

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from course_lib.host.words import in_one_line, printable

PROMPT = 32  # characters of a prompt, its last ones, in a line that also shows what follows


@cache
def console() -> Console:
    """The one console, on stdout: it knows of the bar that it draws, and so whatever it prints stands above that."""
    return Console(force_jupyter=False)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody sees what is written there."""
    return stream is not None and stream.isatty()


def bars(*columns: ProgressColumn, transient: bool = False) -> Progress:
    """A rich Progress with description, bar and `columns`, on the terminal that is stdout, else stderr, or nowhere.

    transient: it goes when it stops.
    """
    out, err = is_terminal(sys.stdout), is_terminal(sys.stderr)
    return Progress(
        "{task.description}",
        BarColumn(),
        *columns,
        console=console() if out else Console(stderr=True, force_jupyter=False),
        disable=not (out or err),
        redirect_stdout=out,
        redirect_stderr=err,
        transient=transient,
    )


def say(lines: str) -> None:
    """Print lines; on a terminal broken at words, the labels bold: "word  …" or "step 7: …"."""
    lines = printable(lines)
    if not is_terminal(sys.stdout):
        print(lines, flush=True)
        return
    for line in lines.splitlines():
        found = re.match(r"(\w[\w ]*? {2,}|step [\d,]+: )(.*)", line)
        if found:
            row = Table.grid()
            row.add_column(width=max(13, len(found[1])), style="bold")
            row.add_row(*map(Text, found.groups()))
        console().print(row if found else Text(line))  # as Text: a name may look like rich's markup, "[/b]"


def sample(prompt: str, text: str, label: str = "", cut: bool = False) -> None:
    """Print a prompt and what a model has made of it: indented, without line breaks and control codes of its own.

    label: before it. cut: on a terminal, to a single line.
    """
    prompt, text = in_one_line(prompt), in_one_line(text)
    before = f"{label}: " if label else ""
    if not is_terminal(sys.stdout):
        print(f"  {before}{prompt} … {text}", flush=True)
        return
    if cut and len(prompt) > PROMPT:
        last = prompt[-PROMPT:]
        prompt = f"… {last.partition(' ')[2] or last}"
    parts = before, (prompt, "bold"), " … ", text
    line = Text.assemble(*parts, overflow="ellipsis" if cut else "fold", no_wrap=cut)
    console().print(Padding(line, (0, 0, 0, 2), expand=False))


def suggest(commands: dict[str, str]) -> None:
    """On a terminal, say what can be done next: commands to copy, without their "uv run", and what each does."""
    if is_terminal(sys.stdout):
        width = max(map(len, commands))
        for number, (command, what) in enumerate(commands.items()):
            label = "" if number else "next"
            line = Text.assemble((f"{label:13}", "bold"), f"uv run {command:{width}}", (f"  # {what}", "dim"))
            console().print(line, soft_wrap=True)


@contextmanager
def rustbpe_merges(on_merges: Callable[[int], None]) -> Iterator[None]:
    """Call on_merges(so many) as rustbpe goes on: it says so in its log, "Progress: 12% (492/4096 merges) …"."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if found := re.search(r"\((\d+)/\d+ merges\)", record.getMessage()):
                on_merges(int(found[1]))

    log, handler = logging.getLogger("rustbpe"), Handler()
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


class StatusLine:
    """One line that says how far long work is: rewritten in place on a terminal, else printed now and then.

    Above it stand the lines that stay. quiet: nothing is shown at all.
    """

    def __init__(self, steps: int, quiet: bool = False):
        self._progress = bars(TextColumn("{task.fields[status]}", markup=False), transient=True)
        self._progress.disable = quiet or not is_terminal(sys.stdout)
        self._task = self._progress.add_task("", total=steps, status="")
        self._every, self._quiet = max(1, steps // 20), quiet

    def __enter__(self) -> "StatusLine":
        self._progress.start()
        return self

    def __exit__(self, *error) -> None:
        self._progress.stop()

    def show(self, step: int, status: str) -> None:
        """Say that `step` steps are done, and `status`."""
        if not self._progress.disable:
            self._progress.update(self._task, completed=step, status=status)
        elif step % self._every == 0 and not self._quiet:
            print(status, flush=True)

    def hint(self, status: str) -> None:
        """On a terminal, say how far a single step is."""
        if not self._progress.disable:
            self._progress.update(self._task, status=status)

    def say(self, lines: str) -> None:
        """`say`, above the status."""
        if not self._quiet:
            say(lines)

    def sample(self, prompt: str, text: str, label: str = "", cut: bool = False) -> None:
        """`sample`, above the status."""
        if not self._quiet:
            sample(prompt, text, label, cut)
