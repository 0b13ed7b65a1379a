"""Conversations to train on: the lessons, files of your own, and what the hub has.

All are functions of a number, so that a run can go on at any of them.

Written by hand; chapter 13 uses it.
"""

import bisect
import itertools
import json
import random
import re
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from course_lib.chat.files import each_conversation
from course_lib.chat.files import read_conversations as read_conversations
from course_lib.chat.lessons import practice
from course_lib.host.errors import CourseError
from course_lib.host.paths import existing_path

Conversations = Callable[[int], list[dict]]  # number -> messages


def multiple_choice_messages(question: str, letters: Sequence[str], choices: Sequence[str], answer: str) -> list[dict]:
    """A question with its options, as nanochat asks it: each option, then its letter.

    So that the letter stands right after "=", as a token of its own.
    """
    options = "".join(f"- {choice}={letter}\n" for letter, choice in zip(letters, choices, strict=True))
    asked = f"Multiple Choice question: {question}\n{options}\n"
    asked += "Respond only with the letter of the correct answer."
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def gsm8k_messages(row: dict) -> list[dict]:
    """A problem of GSM8K; its <<12/2=6>> become calls of the calculator with their outputs."""
    parts = []
    for number, piece in enumerate(re.split(r"<<([^>]+)>>", row["answer"])):
        if number % 2 == 0:
            parts.append({"type": "text", "text": piece})
            continue
        expression, _, result = piece.rpartition("=") if "=" in piece else (piece, "", "")
        parts.append({"type": "python", "text": expression})
        parts.append({"type": "python_output", "text": result})
    return [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": parts}]


def arc_messages(row: dict) -> list[dict]:
    """A question of ARC."""
    choices = row["choices"]
    return multiple_choice_messages(row["question"], choices["label"], choices["text"], row["answerKey"])


def mmlu_messages(row: dict) -> list[dict]:
    """A question of MMLU."""
    return multiple_choice_messages(row["question"], "ABCD", row["choices"], "ABCD"[row["answer"]])


FROM_HUB = {
    "smoltalk": lambda row: row["messages"],
    "gsm8k": gsm8k_messages,
    "arc-easy": arc_messages,
    "arc-challenge": arc_messages,
    "mmlu": mmlu_messages,
}


def shuffled(items: Sequence, read: Callable = lambda item: item) -> Conversations:
    """Items for ever, each once an epoch, in an order that differs from epoch to epoch."""
    orders: dict[int, list[int]] = {}

    def conversation(number: int) -> list[dict]:
        epoch, place = divmod(number, len(items))
        if epoch not in orders:
            orders.clear()
            orders[epoch] = random.Random(f"order,{epoch}").sample(range(len(items)), len(items))
        return read(items[orders[epoch][place]])

    return conversation


def is_held_out(item: str) -> bool:
    """Whether a conversation of a file, as JSON, belongs to validation, as one in twenty does."""
    return zlib.crc32(item.encode()) % 20 == 0


@cache
def split_file(path: Path, changed: int) -> dict[str, list[str]]:
    """The conversations of a file, for both splits, as JSON: it takes less memory than dicts do.

    changed: when the file was, so that it is read anew only then.
    """
    items = [json.dumps(messages, sort_keys=True) for messages in each_conversation(path)]
    held_out = {item for item in items if is_held_out(item)} or {items[-1]}
    kept = [item for item in items if item not in held_out]
    return {"train": kept or items, "val": [item for item in items if item in held_out]}


def open_conversations(name: str, split: str) -> tuple[Conversations, int | None]:
    """Conversations of "train" or "val", and how many there are before they come again.

    name: "practice" (the lessons; None: they never come again), a key of FROM_HUB, which is
    downloaded the first time, or the path of a file. Raises CourseError for another.
    """
    if name == "practice":
        return (lambda number: practice(number, split="test" if split == "val" else split)), None
    if name in FROM_HUB:
        from course_lib.chat.corpora import rows  # slow to import, and seldom needed

        items = rows(name, "train" if split == "train" else "test")
        return shuffled(items, FROM_HUB[name]), len(items)
    path = existing_path(name)
    if not path or not path.is_file():
        known = ", ".join(["practice", *FROM_HUB])
        raise CourseError(f"there are no conversations {name!r}; expected {known}, or a file of JSON")
    items = split_file(path, path.stat().st_mtime_ns)[split]
    return shuffled(items, json.loads), len(items)


def mixed(sources: Sequence[tuple[Conversations, int | None]]) -> Conversations:
    """Conversations of several sources, each of them once an epoch; an endless one has 100,000."""
    if len(sources) == 1:
        return sources[0][0]
    sizes = [size or 100_000 for _, size in sources]
    starts = list(itertools.accumulate(sizes, initial=0))
    order: Callable[[int], Any] = shuffled(range(starts[-1]))  # of numbers here

    def conversation(number: int) -> list[dict]:
        place, epoch = order(number), number // starts[-1]
        which = bisect.bisect_right(starts, place) - 1
        return sources[which][0](place - starts[which] + epoch * sizes[which])

    return conversation
