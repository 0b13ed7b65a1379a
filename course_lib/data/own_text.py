"""Text as people have it: plain text, JSON, CSV and parquet, also packed with gzip, and folders of such files.

Written by hand; chapter 06 uses it.
"""

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from textwrap import shorten
from typing import Any, TextIO

from course_lib.data.documents import cut, open_parquet, read_parquet
from course_lib.data.parquet import most, too_much
from course_lib.data.text_file import explained, lines_of, max_chars, open_bytes, open_text, too_long
from course_lib.host.errors import CourseError
from course_lib.host.words import in_one_line, plural, printable

CHUNK = 1 << 20  # characters
BLANK = re.compile(r"\s*")


class NoText(CourseError):
    """A JSON or CSV file that is well formed, and whose first value or row has no text."""


def text_files(path: Path) -> list[Path]:
    """The files of text that `path` is or holds, in the order of their names.

    Hidden files and folders are left out, and links that lead out of the folder. Raises CourseError when there is none.
    """
    return _look_through(path)[0]


def read_texts(path: Path) -> Iterator[str]:
    """Every text of the file or folder, cut where it is long; says at the end what was read and what left out.

    Raises CourseError for a file that cannot be read, with the line; in a folder, a JSON or CSV file that does not
    begin with a text is left out instead.
    """
    files, left_out = _look_through(path)
    kinds, nulls = Counter(), 0
    for file in files:
        began = False
        try:
            for text in _bounded(file):
                began = True
                if text is None:
                    nulls += 1
                else:
                    yield from cut(text)
        except NoText:
            if began or file == path:
                raise
            left_out.setdefault(f"{ending(file)} without a text", []).append(file.name)
        else:
            kinds[ending(file)] += 1
    if left_out or nulls or files != [path]:
        said = f"read {', '.join(f'{many:,} {kind}' for kind, many in kinds.most_common()) or 'nothing'}"
        if left_out:
            said += f"; left out {plural(sum(map(len, left_out.values())), 'file')}: {_in_words(left_out)}"
        if nulls:
            said += f"; skipped {plural(nulls, 'row')} without a text"
        print(printable(f"{path.name}: {said}"), flush=True)


def _look_through(path: Path) -> tuple[list[Path], dict[str, list[str]]]:
    """The files of text in `path`, and the names of the others by kind."""
    files, left_out = [], {}
    known = ", ".join(kind for kind in READERS if kind != ".parquet") + ", these also with .gz, and .parquet"
    if not path.is_dir():
        if ending(path) not in READERS:
            raise CourseError(
                f"{path} has no text that is known by its ending; expected {known}: convert it, or rename it to "
                ".txt if it is plain text"
            )
        return [path], left_out
    root = os.path.realpath(path)
    with explained(path):
        for folder, folders, names in os.walk(path, onerror=_raise):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for file in (Path(folder, name) for name in sorted(names) + folders if not name.startswith(".")):
                if kind := _why_not(file, root):
                    left_out.setdefault(kind, []).append(file.name)
                elif file.is_file():
                    files.append(file)
    if not files:
        raise CourseError(
            f"{path} has no text{', but ' * bool(left_out)}{_in_words(left_out)}; expected files that end in {known}, "
            "in the folder itself and not linked from elsewhere"
        )
    return sorted(files), left_out


def _raise(error: OSError) -> None:
    raise error


def _why_not(file: Path, root: str) -> str:
    """The kind of a file that is no text; nothing for a text, or for a folder, which is looked through where it is."""
    if file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(root):
        return "linked from elsewhere"
    if file.is_dir() or (file.is_file() and ending(file) in READERS):
        return ""
    if file.is_file():
        return file.suffix.lower()[:12] or "without an ending"
    return "not a file"  # a broken link, a pipe


def _in_words(left_out: dict[str, list[str]]) -> str:
    """Such as "12 .png (a.png, …), 1 linked from elsewhere (hosts)"."""
    largest = sorted(left_out.items(), key=lambda item: -len(item[1]))
    words = [f"{len(names):,} {kind} ({names[0][:40]}{', …' * (len(names) > 1)})" for kind, names in largest]
    return in_one_line(printable(", ".join(words[:8] + ["…"] * (len(words) > 8))))


def ending(path: Path) -> str:
    """ ".txt" of "a.TXT" and of "a.txt.gz"."""
    found = Path(path.name.lower().removesuffix(".gz")).suffix
    return ".gz" if found == ".parquet" and path.suffix.lower() == ".gz" else found


def _bounded(path: Path) -> Iterator[str | None]:
    """The texts of a file, None where a row has none. Raises CourseError when they are far larger than the file."""
    with explained(path):
        room = most(path)
    for text in READERS[ending(path)](path):
        room -= len(text or "")
        if room < 0:
            raise too_much(path)
        yield text


def _read_plain(path: Path) -> Iterator[str]:
    rest = ""
    with open_text(path) as file:
        while more := file.read(CHUNK):
            *whole, rest = cut(rest + more)
            yield from whole
    yield rest


def _read_jsonl(path: Path) -> Iterator[str | None]:
    with open_bytes(path) as file:
        if file.peek(1024).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            yield from _read_json(path)
            return
        for number, line in enumerate(lines_of(path, file), start=1):
            if line.strip():
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise CourseError(_unexpected(path, number, _reason(error))) from error
                yield _text_of(value, path, number)


def _read_json(path: Path) -> Iterator[str | None]:
    with open_text(path) as file:
        for line, value in _values(path, file):
            yield _text_of(value, path, line)


def _text_of(value: Any, path: Path, line: int) -> str | None:
    text = value.get("text", value) if isinstance(value, dict) else value
    if text is None:
        return None
    if not isinstance(text, str):
        found = shorten(json.dumps(value, ensure_ascii=False), 60)
        error = NoText if ending(path) == ".json" else CourseError
        raise error(_unexpected(path, line, f"found {found}"))
    # "\ud800", half a surrogate pair, is valid JSON and no character
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unexpected(path: Path, line: int, reason: str) -> str:
    expected = 'expected a JSON object such as {"text": "…"}'
    return f"{path}, line {line}: {reason}; {expected}; correct that line, or leave the file out"


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.colno}"
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _values(path: Path, file: TextIO) -> Iterator[tuple[int, Any]]:
    """(line, value) of the JSON values in an array, or of one after another.

    No more lies in memory than a value and a chunk.
    """
    decode, text, at, line, mark = json.JSONDecoder().raw_decode, file.read(CHUNK), 0, 1, ""
    array, longest = text.lstrip().startswith("["), max_chars()
    while mark != "]":
        try:
            start = _after_blanks(text, at)
            if start == len(text):
                raise IndexError  # caught below, as where text[…] finds nothing
            if array and not mark:  # before the first value
                start = _after_blanks(text, start + 1)
            if array and text[start] == "]":
                if mark:
                    raise json.JSONDecodeError("Illegal trailing comma before end of array", text, start)
                value, end = None, start
            else:
                value, end = decode(text, start)
            after = _after_blanks(text, end)
            if array and text[after] not in ",]":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, after)
        except (ValueError, IndexError, RecursionError) as error:
            more = "" if len(text) - at > longest else file.read(max(CHUNK, len(text) - at))
            if more:
                text, at = text[at:] + more, 0
                continue
            if start == len(text) and not array:
                return
            if len(text) - at > longest:
                raise too_long(path, line) from error
            ends_early = isinstance(error, IndexError)
            place = len(text.rstrip()) if ends_early else getattr(error, "pos", at)
            reason = "the array does not end" if ends_early else _reason(error)
            raise CourseError(_unexpected(path, line + text.count("\n", at, place), reason)) from error
        if end - start > longest:
            raise too_long(path, line)
        if end > start:
            yield line + text.count("\n", at, start), value
        mark = text[after] if array else " "
        line, at = line + text.count("\n", at, after), after + array
    if (text[at:] + file.read(CHUNK)).strip():
        raise CourseError(_unexpected(path, line, "more after the end of the array"))


def _after_blanks(text: str, start: int) -> int:
    return BLANK.match(text, start).end()  # ty: ignore[missing-union-attribute]


def _read_csv(path: Path) -> Iterator[str | None]:
    csv.field_size_limit(max_chars())
    with open_text(path) as file:
        lines = lines_of(path, file)
        head = next(lines, "")
        heads = {mark: next(csv.reader([head], delimiter=mark), []) for mark in ",;\t"}
        mark = next((mark for mark, names in heads.items() if names.count("text") == 1), None)
        if mark is None:
            columns = shorten(", ".join(heads[","]), 80) or "(none)"
            raise NoText(f"{path} has the columns {columns}; expected one `text`: rename the one with the text")
        rows, column, line = csv.reader(lines, delimiter=mark, strict=True), heads[mark].index("text"), 2
        try:
            for row in rows:
                if row:
                    yield row[column] if column < len(row) else None
                line = rows.line_num + 2
        except csv.Error as error:
            raise CourseError(f"{path}, line {line}: {error}; correct the row that begins there") from error


def _read_parquet(path: Path) -> Iterator[str | None]:
    found = 0
    with explained(path):
        for _, text in read_parquet(path):
            found += 1
            yield text
        with open_parquet(path) as file:
            yield from repeat(None, file.metadata.num_rows - found)


READERS = {
    **dict.fromkeys((".txt", ".md", ".rst"), _read_plain),
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    **dict.fromkeys((".csv", ".tsv"), _read_csv),
    ".parquet": _read_parquet,
}
