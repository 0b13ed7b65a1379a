"""Tasks for a chat model: questions with answers, which replies are right, and how often they are.

Source: nanochat (October 2025), whose kinds of tasks and centred mean these are.

Exported from notebooks/14_tools_and_tasks.ipynb; edit it there.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from course_lib.chat.choices import likeliest_letters
from course_lib.chat.conversation import render_for_completion
from course_lib.chat.questions import DOWNLOADED_TASKS, commonest_share, questions
from course_lib.chat.questions import lesson_tasks as lesson_tasks
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine

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


TEXT_KINDS = ("identity", "spelling", "python", "unknown")  # all other lessons ask for a number


def get_task(name: str, split: str = "test") -> ChatTask:
    """A task by its name; which there are, and what it raises: see `questions`."""
    found = questions(name, split)
    if name in DOWNLOADED_TASKS and name != "gsm8k":
        return ChatTask(name, "categorical", 0.25, is_right=same_text, **found._asdict())
    if name == "gsm8k":
        return ChatTask(name, "generative", 0.0, is_right=same_marked_number, **found._asdict())
    judge = same_text if name.removeprefix("blind-") in TEXT_KINDS else same_number
    said = [spoken(found.conversation(n)[-1]["content"]) for n in range(found.count)]
    baseline = commonest_share(said, judge)
    return ChatTask(name, "generative", baseline, is_right=judge, **found._asdict())


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
    for start in range(0, len(numbers), 2 * batch_size):  # so a row that ends is filled again
        asked = {n: task[n] for n in numbers[start : start + 2 * batch_size]}
        prompts = {n: render_for_completion(engine.tokenizer, asked[n]) for n in asked}
        prompts = {n: ids for n, ids in prompts.items() if len(ids) <= limit}
        if task.kind == "categorical":
            said = likeliest_letters(engine, task.letters_of, prompts, batch_size)
        else:
            written = engine.generate_batch([*prompts.values()], max_rows=batch_size, **how)
            texts = [reply_text(engine.tokenizer, generation.ids) for generation in written]
            said = dict(zip(prompts, texts, strict=True))
        for n, messages in asked.items():
            reply, fits = said.get(n, ""), n in said
            yield Answer(n, reply, fits and task.evaluate(messages, reply), fits)
