"""What people may see of the ids that a model writes: text and tool calls, piece by piece.

No special token, no half character, nothing after a stop string. Also: a prompt that fits.

Exported from notebooks/17_chat.ipynb; edit it there.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from course_lib.chat.conversation import check_messages, render_for_completion
from course_lib.data.tokenizer import StreamDecoder, Tokenizer
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPTConfig


class Piece(NamedTuple):
    """Some of a reply. kind: "text", "python" (a tool call) or "python_output" (its result)."""

    kind: str
    text: str


class PieceDecoder:
    """Pieces of ids that come one by one. Special tokens change the kind and are never shown."""

    def __init__(self, tokenizer: Tokenizer):
        special = tokenizer.special
        self._kinds = {
            special("<|python_start|>"): "python",
            special("<|python_end|>"): "text",
            special("<|output_start|>"): "python_output",
            special("<|output_end|>"): "text",
        }
        self._special = tokenizer.bos  # this id and all above: no text
        self._kind, self._decoder = "text", StreamDecoder(tokenizer)

    def push(self, token: int) -> list[Piece]:
        """What is complete with this id: nothing as long as a character lacks bytes."""
        if token < self._special:
            return self._piece(self._decoder.push(token))
        rest = self.finish()
        self._kind = self._kinds.get(token, self._kind)
        return rest

    def finish(self) -> list[Piece]:
        """What was held back, as U+FFFD: its other bytes never came."""
        return self._piece(self._decoder.finish())

    def _piece(self, text: str) -> list[Piece]:
        return [Piece(self._kind, text)] if text else []


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """The same pieces, neighbours of one kind made one."""
    result: list[Piece] = []
    for kind, text in pieces:
        if result and result[-1].kind == kind:
            text = result.pop().text + text
        result.append(Piece(kind, text))
    return result


def content_of(pieces: Iterable[Piece]) -> str | list[dict]:
    """The content of an assistant's message: a text, or a list of parts when a tool was used."""
    parts = joined(pieces)
    if all(kind == "text" for kind, _ in parts):
        return "".join(text for _, text in parts)
    return [{"type": kind, "text": text} for kind, text in parts]


class StopStrings:
    """Text up to the first of some strings, wherever the borders of the pieces are.

    found: whether one of them has come. Nothing is given out after it, nor the string itself.
    """

    def __init__(self, stops: Sequence[str]):
        self._stops = [stop for stop in stops if stop]
        self._held, self.found = "", False

    def push(self, text: str) -> str:
        """What is certain not to be the beginning of a stop string."""
        if self.found:
            return ""
        text = self._held + text
        places = [text.index(stop) for stop in self._stops if stop in text]
        if places:
            self._held, self.found = "", True
            return text[: min(places)]
        begun = [
            n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n])
        ]  # how many characters at the end may be the beginning of a stop string
        keep = max(begun, default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back: no stop string has come of it."""
        held, self._held = self._held, ""
        return held


def fit_prompt(tokenizer: Tokenizer, messages: Sequence[dict], config: GPTConfig, max_tokens: int) -> list[int]:
    """Ids of the prompt for the next reply; a long conversation forgets its oldest turns.

    A quarter of sequence_len is kept for the reply (less, if max_tokens is less), unless the last
    message needs it. Raises CourseError if this is not a conversation, does not end with
    the user's message, or if that message is too long.
    """
    check_messages(messages)
    last = messages[-1]
    if last["role"] != "user":
        raise CourseError(f"the last message is from {last['role']!r}, expected 'user': it is the one to be answered")
    system = messages[:1] if messages[0]["role"] == "system" else []
    needed = len(render_for_completion(tokenizer, [*system, last]))  # more cannot be forgotten
    length = config.sequence_len
    room = length - min(max_tokens, length // 4)
    return render_for_completion(tokenizer, messages, min(length, max(room, needed)))
