"""Progress bars of the programs, on stderr, and only where somebody sees them."""

import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn


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
