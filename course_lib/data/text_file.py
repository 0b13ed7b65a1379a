"""Text files as they come: UTF-8, or UTF-16 with its mark, packed with gzip or not; and how much of one is too much.

Written by hand; chapters 01, 06 and 13 use it.
"""

import codecs
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from course_lib.host.errors import CourseError

MAX_CHARS = 100_000_000
RAISE = "set COURSE_MAX_CHARS in the environment to a larger number if it is meant so"


def max_chars() -> int:
    """The longest line, document or list of names, and the least to which a packed file may unpack: more could fill
    the memory. COURSE_MAX_CHARS in the environment says another. Raises CourseError when that is no whole number.
    """
    value = os.environ.get("COURSE_MAX_CHARS") or str(MAX_CHARS)
    if not value.isdecimal() or not 0 < int(value) < 1 << 31:
        raise CourseError(f"COURSE_MAX_CHARS={value}; expected a whole number such as {MAX_CHARS}, below {1 << 31}")
    return int(value)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What goes wrong while the file is read becomes a CourseError that names it."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise CourseError(f"{path}: the name of this file is not UTF-8; rename it") from error
    except UnicodeError as error:
        raise CourseError(f"{path} is not UTF-8; save it as UTF-8, or leave it out") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CourseError(f"{path} is no whole gzip file; fetch or pack it again") from error
    except OSError as error:
        where = error.filename or path
        raise CourseError(f"cannot read {where} ({error.strerror}); make it readable, or leave it out") from error


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """The file's bytes, unpacked where its name ends in .gz. Raises CourseError as `explained` does, all along."""
    with explained(path), (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
        yield file  # ty: ignore[invalid-yield]


@contextmanager
def open_text(path: Path, newline: str | None = "") -> Iterator[TextIO]:
    """The same as text. newline: as of Python's `open`."""
    with open_bytes(path) as file:
        utf16 = file.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        yield io.TextIOWrapper(file, "utf-16" if utf16 else "utf-8-sig", newline=newline)


def too_long(path: Path, line: int) -> CourseError:
    """The error for a line or a document that could fill the memory."""
    return CourseError(
        f"{path}, line {line}: over {max_chars():,} characters, too long for one document; cut it into several, or "
        f"{RAISE}"
    )


def lines_of(path: Path, file: Any) -> Iterator[Any]:
    """The lines of an open file, none of which fills the memory. Raises CourseError for one that could."""
    longest = max_chars()
    for number in count(1):
        line = file.readline(longest + 1)
        if len(line) > longest:
            raise too_long(path, number)
        if not line:
            return
        yield line
