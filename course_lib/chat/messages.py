"""Messages of a conversation: which lists of them are one, and a system message joined to the user's.

Written by hand; chapter 13 uses it.
"""

from collections.abc import Sequence

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
