"""Progress bars of the programs, on stderr, and only where somebody sees them."""

import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn


def bars(*columns: ProgressColumn) -> Progress:
    """A rich Progress with description, bar and `columns`; it draws nothing when stderr is no terminal."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    console = Console(stderr=True, force_terminal=is_terminal, force_jupyter=False)
    return Progress("{task.description}", BarColumn(), *columns, console=console, disable=not is_terminal)


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
    """One line that says how far long work is: rewritten in place on a terminal, else printed now and then."""

    def __init__(self, steps: int, quiet: bool = False):
        self._progress = bars(TextColumn("{task.fields[status]}", markup=False))
        self._progress.disable = self._progress.disable or quiet
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

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if not self._quiet:
            if self._progress.disable:
                print(line, flush=True)
            else:  # as it is: what a model writes may look like rich's markup, "[/b]"
                self._progress.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
