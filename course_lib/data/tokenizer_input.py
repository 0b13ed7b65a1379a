"""What a tokenizer is given, made safe or refused in a sentence: texts, ranks, a vocabulary size.

Written by hand; chapter 05 uses it.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from course_lib.host.errors import CourseError

LONG_SPACE = 100_000


def safe_parts(text: str) -> Iterator[str]:
    """The text as it is, or cut inside runs of more than 100,000 spaces.

    The split pattern needs memory for each space of a run: tiktoken and rustbpe fail at a million. Half a surrogate
    pair, which UTF-8 cannot hold, becomes U+FFFD.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    start = 0
    if len(text) > LONG_SPACE:
        for run in re.finditer(rf"\s{{{LONG_SPACE}}}", text):
            yield text[start : run.end()]
            start = run.end()
    yield text[start:]


def safe_texts(texts: Iterable[str]) -> Iterator[str]:
    """The safe parts of all texts. Raises CourseError for one string in place of several, or for what is no text."""
    _check_several(texts)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise CourseError(f"text {number} is of type {type(text).__name__}, expected str; leave it out")
        yield from safe_parts(text)


def on_threads(function: Callable, texts: list[str], num_threads: int | None) -> list:
    """`function` of each text, in order, on so many threads (None: one for each core)."""
    _check_several(texts)
    if num_threads is not None and num_threads < 1:
        raise CourseError(f"num_threads={num_threads}, expected 1 or more, or None for every core")
    with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        return list(pool.map(function, texts))


def _check_several(texts: Iterable[str]) -> None:
    if isinstance(texts, str):
        raise CourseError("texts is one string, expected several; put it into a list: [text]")


def check_ranks(ranks: dict[bytes, int]) -> None:
    """Raises CourseError for ids with a gap, or without every single byte."""
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing or sorted(ranks.values()) != list(range(len(ranks))):
        raise CourseError(
            f"these {len(ranks)} ranks make no tokenizer; expected every single byte and the ids from 0 on without a "
            "gap: take them from Tokenizer.train"
        )


def check_vocab_size(asked: int, specials: int) -> None:
    """Raises CourseError when fewer ids are asked for than the bytes and the special tokens need."""
    if asked < 256 + specials:
        raise CourseError(
            f"vocab_size={asked}, expected at least {256 + specials}: 256 bytes and {specials} special tokens"
        )


def check_found(found: int, asked: int) -> None:
    """Raises CourseError when the texts yielded fewer ids than were asked for."""
    if found < asked:
        raise CourseError(
            f"vocab_size={asked}, but these texts have pairs for {found} only; ask for that many or fewer, or give "
            "more text"
        )
