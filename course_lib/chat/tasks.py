"""Tasks for a chat model: questions with answers, which replies are right, and how often they are.

Source: nanochat, whose kinds of tasks and centred mean these are.

Exported from notebooks/14_tools_and_tasks.ipynb; edit it there.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import mlx.core as mx

from course_lib.chat.conversation import render_for_completion
from course_lib.chat.corpora import rows
from course_lib.chat.lessons import KINDS, blind_questions, lesson
from course_lib.chat.sources import FROM_HUB
from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate.scoring import ScoredSequence, scored_logits
from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError

# ---- 4. Tasks


def spoken(content: str | list[dict]) -> str:
    """What a message says: its text, without tool calls and their output."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def reply_text(tokenizer: Tokenizer, ids: list[int]) -> str:
    """What a reply's ids say: as `spoken`, for what a model wrote."""
    special = tokenizer.special
    opening = special("<|python_start|>"), special("<|output_start|>")
    closing = special("<|python_end|>"), special("<|output_end|>")
    said, inside = [], False
    for token in ids:
        if token in (*opening, *closing):
            inside = token in opening
        elif not inside:
            said.append(token)
    return tokenizer.decode(said)


NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?", re.ASCII)


def _number(digits: str) -> Decimal:
    return Decimal(digits.replace(",", ""))


def same_number(reference: str, reply: str) -> bool:
    """Whether the last numbers of both are equal; 2 and 2.0 are, 1,000 and 1000 as well."""
    expected, found = NUMBER.findall(reference), NUMBER.findall(reply)
    return bool(expected and found) and _number(expected[-1]) == _number(found[-1])


def same_text(reference: str, reply: str) -> bool:
    """Whether both are the same words; case, spaces and . ! ? at the end do not matter."""
    expected, found = (" ".join(text.split()).casefold().rstrip(".!? ") for text in (reference, reply))
    return bool(expected) and expected == found


def same_marked_number(reference: str, reply: str) -> bool:
    """Whether the numbers after #### are equal, as GSM8K marks the result of its solutions."""
    marked = re.compile(rf"####\s*\$?\s*({NUMBER.pattern})", re.ASCII)
    expected, found = marked.findall(reference), marked.findall(reply)
    return bool(expected and found) and _number(expected[-1]) == _number(found[-1])


@dataclass(frozen=True)
class ChatTask:
    """Conversations whose last message is the right answer, and how a reply is judged.

    kind: "generative", the reply is written, or "categorical", it is the likeliest of some letters.
    baseline: the share of right replies by guessing. count: how many questions; conversation and
    letters_of: the messages and the letters of one. is_right(reference, reply): both as text.
    """

    name: str
    kind: str
    baseline: float
    count: int
    conversation: Callable[[int], list[dict]]
    is_right: Callable[[str, str], bool]
    letters_of: Callable[[int], tuple[str, ...]] = lambda number: ()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> list[dict]:
        if not 0 <= number < self.count:
            raise IndexError(f"{self.name} has no question {number}; there are {self.count}")
        return self.conversation(number)

    def evaluate(self, messages: list[dict], reply: str) -> bool:
        """Whether `reply`, as from `reply_text`, is right; the reference is the last message."""
        return self.is_right(spoken(messages[-1]["content"]), reply)


def _downloaded_task(name: str, split: str) -> ChatTask:
    items = rows(name, split)
    order = random.Random(42).sample(range(len(items)), len(items))  # always the same

    def conversation(number: int) -> list[dict]:
        return FROM_HUB[name](items[order[number]])

    def letters_of(number: int) -> tuple[str, ...]:
        """ARC brings its own letters, and some are 1, 2, 3, 4."""
        choices = items[order[number]]["choices"]
        return tuple(choices["label"] if isinstance(choices, dict) else "ABCD"[: len(choices)])

    if name == "gsm8k":
        return ChatTask(name, "generative", 0.0, len(items), conversation, same_marked_number)
    return ChatTask(name, "categorical", 0.25, len(items), conversation, same_text, letters_of)


LESSONS = 200  # questions of a kind

TEXT_KINDS = ("identity", "spelling", "python", "unknown")  # all others ask for a number

DOWNLOADED_TASKS = ("gsm8k", "mmlu", "arc-easy", "arc-challenge")


def lesson_tasks() -> list[str]:
    """Names of the tasks that need no download: each kind of lesson, and its blind questions."""
    blind = {each["kind"] for each in blind_questions()}
    return [*KINDS, *(f"blind-{kind}" for kind in KINDS if kind in blind)]


def get_task(name: str, split: str = "test") -> ChatTask:
    """A task by its name: one of `lesson_tasks()`, or of DOWNLOADED_TASKS, which are fetched once.

    split: "train" or "test"; the two have no question in common. Blind questions are for tests.
    Raises CourseError for any other name or split, and when a data set cannot be had.
    """
    known = [*lesson_tasks(), *DOWNLOADED_TASKS]
    if name not in known:
        raise CourseError(f"no task is called {name!r}, expected one of {', '.join(known)}")
    kind = name.removeprefix("blind-")
    splits = ("test",) if name != kind else ("train", "test")
    if split not in splits:
        raise CourseError(f"{name} has no split {split!r}, expected {' or '.join(splits)}")
    if name in DOWNLOADED_TASKS:
        return _downloaded_task(name, split)
    judge = same_text if kind in TEXT_KINDS else same_number
    if name == kind:
        return ChatTask(name, "generative", 0.0, LESSONS, partial(lesson, kind, split), judge)
    blind = [
        [{"role": "user", "content": q["question"]}, {"role": "assistant", "content": q["answer"]}]
        for q in blind_questions()
        if q["kind"] == kind
    ]
    return ChatTask(name, "generative", 0.0, len(blind), blind.__getitem__, judge)


# ---- 5. A score


@dataclass(frozen=True)
class Answer:
    """A reply to question `number` of a task; fits: whether the model can read the prompt."""

    number: int
    reply: str
    right: bool
    fits: bool = True


def answers(engine: Engine, task: ChatTask, numbers: list[int], batch_size: int = 16, **settings) -> Iterator[Answer]:
    """Ask a task's questions, `batch_size` rows at a time, and judge the replies, in their order.

    settings: for a generative task those of `Engine.generate_batch`; by default greedy, at most 256
    tokens. A prompt that is longer than the model's sequence is not asked, and its answer wrong.
    """
    limit = engine.model.config.sequence_len
    how: dict[str, Any] = {"temperature": 0.0, **settings}
    for start in range(0, len(numbers), 2 * batch_size):
        asked = {n: task[n] for n in numbers[start : start + 2 * batch_size]}
        prompts = {n: render_for_completion(engine.tokenizer, asked[n]) for n in asked}
        prompts = {n: ids for n, ids in prompts.items() if len(ids) <= limit}
        if task.kind == "categorical":
            said = _choose(engine, task, prompts, batch_size)
        else:
            written = engine.generate_batch([*prompts.values()], max_rows=batch_size, **how)
            texts = [reply_text(engine.tokenizer, generation.ids) for generation in written]
            said = dict(zip(prompts, texts, strict=True))
        for n, messages in asked.items():
            reply, fits = said.get(n, ""), n in said
            yield Answer(n, reply, fits and task.evaluate(messages, reply), fits)


def _choose(engine: Engine, task: ChatTask, prompts: dict[int, list[int]], batch_size: int) -> dict[int, str]:
    """The likeliest letter for the reply's first place, by question number; one pass a batch."""
    said, numbers = {}, sorted(prompts, key=lambda n: len(prompts[n]))  # alike: little padding
    for start in range(0, len(numbers), batch_size):
        some = numbers[start : start + batch_size]
        batch = [ScoredSequence([*prompts[n], engine.end], len(prompts[n])) for n in some]
        logits = scored_logits(engine.model, batch, 0)  # (B, V)
        if not mx.isfinite(logits).all():
            raise CourseError("the model's logits are not numbers (NaN); take an older checkpoint")
        for n, row in zip(some, logits.tolist(), strict=True):
            scores = {}
            for letter in task.letters_of(n):
                ids = engine.tokenizer.encode(letter)
                if len(ids) != 1:
                    problem = f"the choice {letter!r} is {len(ids)} tokens, expected one"
                    raise CourseError(f"{problem}; name the choices A, B, C, …")
                scores[letter] = row[ids[0]]
            said[n] = max(scores, key=scores.__getitem__)
    return said
