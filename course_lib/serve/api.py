"""What clients may send to the chat server, within which limits, and the errors that they get back.

Two forms: nanochat's own, and the part of OpenAI's chat completions that a small model can serve. Either becomes a
`Question`, which is all that the rest of the server sees.

Written by hand; chapter 16 uses it.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from course_lib.host.errors import CourseError
from course_lib.host.program import AtLeastOne, AtLeastZero, Bounds
from course_lib.serve.streaming import Piece, content_of

MAX_MESSAGES, MAX_MESSAGE_CHARS, MAX_CHARS = 500, 8_000, 32_000  # nanochat's limits
STRICT = ConfigDict(strict=True)  # the text "5" is not a number


@dataclass(frozen=True)
class ServerFlags:
    """What whoever starts a server may set: how it answers, whom, and how many at once."""

    api_key: str | None = None
    """Serve only those who send this key."""
    allow_host: tuple[str, ...] = ()
    """Names by which this machine may be called, besides localhost and its IP address."""
    temperature: Annotated[float, Bounds(0, 2)] = 0.8
    """Default temperature, 0 to 2."""
    top_k: Annotated[int, Bounds(1, 200)] = 50
    """Default top-k, 1 to 200."""
    max_tokens: Annotated[int, Bounds(1, 4096)] = 512
    """Default reply length, 1 to 4096 tokens."""
    max_rows: AtLeastOne = 8
    """How many replies are written at once."""
    max_waiting: AtLeastZero = 64
    """How many more may wait; others are told to come back later."""


@dataclass(frozen=True)
class ChatSettings(ServerFlags):
    """The flags, and the rest. tool: as for `BatchEngine`; body_seconds: how long a client may take to send a body."""

    name: str = "course"
    tool: Callable | None = None
    body_seconds: float = 10


@dataclass(frozen=True)
class Question:
    """What a client asks: checked, and with the server's defaults filled in. Ends with a message of the user's."""

    messages: list[dict]
    max_tokens: int
    temperature: float
    top_k: int
    top_p: float | None
    seed: int
    stops: list[str]


# ---- Errors


class Refused(CourseError):
    """A request that is answered with an error: an HTTP status, one sentence, and headers.

    param: the field that is wrong; code: OpenAI's name for the error; body: all that in OpenAI's form.
    """

    def __init__(self, status: int, message: str, param: str = "", code: str = "", headers: dict | None = None):
        super().__init__(message)
        kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
        self.body = {"error": {"message": message, "type": kind, "param": param or None, "code": code or None}}
        self.status, self.headers = status, headers or {}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


def refusal_of(error: RequestValidationError) -> Refused:
    """The first thing that is wrong with a body, in one sentence."""
    first = error.errors()[0]
    words = [str(word) for word in first["loc"][1:]]
    place = ".".join(word for word in words if not word.startswith(("str", "list[", "constrained")))
    if first["type"] == "json_invalid":
        sentence = "the body is not JSON; send a JSON object with a list of messages"
    elif first["type"] == "missing" and not place:
        sentence = "the body is empty; send a JSON object with a list of messages"
    else:
        wrong = first["msg"][0].lower() + first["msg"][1:]
        sentence = f"{place or 'the body'}: {wrong}; fix it and try again"
    return Refused(400, sentence, words[0] if words else "", "invalid_value")


# ---- nanochat's form


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
        content = self.content
        if not isinstance(content, str):
            content = content_of(Piece(part.type, part.text) for part in content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class ChatRequest(BaseModel):
    """The whole conversation, and how to continue it. None: the server's setting."""

    model_config = STRICT
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    temperature: float | None = Field(None, ge=0, le=2)
    top_k: int | None = Field(None, ge=1, le=200)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=4096)
    seed: int | None = Field(None, ge=0, lt=2**63)

    def question(self, settings: ChatSettings) -> Question:
        """What is asked of this server. Raises Refused for too many characters."""
        sizes = []  # in characters
        for number, message in enumerate(self.messages):
            parts = [message.content] if isinstance(message.content, str) else [part.text for part in message.content]
            sizes.append(size := sum(map(len, parts)))
            if size > MAX_MESSAGE_CHARS:
                sentence = f"message {number} has {size:,} characters, at most {MAX_MESSAGE_CHARS:,} are allowed"
                raise Refused(400, f"{sentence}; shorten it", "messages")
        if sum(sizes) > MAX_CHARS:
            sentence = f"the messages have {sum(sizes):,} characters in all, at most {MAX_CHARS:,} are allowed"
            raise Refused(400, f"{sentence}; leave out the oldest", "messages")
        return Question(
            [message.plain() for message in self.messages],
            self.max_tokens or settings.max_tokens,
            settings.temperature if self.temperature is None else self.temperature,
            self.top_k or settings.top_k,
            self.top_p,
            secrets.randbits(32) if self.seed is None else self.seed,
            stops=[],
        )


# ---- OpenAI's form

# Fields that we do not implement, with the values that are harmless no-ops. Ignoring others would deceive the client.
UNSUPPORTED: dict[str, Any] = dict.fromkeys(("frequency_penalty", "presence_penalty", "top_logprobs"), 0)
UNSUPPORTED |= {"n": 1, "logprobs": False, "tools": [], "functions": [], "logit_bias": {}}
UNSUPPORTED |= {"response_format": {"type": "text"}}

StopString = Annotated[str, Field(min_length=1, max_length=100)]


class StreamOptions(BaseModel):
    """What else a stream shall say."""

    model_config = STRICT
    include_usage: bool | None = None


class CompletionRequest(ChatRequest):
    """The fields of nanochat's form, and those of OpenAI's chat completions that we serve."""

    model_config = ConfigDict(strict=True, extra="allow")
    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=4)] | None = None
    max_completion_tokens: int | None = Field(None, ge=1, le=4096)
    n: int | None = None

    def question(self, settings: ChatSettings) -> Question:
        """What is asked. Raises Refused also for another model, and for what this server cannot do."""
        if self.model not in (None, settings.name):
            sentence = f"there is no model {self.model[:80]!r} here, only {settings.name!r}; ask for that"
            raise Refused(404, sentence, "model", "model_not_found")
        for field, harmless in UNSUPPORTED.items():
            value = getattr(self, field, None)
            if value not in (None, harmless):
                sentence = f"this server does not support {field}={json.dumps(value):.80}"
                raise Refused(400, f"{sentence}; leave it out, or send {field}={json.dumps(harmless)}", field)
        question = super().question(settings)
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return replace(question, max_tokens=self.max_completion_tokens or question.max_tokens, stops=stops)
