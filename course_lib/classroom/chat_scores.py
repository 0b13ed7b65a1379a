"""What a chat model of chapter 13 can do: test questions of two kinds, and two runs compared on the same questions.

Written by hand; chapter 13 uses it.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from course_lib.chat.conversation import render_for_completion
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine
from course_lib.model.gpt import GPT


def marks(right: Iterable[bool]) -> str:
    """A text with x for each right reply and . for each wrong one: one field of a table."""
    return "".join("x" if each else "." for each in right)


def examine(model: GPT, tokenizer: Tokenizer, tests: dict[str, Sequence[list[dict]]]) -> dict[str, str]:
    """Marks of the replies to test questions, the likeliest tokens: "right" and "begin" of identity, "calls" of sums.

    tests: the lessons "identity" and "calculator". right: the expected answer and nothing more; begin: a reply that
    begins with it; calls: one that begins with the right call of the calculator.
    """
    engine, said = Engine(model, tokenizer), {}
    for kind, lessons in tests.items():
        prompts = [render_for_completion(tokenizer, messages) for messages in lessons]
        written = engine.generate_batch(prompts, max_tokens=48 if kind == "identity" else 16, temperature=0)
        texts = [tokenizer.decode(reply.ids) for reply in written]
        said[kind] = [(text, messages[1]["content"]) for text, messages in zip(texts, lessons, strict=True)]
    calls = [(text, f"<|python_start|>{parts[0]['text']}<|python_end|>") for text, parts in said["calculator"]]
    return {
        "right": marks(text == answer for text, answer in said["identity"]),
        "begin": marks(text.startswith(answer) for text, answer in said["identity"]),
        "calls": marks(text.startswith(call) for text, call in calls),
    }


def gain(rows: Sequence[dict], others: Sequence[dict], what: str) -> tuple[float, float]:
    """How much larger the share of x is in `rows` than in `others`, the same questions, and its standard error.

    The difference on each question, a mean over the rows of each side, is what the error is taken of.
    """
    first, second = (np.mean([[mark == "x" for mark in row[what]] for row in each], axis=0) for each in (rows, others))
    difference = first - second
    return difference.mean().item(), difference.std(ddof=1).item() / math.sqrt(len(difference))
