"""Parquet files that are whole.

Written by hand; chapter 06 uses it.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from course_lib.host.errors import CourseError


def open_whole(path: Path) -> pq.ParquetFile:
    """The parquet file, its footer read.

    Raises CourseError when it is cut off or damaged, and OSError when the system cannot open it.
    """
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None):
            raise
        raise CourseError(f"{path} is no complete parquet file; delete it and fetch or make it again") from error
