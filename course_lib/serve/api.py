"""What clients may send to the chat server, within which limits, and what they get back.

Two forms: nanochat's own, and the part of OpenAI's chat completions that a small model can serve.

Exported from notebooks/16_chat.ipynb; edit it there.
"""

import time
import uuid
from typing import Annotated, Any, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field

from course_lib.host.errors import CourseError
from course_lib.serve.streaming import Piece, content_of

MAX_MESSAGES, MAX_MESSAGE_CHARS, MAX_CHARS = 500, 8_000, 32_000

STRICT = ConfigDict(strict=True)  # "5" is no number


class Refused(CourseError):
    """A request that is answered with an error: its HTTP status, and what else the answer says."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


class Part(BaseModel):
    """A part of a message; only the assistant's have others than text."""

    model_config = STRICT
    type: Literal["text", "python", "python_output"]
    text: str


class ChatMessage(BaseModel):
    """One message. "developer" is OpenAI's newer word for "system"."""

    model_config = STRICT
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    def plain(self) -> dict:
        """As `course_lib.chat.conversation` has it."""
        role = "system" if self.role == "developer" else self.role
        if isinstance(self.content, str):
            return {"role": role, "content": self.content}
        pieces = [Piece(part.type, part.text) for part in self.content]
        return {"role": role, "content": content_of(pieces)}

    @property
    def size(self) -> int:
        """Characters."""
        if isinstance(self.content, str):
            return len(self.content)
        return sum(len(part.text) for part in self.content)


class ChatRequest(BaseModel):
    """nanochat's form: the whole conversation, and how to go on. None: the server's setting."""

    model_config = STRICT
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    temperature: float | None = Field(None, ge=0, le=2)
    top_k: int | None = Field(None, ge=1, le=200)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=4096)
    seed: int | None = Field(None, ge=0, lt=2**63)

    def plain_messages(self) -> list[dict]:
        """The messages. Raises Refused for too many characters."""
        for number, message in enumerate(self.messages):
            if message.size > MAX_MESSAGE_CHARS:
                raise Refused(
                    400,
                    f"message {number} has {message.size:,} characters, at most "
                    f"{MAX_MESSAGE_CHARS:,} are allowed; shorten it",
                    "messages",
                )
        total = sum(message.size for message in self.messages)
        if total > MAX_CHARS:
            raise Refused(
                400,
                f"the messages have {total:,} characters in all, at most {MAX_CHARS:,} are "
                "allowed; leave out the oldest",
                "messages",
            )
        return [message.plain() for message in self.messages]


class StreamOptions(BaseModel):
    """What else a stream shall say."""

    model_config = STRICT
    include_usage: bool | None = None


StopString = Annotated[str, Field(min_length=1, max_length=100)]

# What OpenAI's form has and this server cannot do: the values that ask for nothing.
NOTHING = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
}


class CompletionRequest(ChatRequest):
    """OpenAI's form."""

    model_config = ConfigDict(strict=True, extra="allow")
    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=4)] | None = None
    max_completion_tokens: int | None = Field(None, ge=1, le=4096)
    n: int | None = None

    def refuse_unknown(self, name: str) -> None:
        """Raises Refused for what this server, whose model is called `name`, cannot do."""
        if self.model not in (None, name):
            message = f"there is no model {self.model[:80]!r} here, only {name!r}; ask for that"
            raise Refused(404, message, "model", "model_not_found")
        if self.n not in (None, 1):
            raise Refused(400, f"n is {self.n}, but this server writes one choice; send n=1", "n")
        for key, allowed in NOTHING.items():
            value = (self.model_extra or {}).get(key)
            if value is not None and value not in allowed:
                message = f"{key} is asked for, but this server cannot do it; leave it out"
                raise Refused(400, message, key)

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class ErrorDetail(BaseModel):
    """One sentence, and what programs need to know."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """What comes with every status from 400 on, in OpenAI's form."""

    error: ErrorDetail


ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict:
    """The JSON of an error."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    detail = ErrorDetail(message=message, type=kind, param=param, code=code)
    return ErrorBody(error=detail).model_dump()


def sentence_about(error: RequestValidationError) -> tuple[str, str | None]:
    """(a sentence, the field) for the first thing that is wrong with a body."""
    first = error.errors()[0]
    words = [str(word) for word in first["loc"][1:]]
    place = ".".join(word for word in words if not word.startswith(("str", "list[", "constrained")))
    if first["type"] == "json_invalid":
        return "the body is not JSON; send a JSON object with a list of messages", None
    if first["type"] == "missing" and not place:
        return "the body is empty; send a JSON object with a list of messages", None
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{place or 'the body'}: {message}; mend it and send again", words[0] if words else None


class Completion:
    """One answer in OpenAI's form: whole, or as the events of a stream."""

    def __init__(self, model: str):
        self.about = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def chunk(self, delta: dict, finish_reason: str | None = None) -> dict:
        """An event. delta: what is new of the message."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self.about, "object": "chat.completion.chunk", "choices": [choice]}

    def usage_chunk(self, usage: dict) -> dict:
        """The last event, when usage was asked for."""
        return {**self.about, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    def whole(self, pieces: list[Piece], finish_reason: str, usage: dict) -> dict:
        """All of it. content has the text alone; parts also tool calls, if there were any."""
        content = content_of(pieces)
        message = {"role": "assistant", "content": content, "refusal": None}
        if isinstance(content, list):
            message |= {"content": _text_of(pieces), "parts": content}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        return {**self.about, "object": "chat.completion", "choices": [choice], "usage": usage}


def _text_of(pieces: list[Piece]) -> str:
    return "".join(text for kind, text in pieces if kind == "text")
