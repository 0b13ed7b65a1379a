"""How every program of the course starts and ends."""

import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from course_lib.host.errors import CourseError, FlagError


def run_program(name: str, settings: type, work: Callable, argv: list[str] | None = None) -> None:
    """Read the flags of the dataclass `settings` from `argv` (default: the command line) and call `work(settings)`.

    Every field of `settings` has a default.
    A CourseError or OSError ends the program with one sentence on stderr and exit code 1, a wrong flag with 2, Ctrl-C
    with 130; a reader that goes away early (`microgpt | head`) ends it quietly.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w")  # `microgpt --help >&-`: tyro asks it too
    flags = sys.argv[1:] if argv is None else argv
    if flags:
        import tyro  # 0.15 s that a run without flags need not pay

        arguments = tyro.cli(settings, prog=name, args=flags)
    else:
        arguments = settings()
    try:
        work(arguments)
        sys.stdout.flush()
    except FlagError as error:
        _end(f"{name}: {error}", 2)
    except CourseError as error:
        _end(f"{name}: {error}", 1)
    except KeyboardInterrupt:
        _end(f"{name}: interrupted", 130)
    except OSError as error:
        with suppress(OSError):  # in a notebook stdout is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at exit
        if isinstance(error, BrokenPipeError):
            sys.exit(0)
        _end(f"{name}: {error}; mend that and run it again", 1)


def check_least(settings: object, **least: int) -> None:
    """Raise FlagError for a flag of `settings` below its least value, infinite or not a number; None is let through."""
    for flag, bound in least.items():
        value = getattr(settings, flag)
        if value is not None and not bound <= value < math.inf:
            raise FlagError(f"--{flag.replace('_', '-')} is {value}, expected {bound} or more")


def _end(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)
