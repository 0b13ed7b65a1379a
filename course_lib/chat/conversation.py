"""A conversation as ids: special tokens around each message, and a mask for what is trained.

Source: nanochat.

Exported from notebooks/13_conversations.ipynb; edit it there.
"""

from bisect import bisect_left
from collections.abc import Sequence

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError

PARTS = ("text", "python", "python_output")  # of an assistant's message


def check_messages(messages: Sequence[dict]) -> None:
    """Raises CourseError, in one sentence, unless these are the messages of a conversation.

    {"role": …, "content": text}: perhaps one from "system", then "user" and "assistant" in turn. An
    assistant's content may also be a list of parts {"type": one of PARTS, "text": …}.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise CourseError("a conversation is a list of one message or more, each with role and content")
    system = isinstance(messages[0], dict) and messages[0].get("role") == "system"
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise CourseError(f'message {number} is {message!r:.80}, expected {{"role": …, "content": …}}')
        role, content = message["role"], message["content"]
        turn = ("user", "assistant")[(number - system) % 2]
        expected = "system" if system and number == 0 else turn
        if role != expected:
            raise CourseError(
                f"message {number} is from {role!r:.80}, expected {expected!r}: user and assistant "
                "take turns, the user first; only the very first message may be from the system"
            )
        if role != "assistant" or not isinstance(content, list):
            if not isinstance(content, str):
                said = f"message {number}, from {role}, has the content {content!r:.80}"
                raise CourseError(f"{said}, expected a text")
            continue
        for part in content:
            known = isinstance(part, dict) and part.get("type") in PARTS
            if not known or not isinstance(part.get("text"), str):
                said = f'{part!r:.80}, expected {{"type": one of {", ".join(PARTS)}, "text": …}}'
                raise CourseError(f"message {number} has the part {said}")
    if system and len(messages) == 1:
        raise CourseError("a system message needs a user message after it, which it is joined to")


def without_system(messages: Sequence[dict]) -> list[dict]:
    """The messages, a system message joined to the user's with a blank line between."""
    if messages[0]["role"] != "system":
        return list(messages)
    system, user, *others = messages
    return [{"role": "user", "content": system["content"] + "\n\n" + user["content"]}, *others]


def render_conversation(
    tokenizer: Tokenizer, messages: Sequence[dict], max_tokens: int = 2048
) -> tuple[list[int], list[int]]:
    """(ids, mask) of a conversation, cut after max_tokens.

    mask is 1 for what is trained: what the assistant writes, with its tool calls and
    <|assistant_end|>; 0 for a tool's output, and for what the user writes. Raises CourseError as
    `check_messages` does.
    """
    check_messages(messages)
    special, ids, mask = tokenizer.special, [tokenizer.bos], [0]

    def add(trained: int, *parts: str | int) -> None:
        for part in parts:
            new = tokenizer.encode(part) if isinstance(part, str) else [part]
            ids.extend(new)
            mask.extend([trained] * len(new))

    for message in without_system(messages):
        content = message["content"]
        if message["role"] == "user":
            add(0, special("<|user_start|>"), content, special("<|user_end|>"))
            continue
        add(0, special("<|assistant_start|>"))
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                add(1, part["text"])
            elif part["type"] == "python":
                add(1, special("<|python_start|>"), part["text"], special("<|python_end|>"))
            else:
                add(0, special("<|output_start|>"), part["text"], special("<|output_end|>"))
        add(1, special("<|assistant_end|>"))
    return ids[:max_tokens], mask[:max_tokens]


def render_for_completion(tokenizer: Tokenizer, messages: Sequence[dict], max_tokens: int | None = None) -> list[int]:
    """Ids of the prompt for the assistant's next message, up to <|assistant_start|>.

    A last message of the assistant's is left out: it is the one to be written. Where there would be
    more than max_tokens, the oldest turns are forgotten, a system message is kept. Raises
    CourseError as `check_messages` does, and when the last message alone is too long.
    """
    check_messages(messages)
    messages = list(messages[:-1] if messages[-1]["role"] == "assistant" else messages)
    system = messages[: messages[0]["role"] == "system"]

    def prompt(first: int) -> list[int]:
        ids, _ = render_conversation(tokenizer, system + messages[first:], max_tokens=2**62)
        return [*ids, tokenizer.special("<|assistant_start|>")]

    ids = prompt(len(system))
    if max_tokens is None or len(ids) <= max_tokens:
        return ids
    turns = range(len(system), len(messages), 2)  # the later the first, the shorter the prompt
    place = bisect_left(turns, True, key=lambda first: len(prompt(first)) <= max_tokens)
    ids = prompt(turns[min(place, len(turns) - 1)])
    if place == len(turns):
        raise CourseError(
            f"the last message makes a prompt of {len(ids)} tokens, and there is room for "
            f"{max_tokens}; send a shorter one"
        )
    return ids
