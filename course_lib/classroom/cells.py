"""Small helpers for notebook cells: a class that grows, a run that can be short."""

import os
import sys


def add_to(cls: type):
    """Attach the decorated function to `cls` as a method, so that a class can grow over several cells.

    `course export` writes the function inside the class body, as if it had stood there from the start.
    """

    def attach(function):
        # A property or class method keeps its function inside; the name is the same either way.
        inner = getattr(function, "fget", None) or getattr(function, "__func__", function)
        inner.__qualname__ = f"{cls.__qualname__}.{inner.__name__}"
        setattr(cls, inner.__name__, function)
        return function

    return attach


def budget(full: int, quick: int) -> int:
    """How many steps to run: `quick` when COURSE_QUICK is set (tests), else `full`."""
    return quick if quick_run() else full


def quick_run() -> bool:
    """Whether COURSE_QUICK asks for short runs."""
    return os.environ.get("COURSE_QUICK", "0") not in ("", "0")


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, and not a script or a test."""
    ipython = sys.modules.get("IPython")
    return hasattr(ipython and ipython.get_ipython(), "kernel")


def command_line(notebook_flags: list[str]) -> list[str]:
    """Flags for a program that a cell starts: the shell's when the text runs as a script, else `notebook_flags`."""
    return notebook_flags if in_notebook() else sys.argv[1:]
