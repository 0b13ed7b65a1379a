"""Parquet files that are whole, and no larger than they look.

Written by hand; chapter 06 uses it.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from course_lib.data.text_file import RAISE, max_chars
from course_lib.host.errors import CourseError

EXPANSION = 100  # text packs to a third or a tenth; what unpacks to more times its size repeats itself


def open_whole(path: Path) -> pq.ParquetFile:
    """The parquet file, its footer read.

    Raises CourseError when it is cut off or damaged, or announces far more than it can hold, and OSError when the
    system cannot open it.
    """
    try:
        file = pq.ParquetFile(path)
        groups = map(file.metadata.row_group, range(file.num_row_groups))
        size = sum(group.total_byte_size for group in groups)
    except UnicodeDecodeError as error:
        raise CourseError(f"{path} has a column whose name is not UTF-8; write it again with another name") from error
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None):
            raise
        raise CourseError(f"{path} is no complete parquet file; delete it and fetch or make it again") from error
    if size > most(path):
        file.close()
        raise too_much(path)
    return file


def most(path: Path) -> int:
    """Bytes or characters to which a file may unpack."""
    return max(max_chars(), EXPANSION * path.stat().st_size)


def too_much(path: Path) -> CourseError:
    """The error that says so."""
    return CourseError(
        f"{path} unpacks to more than {EXPANSION} times its size and {max_chars():,} characters, as text rarely does; "
        f"leave it out, or {RAISE}"
    )
