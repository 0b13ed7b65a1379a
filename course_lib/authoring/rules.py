"""What a chapter promises its reader: minutes that are counted, a size, claims, and the way to the next one."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from course_lib.authoring.tree import Pair, all_pairs, read_text
from course_lib.host.errors import CourseError

# These chapters are not yet held to the limits below; whoever rewrites one takes it out. In the end it is empty.
NOT_YET_REWRITTEN: list[str] = []
LIMITS = {  # what a learner reads in one sitting; longer code belongs into the package
    "cells": 110,
    "lines of code": 600,
    "words": 3500,
    "lines of its longest code cell": 40,
    "lines of its median code cell": 8,
}
GOAL = re.compile(r"\*\*Goal\.\*\* (.+?)(?:\n\n|$)", re.DOTALL)
TIME = re.compile(r"^\| Time \| (\d+) minutes to read, (\d+) for the exercises.*?[;,] ([^;,|]*) to run", re.MULTILINE)


@dataclass(frozen=True)
class Header:
    """What a chapter states at its head: goal and run in words for a table, reading and exercises in minutes."""

    goal: str
    reading: int
    exercises: int
    run: str


def header(pair: Pair) -> Header:
    """The header of a chapter; CourseError when it has another form."""
    source = prose(read_text(pair).cells)
    goal, time = GOAL.search(source), TIME.search(source)
    if not goal or not time:
        raise CourseError(
            f"{pair.show(pair.text)}: has no header; it must hold '**Goal.** …' and '| Time | 40 minutes to read, 50 "
            "for the exercises; a minute to run |'"
        )
    return Header(" ".join(goal[1].replace("|", "\\|").split()), int(time[1]), int(time[2]), time[3])


def prose(cells: list) -> str:
    """All Markdown of a chapter."""
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def code_lines(cells: list) -> list[int]:
    """How many lines each code cell has on the page, without an export mark."""
    sources = [cell.source.splitlines() for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    return [len(lines) - lines[0].startswith("#|") for lines in sources]


def size(cells: list) -> dict[str, float]:
    """What LIMITS are about, by the same names. A word holds a letter or a digit; the line of links has none."""
    lines = code_lines(cells) or [0]
    read = re.sub(r"^\S+ · .*\[open this one in Colab\].*$", "", prose(cells), flags=re.MULTILINE)
    words = sum(bool(re.search(r"\w", word)) for word in read.split())
    return dict(zip(LIMITS, (len(cells), sum(lines), words, max(lines), median(lines)), strict=True))


def reading_minutes(cells: list) -> int:
    """180 words and 12 lines of code a minute, to the nearest 5 minutes."""
    sizes = size(cells)
    return 5 * round((sizes["words"] / 180 + sizes["lines of code"] / 12) / 5)


def exercise_minutes(cells: list) -> int:
    """The sum of the minutes that the exercises state, each in or below its heading."""
    headings = list(re.finditer(r"^#+ .*$", prose(cells), re.MULTILINE))
    total = 0
    for heading, following in pairwise([*headings, None]):
        if heading[0].startswith("### Exercise"):
            own = prose(cells)[heading.start() : following.start() if following else None]
            if not (minutes := re.search(r"(\d+) minutes", own)):
                raise CourseError(f"'{heading[0][4:]}' states no minutes; write '10 minutes, ●○○.' below it")
            total += int(minutes[1])
    return total


def chapter_problems(pair: Pair) -> Iterator[str]:
    """Where a chapter breaks its promises; size, minutes to read and claims count once it is rewritten."""
    cells, shown, head = read_text(pair).cells, pair.show(pair.text), header(pair)
    try:
        if (minutes := exercise_minutes(cells)) != head.exercises:
            yield f"{shown}: its header says {head.exercises} minutes for the exercises, theirs add up to {minutes}"
    except CourseError as error:
        yield f"{shown}: {error}"
    chapters = [other for other in all_pairs(pair.root) if not other.is_solution]
    following = dict(pairwise(chapters)).get(pair)
    if following and not re.search(rf"\*\*Next:\*\* \[[^\]]+\]\({following.notebook.name}\)", prose(cells)):
        yield f"{shown}: must end with a link to the next chapter, '**Next:** [title]({following.notebook.name})'"
    broken = list(_rewritten_problems(shown, cells, head))
    if pair.number not in NOT_YET_REWRITTEN:
        yield from broken
    elif not broken:
        yield f"{shown}: keeps every rule; take {pair.number} out of NOT_YET_REWRITTEN in course_lib/authoring/rules.py"


def _rewritten_problems(shown: str, cells: list, head: Header) -> Iterator[str]:
    for what, count in size(cells).items():
        if count > LIMITS[what]:
            yield f"{shown}: {count:,g} {what}, the limit is {LIMITS[what]:,}"
    if (minutes := reading_minutes(cells)) != head.reading:
        yield f"{shown}: its header says {head.reading} minutes to read, words and lines of code come to {minutes}"
    if not any(re.search(r"\bclaim\(", cell.source) for cell in cells if cell.cell_type == "code"):
        yield f"{shown}: claims nothing; let `claim(sentence, holds)` say what its numbers show"
