"""Conversations in files, in the forms in which people have them: nanochat's, ShareGPT, Alpaca and others.

Written by hand; chapter 13 uses it.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from rich.progress import TimeRemainingColumn

from course_lib.chat.messages import check_messages
from course_lib.data.parquet import most, too_much
from course_lib.data.text_file import lines_of
from course_lib.host.errors import CourseError
from course_lib.host.progress import bars
from course_lib.host.words import plural

FORMS = (
    '{"messages": […]}, […] with {"role", "content"} each, {"conversations": [{"from", "value"}, …]}, '
    '{"prompt", "completion"} or {"instruction", "input", "output"}'
)
ROLES = {"human": "user", "prompter": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant"}
ROLES |= {"model": "assistant"}
KINDS = 5  # of mistakes that are told apart in one sentence


def read_conversations(path: Path) -> list[list[dict]]:
    """All of `each_conversation`. Raises CourseError as it does."""
    return list(each_conversation(path))


def each_conversation(path: Path) -> Iterator[list[dict]]:
    """The messages of each row of a file: JSON lines, blank ones aside, or one JSON array; either also packed by gzip.

    Each row has one of FORMS; at the end a line says which. Raises CourseError in place of the end when there are rows
    that are no conversations: one sentence that counts the kinds of mistakes and shows the first of each.
    """
    forms, mistakes, any_json = Counter(), {}, False
    for place, row in _rows(path):
        any_json = any_json or not isinstance(row, CourseError)
        try:
            if isinstance(row, CourseError):
                raise row
            form, messages = _conversation(row)
        except CourseError as error:
            kind = str(error).partition(", expected ")[2] or str(error)  # what was found differs from row to row
            mistakes.setdefault(kind, [0, f"{place}: {error}"])[0] += 1
            continue
        forms[form] += 1
        yield messages
    if mistakes and not any_json:
        first = next(first for _, first in mistakes.values()).partition(", expected ")[0]
        raise CourseError(f"{path} has no row of JSON ({first}); give it rows such as {FORMS}")
    if mistakes:
        wrong = sum(count for count, _ in mistakes.values())
        found = [f"{count:,} rows like {first}" if count > 1 else first for count, first in mistakes.values()]
        more = [f"and {plural(len(found) - KINDS, 'more kind')} of mistake"] if len(found) > KINDS else []
        raise CourseError(
            f"{path} has {plural(wrong, 'row')} of {wrong + forms.total():,} that cannot be trained on: "
            f"{'; '.join(found[:KINDS] + more)}; correct them, or leave them out"
        )
    if not forms:
        raise CourseError(f"{path} has no conversation; give it rows such as {FORMS}")
    read = ", ".join(f"{plural(count, 'row')} of {form}" for form, count in forms.items())
    print(f"{path.name}: {read}", flush=True)


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(its place, in words; a row of the file as JSON gives it, or the CourseError that says why it does not)."""
    try:
        with path.open("rb") as raw, bars(TimeRemainingColumn(), transient=True) as progress:
            task = progress.add_task(path.name, total=path.stat().st_size)
            is_packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            file = gzip.GzipFile(fileobj=raw) if is_packed else raw
            lines = enumerate(lines_of(path, file), start=1)
            begin, first = next(((n, line) for n, line in lines if line.strip(b"\xef\xbb\xbf \t\r\n")), (0, b""))
            first = first.removeprefix(b"\xef\xbb\xbf")
            row = _parsed(first)
            if first.lstrip().startswith(b"[") and not _is_nanochat(row):
                row = _parsed(first + file.read(most(path)))
                if file.read(1):
                    raise too_much(path)
                if isinstance(row, CourseError):
                    raise CourseError(f"{path} begins as one JSON array, but {row}; correct it")
                yield from ((f"item {n}", each) for n, each in enumerate(row, start=1))
                return
            room = most(path)
            for number, line in chain([(begin, first)], lines):
                room -= len(line)
                if room < 0:
                    raise too_much(path)
                if number % 1000 == 0:
                    progress.update(task, completed=raw.tell())
                if line.strip():
                    yield f"line {number}", _parsed(line)
    except (OSError, EOFError, zlib.error) as error:
        raise CourseError(f"cannot read {path} ({error}); give a file of JSON lines") from error


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text.decode())
    except UnicodeDecodeError:
        return CourseError("it is no text in UTF-8, expected that")
    except (ValueError, RecursionError) as error:
        return CourseError(f"it is no JSON ({error}), expected an object or a list")


def _is_nanochat(row: object) -> bool:
    """Whether a list is the messages of one conversation, and not a list of such rows."""
    return isinstance(row, list) and (not row or isinstance(row[0], dict) and "role" in row[0])


def _conversation(row: Any) -> tuple[str, list[dict]]:
    """The name of a row's form, and its messages. Raises CourseError where nothing can be learnt from it."""
    if isinstance(row, list):
        form, messages = "nanochat's form", row
    elif not isinstance(row, dict):
        raise CourseError(f"it is {json.dumps(row):.40}, expected {FORMS}")
    elif "messages" in row:
        form, messages = "messages", row["messages"]
    elif "conversations" in row:
        form, messages = "ShareGPT", row["conversations"]
    elif {"prompt", "completion"} <= row.keys():
        form, messages = "prompt and completion", _by("user", row["prompt"]) + _by("assistant", row["completion"])
    elif {"instruction", "output"} <= row.keys():
        asked, more = row["instruction"], row.get("input")
        if more and isinstance(asked, str):
            asked = f"{asked}\n\n{more}" if isinstance(more, str) else more
        form, messages = "Alpaca", _by("user", asked) + _by("assistant", row["output"])
    else:
        raise CourseError(f"it has {', '.join(map(json.dumps, row)) or 'nothing':.80}, expected {FORMS}")
    if isinstance(messages, list):
        messages = list(map(_message, messages))
        if isinstance(row, dict) and isinstance(row.get("system"), str):
            messages = [{"role": "system", "content": row["system"]}, *messages]
        if messages and messages[0] == {"role": "system", "content": ""}:
            del messages[0]
    check_messages(messages)
    if not any(message["role"] == "assistant" for message in messages):
        raise CourseError("no message is from the assistant, so there is nothing to learn from")
    return form, messages


def _by(role: str, said: object) -> list:
    """What one side says: a text, or messages already."""
    return said if isinstance(said, list) else [{"role": role, "content": said}]


def _message(message: Any) -> Any:
    """A message with the course's names for its keys and roles, where it is one."""
    if not isinstance(message, dict):
        return message
    role, content = (message.get(name, message.get(other)) for name, other in (("role", "from"), ("content", "value")))
    if not isinstance(role, str) or content is None:
        return message
    role = role.lower()
    return {"role": ROLES.get(role, role), "content": content}
