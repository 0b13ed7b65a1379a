"""The prompt for an assistant's next message: what has been said, as ids, without the oldest turns where it is long.

Written by hand; chapter 13 uses it and builds what renders a conversation (`rendering`).
"""

from bisect import bisect_left
from collections.abc import Sequence

from course_lib.chat.messages import check_messages
from course_lib.chat.rendering import render_conversation
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError


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
