"""Experiments that take too long for a learner's machine: run once by an author, kept as a table, read by everybody."""

import csv
import io
import os
import platform
import time
from collections.abc import Callable, Iterable
from datetime import date
from importlib.metadata import version

from course_lib.classroom.cells import quick_run
from course_lib.host.errors import CourseError
from course_lib.host.files import write_atomically
from course_lib.host.paths import data_dir


def stored(name: str, compute: Callable[[], Iterable[dict]]) -> list[dict]:
    """The rows of the experiment `name`, from `data/experiments/NAME.csv`; prints where and when they were measured.

    compute: makes the rows, all with the same columns, "seed" and "steps" among them. It stands in the notebook and
    takes its steps and seeds from `budget`. `course run --experiments` calls it and writes the file. A quick run calls
    it too, and keeps nothing. Raises CourseError when the file is missing or its columns are others.
    """
    path = data_dir() / "experiments" / f"{name}.csv"
    mend = "`course run --experiments` with the number of the chapter makes it"
    if quick_run():
        table = _as_table(name, compute())
        if path.exists() and table.splitlines()[0] != path.read_text("utf-8").splitlines()[1]:
            raise CourseError(f"{path.name} has other columns than the rows of {name} have now; {mend}")
        return _rows(table)
    if os.environ.get("COURSE_EXPERIMENTS") == "1":
        started = time.monotonic()
        table = _as_table(name, compute())
        path.parent.mkdir(exist_ok=True)
        with write_atomically(path) as file:
            file.write(
                f"# measured on {date.today()} in {time.monotonic() - started:,.0f} s: {platform.system()} "
                f"{platform.machine()}, {os.cpu_count()} cores, mlx {version('mlx')}\n{table}"
            )
    if not path.exists():
        raise CourseError(f"data/experiments/{path.name} is missing; {mend}, and an update of the course brings it")
    about, _, table = path.read_text("utf-8").partition("\n")
    print(f"{name}: {about.removeprefix('# ')}")
    return _rows(table)


def _as_table(name: str, rows: Iterable[dict]) -> str:
    """The rows as CSV; a number of NumPy or MLX counts as a number of Python."""
    plain = [{key: value.item() if hasattr(value, "item") else value for key, value in row.items()} for row in rows]
    columns = list(plain[0]) if plain else []
    if not {"seed", "steps"} <= set(columns) or any(list(row) != columns for row in plain):
        raise CourseError(f"each row of {name} must have the same columns, seed and steps among them; it has {columns}")
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)
    return file.getvalue()


def _rows(table: str) -> list[dict]:
    return [{key: _parsed(text) for key, text in row.items()} for row in csv.DictReader(io.StringIO(table))]


def _parsed(text: str) -> bool | int | float | str:
    """What the text stands for."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
