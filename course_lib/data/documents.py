"""Documents: the texts of a parquet file, one after another, and how a long text is cut.

Written by hand; chapter 06 uses it.
"""

from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten

import pyarrow as pa
import pyarrow.parquet as pq

from course_lib.data.parquet import open_whole
from course_lib.host.errors import CourseError


def open_parquet(path: Path) -> pq.ParquetFile:
    """The parquet file, its footer read.

    Raises CourseError when it is damaged or has no column `text` of strings, and OSError when the
    system cannot open it.
    """
    file = open_whole(path)
    names = file.schema_arrow.names
    if names.count("text") != 1:
        raise CourseError(
            f"{path} has the columns {shorten(', '.join(names), 80) or '(none)'}; expected one "
            "`text`: rename the one with the text"
        )
    kind = file.schema_arrow.field("text").type
    if pa.types.is_dictionary(kind):  # each text stored once, and a number for each row
        kind = kind.value_type
    strings = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(is_string(kind) for is_string in strings):
        raise CourseError(f"{path}: the column `text` holds {kind}, expected string; convert it")
    return file


def read_parquet(path: Path, start: int = 0) -> Iterator[tuple[int, str]]:
    """(row, text) of a parquet file from row `start` on; rows without a text (null) are skipped.

    Row groups before `start` are not read. Raises CourseError as `open_parquet` does.
    """
    with open_parquet(path) as file:
        row, groups = 0, list(range(file.num_row_groups))
        while groups and row + file.metadata.row_group(groups[0]).num_rows <= start:
            row += file.metadata.row_group(groups.pop(0)).num_rows
        try:
            for batch in file.iter_batches(16, row_groups=groups, columns=["text"]):
                for text in batch.column(0).to_pylist():
                    if row >= start and text is not None:
                        yield row, text
                    row += 1
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            if getattr(error, "errno", None):
                raise
            raise CourseError(f"{path} is damaged after row {row}; delete it and fetch or make it again") from error


LONGEST = 10_000


def cut(text: str) -> Iterator[str]:
    """The text as documents of 10,000 characters or fewer, which joined are the text again.

    The cut is after a blank line; where there is none, after a line, else a space, else anywhere.
    """
    start = 0
    while len(text) - start > LONGEST:
        end = start + _last_break(text[start : start + LONGEST])
        yield text[start:end]
        start = end
    yield text[start:]


def _last_break(text: str) -> int:
    """Where to cut: after the last blank line, else line, else space, else at the end."""
    for mark in ("\n\n", "\n", " "):
        if (found := text.rfind(mark)) > 0:
            return found + len(mark)
    return len(text)
