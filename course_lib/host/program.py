"""How every program of the course starts and ends."""

import io
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args, get_type_hints

from course_lib.host.errors import CourseError, FlagError
from course_lib.host.paths import is_utf8, user_path
from course_lib.host.stop import silence
from course_lib.host.words import printable


@dataclass(frozen=True, repr=False)
class Bounds:
    """The values that a flag takes; stands beside its type, `Annotated[int, Bounds(1)]`. None is always let through."""

    least: float = -math.inf
    most: float = sys.float_info.max
    above: bool = False  # more than `least`, not `least` itself

    def hold(self, value: float) -> bool:
        """Whether `value` is within; NaN is not."""
        return (value > self.least if self.above else value >= self.least) and value <= self.most

    def __str__(self) -> str:
        if self.above:
            return f"a number above {self.least}"
        if self.most == sys.float_info.max:
            return f"{self.least} or more"
        return f"{self.least} to {self.most}"

    __repr__ = __str__  # tyro shows it to who gives no number


AtLeastZero = Annotated[int, Bounds(0)]
AtLeastOne = Annotated[int, Bounds(1)]
NonNegative = Annotated[float, Bounds(0)]
MoreThanZero = Annotated[float, Bounds(0, above=True)]
Fraction = Annotated[float, Bounds(0, 1)]
Seed = Annotated[int, Bounds(0, 2**32 - 1)]


def run_program(name: str, settings: type, work: Callable, argv: list[str] | None = None) -> None:
    """Read the flags of the dataclass `settings` from `argv` (default: the command line) and `call` work(settings).

    Every field of `settings` has a default.
    """
    make_output_safe()
    flags = sys.argv[1:] if argv is None else argv
    arguments = _parsed(name, settings, flags) if flags else settings()

    def checked() -> int | None:
        check_bounds(arguments)
        return work(arguments)

    call(name, checked)


def _parsed(name: str, settings: type, flags: list[str]) -> Any:
    """The flags as an instance of `settings`; a path goes through `user_path`."""
    import tyro  # 0.15 s that a run without flags need not pay

    def path_of(words: list[str]) -> Path:
        try:
            return user_path(words[0])
        except CourseError as error:  # a ValueError, of which tyro would make ten lines
            _end(f"{name}: {error}", 2)

    spec = tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=path_of,
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(lambda info: spec if info.type is Path else None)
    return tyro.cli(settings, prog=name, args=flags, registry=registry)


def make_output_safe() -> None:
    """Let no output end a program: a character that stdout or stderr has no code for becomes "?".

    And let none of the three streams be closed, as in `microgpt --help >&-`.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def call(name: str, work: Callable[[], int | None]) -> None:
    """Do the work of the program `name`, and end the process with the exit code that it returns, if that is not 0.

    A CourseError or OSError ends it with one sentence on stderr and exit code 1, a wrong flag with 2, Ctrl-C with 130;
    a reader that goes away early (`microgpt | head`) ends it quietly.
    """
    make_output_safe()
    try:
        code = work()
        sys.stdout.flush()
    except FlagError as error:
        _end(f"{name}: {error}", 2)
    except CourseError as error:
        _end(f"{name}: {error}", 1)
    except KeyboardInterrupt:
        _end(f"{name}: interrupted", 130)
    except OSError as error:
        silence(sys.stdout)
        if isinstance(error, BrokenPipeError):
            sys.exit(0)
        _end(f"{name}: {error}; mend that and run it again", 1)
    if code:
        sys.exit(code)


def check_bounds(flags: object) -> None:
    """Raise FlagError for a field of the dataclass `flags` outside the Bounds beside its type.

    And for text that is no UTF-8, as MLX and pyarrow take no other paths.
    """
    for name, hint in get_type_hints(type(flags), include_extras=True).items():
        value = getattr(flags, name)
        if isinstance(value, str | Path) and not is_utf8(value):
            flag = name.replace("_", "-")
            raise FlagError(f"--{flag} is {str(value)!r}, with bytes that are no UTF-8; rename it, and give that")
        for bounds in _bounds_in(hint):
            if value is not None and not bounds.hold(value):
                raise FlagError(f"--{name.replace('_', '-')} is {value}, expected {bounds}")


def _bounds_in(hint: object) -> list[Bounds]:
    """The Bounds of a type hint: of `Annotated[…]`, or of the parts of a union."""
    found = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Bounds)]
    return found + [bounds for part in get_args(hint) for bounds in _bounds_in(part)]


def given_flags(flags: type[Any], argv: list[str]) -> frozenset[str]:
    """Names of the fields of the dataclass `flags` that stand in `argv`: those that a user has given."""
    words = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    words |= {word.removeprefix("no_") for word in words}
    return frozenset(words & {field.name for field in fields(flags)})


def _end(message: str, code: int) -> NoReturn:
    message = printable(message)
    if sys.stderr.isatty():  # which would break the line within words
        import textwrap

        width = os.get_terminal_size(sys.stderr.fileno()).columns or 80  # 0: not known
        message = textwrap.fill(message, width, break_long_words=False, break_on_hyphens=False)
    print(message, file=sys.stderr)
    sys.exit(code)
