"""Lessons from templates: the variants of a phrase, how it is typed, what is kept for tests.

Exported from notebooks/13_conversations.ipynb; edit it there.
"""

import itertools
import random
import re
import zlib
from functools import cache

import yaml

from course_lib.host.paths import data_dir


def expand(template: str) -> list[str]:
    """Every text of a template in which (a|b|) stands for one of the alternatives."""
    pieces = re.split(r"\(([^()]*\|[^()]*)\)", template)
    choices = [piece.split("|") if n % 2 else [piece] for n, piece in enumerate(pieces)]
    return [" ".join("".join(chosen).split()) for chosen in itertools.product(*choices)]


@cache
def templates() -> dict:
    """All of lessons.yaml."""
    return yaml.safe_load((data_dir() / "lessons" / "lessons.yaml").read_text(encoding="utf-8"))


def is_test(phrase: str) -> bool:
    """Whether a question is kept for tests, as one in ten is, by what it asks alone."""
    return zlib.crc32(phrase.encode()) % 10 == 0


def dressed(rng: random.Random, phrase: str, ending: str = "question", shouted: float = 0.0) -> str:
    """A phrase as people type it: perhaps with an opening and capitals, and a mark at the end."""
    text = rng.choice(templates()["openings"]) + phrase
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
    if rng.random() < shouted:
        text = text.upper()
    if rng.random() < 0.5:
        text = re.sub(r"\bi\b", "I", text)
    return text + rng.choice(templates()["endings"][ending])
