"""Documents: the texts that files hold, one after another, whatever form the files have.

Exported from notebooks/06_data.ipynb; edit it there.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from course_lib.data.parquet import open_whole
from course_lib.host.errors import CourseError

# ---- 2. Parquet


def open_parquet(path: Path) -> pq.ParquetFile:
    """The parquet file, its footer read.

    Raises CourseError when it is damaged or has no column `text` of strings, and OSError when the
    system cannot open it.
    """
    file = open_whole(path)
    names = file.schema_arrow.names
    if names.count("text") != 1:
        raise CourseError(
            f"{path} has the columns {', '.join(names) or '(none)'}; expected one `text`: rename the one with the text"
        )
    kind = file.schema_arrow.field("text").type
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
            for batch in file.iter_batches(1024, row_groups=groups, columns=["text"]):
                for text in batch.column(0).to_pylist():
                    if row >= start and text is not None:
                        yield row, text
                    row += 1
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            if getattr(error, "errno", None):
                raise
            raise CourseError(f"{path} is damaged after row {row}; delete it and fetch or make it again") from error


# ---- Appendix: own text


LONGEST = 20_000


def read_txt(path: Path) -> Iterator[str]:
    """The text of a UTF-8 file, cut after blank lines into documents of 20,000 characters or fewer.

    Where there is no blank line, the cut is after a line, else after a space, else anywhere. The
    documents joined are the file's text. Raises CourseError for a file that is not UTF-8.
    """
    text = ""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            while more := file.read(LONGEST):
                text += more
                while len(text) > LONGEST:
                    cut = _last_break(text[:LONGEST])
                    yield text[:cut]
                    text = text[cut:]
    except UnicodeDecodeError as error:
        raise CourseError(f"{path} is not UTF-8; save it as UTF-8, or leave it out") from error
    yield text


def _last_break(text: str) -> int:
    """Where to cut: after the last blank line, else line, else space, else at the end."""
    for mark in ("\n\n", "\n", " "):
        if (found := text.rfind(mark)) > 0:
            return found + len(mark)
    return len(text)


def read_jsonl(path: Path) -> Iterator[str]:
    """The `text` of each line's JSON object; blank lines are skipped.

    Raises CourseError with the line's number for a line that is something else.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                text = json.loads(line)["text"]
                if not isinstance(text, str):
                    raise TypeError
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise CourseError(
                    f'{path}, line {number}: expected a JSON object such as {{"text": "…"}}; correct that line'
                ) from error
            # "\ud800", half a surrogate pair, is valid JSON and no character
            yield text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


READERS = {
    ".txt": read_txt,
    ".jsonl": read_jsonl,
    ".parquet": lambda path: (text for _, text in read_parquet(path)),
}


def text_files(path: Path) -> list[Path]:
    """The .txt, .jsonl and .parquet files that `path` is or holds, in the order of their names.

    Hidden files and folders are left out. Raises CourseError when there are none.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    files = [file for file in files if file.suffix.lower() in READERS]
    files = [file for file in files if not _is_hidden(file.relative_to(path))]
    if not files:
        raise CourseError(f"{path} has no text; expected a file or a folder of files: {', '.join(READERS)}")
    return files


def _is_hidden(inside: Path) -> bool:
    return any(part.startswith(".") for part in inside.parts)
