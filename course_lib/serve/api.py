"""What clients may send to the chat server, within which limits, and the errors that they get back.

Two forms: nanochat's own, and the part of OpenAI's completions that a small model can serve. Either becomes a
`Question`, which is all that the rest of the server sees.

Written by hand; chapter 17 uses it.
"""

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from course_lib.chat.messages import PARTS
from course_lib.host.errors import CourseError
from course_lib.host.program import AtLeastOne, AtLeastZero, Bounds
from course_lib.serve.streaming import Piece, content_of

MAX_MESSAGES, MAX_MESSAGE_CHARS, MAX_CHARS = 500, 8_000, 32_000  # nanochat's limits
STRICT = ConfigDict(strict=True)  # the text "5" is not a number


@dataclass(frozen=True)
class ServerFlags:
    """What whoever starts a server may set: how it answers, whom, and how many at once."""

    api_key: str | None = None
    """Serve only those who send this key. Better set COURSE_API_KEY: flags are seen in the list of processes."""
    allow_host: tuple[str, ...] = ()
    """Names by which this machine may be called, besides localhost and its IP address."""
    allow_origin: tuple[str, ...] = ()
    """Pages that may ask, besides its own: https://chat.example.com."""
    trusted_proxy: tuple[str, ...] = ()
    """IP addresses or networks of proxies whose X-Forwarded-Host and X-Forwarded-For are believed."""
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
    """What a client asks: checked, and with the server's defaults filled in.

    prompts: conversations that end with the user's message, or plain texts; num_samples: replies to each;
    top_logprobs: how many of the likeliest tokens to tell beside each of the reply's; None: no log-probabilities.
    """

    prompts: list[list[dict] | str]
    max_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    seed: int
    stops: list[str]
    num_samples: int
    top_logprobs: int | None


# ---- Errors


class Refused(CourseError):
    """A request that is answered with an error: an HTTP status, one sentence, and headers.

    param: the field that is wrong; code: OpenAI's name for the error; body: all that in OpenAI's form.
    """

    def __init__(self, status: int, message: str, param: str = "", code: str = "", headers: dict | None = None):
        super().__init__(message)
        kinds = {403: "permission_error", 429: "rate_limit_error"}
        kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
        self.body = {"error": {"message": message, "type": kind, "param": param or None, "code": code or None}}
        self.status, self.headers = status, headers or {}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


BRANCH = re.compile(r"str|list\[.*|constrained-.*|function-.*")  # Pydantic's names for the parts of a union


def refusal_of(error: RequestValidationError, content_type: str) -> Refused:
    """What is wrong with a body, in one sentence.

    Of the branches of a union that which the client meant: where the error is deepest, or not the type itself.
    """
    first = max(error.errors(), key=lambda each: (len(each["loc"]), not each["type"].endswith("_type")))
    words = [str(word) for word in first["loc"][1:]]
    place = ".".join(word for word in words if not BRANCH.fullmatch(word))
    if first["type"] == "json_invalid":
        sentence = "the body is not JSON; send a JSON object with a list of messages"
    elif first["type"] == "missing" and not place:
        sentence = "the body is empty; send a JSON object with a list of messages"
    elif not place and "json" not in content_type:
        came = f"came as {content_type[:80]!r}" if content_type else "came without a Content-Type"
        sentence = f"the body {came}; send JSON, with the header 'Content-Type: application/json'"
    elif first["type"] == "value_error":
        sentence = f"{place}: {first['ctx']['error']}"
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

    @model_validator(mode="before")
    @classmethod
    def known(cls, message: Any) -> Any:
        """Say what other models can read and this one cannot: tools of the client's, images, no text at all."""
        if not isinstance(message, dict):
            return message
        content = message.get("content", "")
        if message.get("role") in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
            raise ValueError("this model calls no tools of a client's; leave out messages with their calls and results")
        for part in content if isinstance(content, list) else []:
            if isinstance(part, dict) and "type" in part and part["type"] not in PARTS:
                raise ValueError(f"this model reads text only, and this has a part of type {part['type']!r:.40}")
        if not isinstance(content, (str, list)):
            raise ValueError(f"the content is {json.dumps(content):.40}; send a text, or a list of parts with text")
        return message

    def plain(self) -> dict:
        """As `course_lib.chat.conversation` has it."""
        content = self.content
        if not isinstance(content, str):
            content = content_of(Piece(part.type, part.text) for part in content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}

    def __len__(self) -> int:
        """In characters."""
        return len(self.content) if isinstance(self.content, str) else sum(len(part.text) for part in self.content)


class Wanted(BaseModel):
    """How to continue a text. None: the server's setting; so do the values with which other servers say "off"."""

    model_config = STRICT
    temperature: float | None = Field(None, ge=0, le=2)
    top_k: int | None = Field(None, ge=-1)
    top_p: float | None = Field(None, ge=0, le=1)
    min_p: float | None = Field(None, ge=0, le=1)
    max_tokens: int | None = Field(None, ge=-1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)

    def about(self, settings: ChatSettings, prompts: list) -> Question:
        """What is asked of this server."""
        return Question(
            prompts,
            self.max_tokens if self.max_tokens and self.max_tokens > 0 else settings.max_tokens,
            settings.temperature if self.temperature is None else self.temperature,
            settings.top_k if self.top_k is None else self.top_k if self.top_k > 0 else None,
            self.top_p if self.top_p is None else max(self.top_p, 1e-9),
            self.min_p,
            secrets.randbits(32) if self.seed is None or self.seed == -1 else self.seed % 2**64,
            stops=[],
            num_samples=1,
            top_logprobs=None,
        )


class ChatRequest(Wanted):
    """The whole conversation, and how to continue it."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)

    def question(self, settings: ChatSettings) -> Question:
        """What is asked of this server. Raises Refused for too many characters."""
        sizes = [len(message) for message in self.messages]
        for number, size in enumerate(sizes):
            if size > MAX_MESSAGE_CHARS:
                sentence = f"message {number} has {size:,} characters, at most {MAX_MESSAGE_CHARS:,} are allowed"
                raise Refused(400, f"{sentence}; shorten it", "messages")
        if sum(sizes) > MAX_CHARS:
            sentence = f"the messages have {sum(sizes):,} characters in all, at most {MAX_CHARS:,} are allowed"
            raise Refused(400, f"{sentence}; leave out the oldest", "messages")
        return self.about(settings, [merged([message.plain() for message in self.messages])])


def merged(messages: list[dict]) -> list[dict]:
    """The messages, those in a row from one side as one: clients leave out replies that have failed."""
    found: list[dict] = []
    for message in messages:
        before = found[-1] if found and found[-1]["role"] == message["role"] else {}
        if isinstance(before.get("content"), str) and isinstance(message["content"], str):
            found[-1] = {**message, "content": f"{before['content']}\n\n{message['content']}"}
        else:
            found.append(message)
    return found


# ---- OpenAI's form

# A reply would be of no use to who asks for these, so they are refused. Other fields that are not served are named.
REFUSED: dict[str, Any] = {"tools": [], "functions": [], "response_format": {"type": "text"}}

StopString = Annotated[str, Field(min_length=1, max_length=100)]


class StreamOptions(BaseModel):
    """What else a stream shall say."""

    model_config = STRICT
    include_usage: bool | None = None


class OpenAIRequest(Wanted):
    """The fields that OpenAI's two forms share."""

    model_config = ConfigDict(strict=True, extra="allow")
    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=4)] | None = None
    n: int | None = Field(None, ge=1, le=128)

    def ignored(self) -> list[str]:
        """Fields that ask for something which this server does not do."""
        asked = [name for name, value in (self.model_extra or {}).items() if value and name not in REFUSED]
        return [name for name in asked if re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", name)][:20]

    def about(self, settings: ChatSettings, prompts: list) -> Question:
        """What is asked. Raises Refused also for what this server cannot do."""
        for field, harmless in REFUSED.items():
            value = (self.model_extra or {}).get(field)
            if value not in (None, harmless):
                sentence = f"this server does not support {field}={json.dumps(value):.80}"
                raise Refused(400, f"{sentence}; leave it out, or send {field}={json.dumps(harmless)}", field)
        wanted = (self.n or 1) * len(prompts)
        if wanted > settings.max_rows:
            sentence = f"you ask for {wanted} replies, and this server writes {settings.max_rows} at once"
            raise Refused(400, f"{sentence}; ask for fewer", "n")
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return replace(super().about(settings, prompts), stops=stops, num_samples=self.n or 1)


class CompletionRequest(OpenAIRequest, ChatRequest):
    """The fields of nanochat's form, and those of OpenAI's chat completions that we serve."""

    max_completion_tokens: int | None = Field(None, ge=-1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    def about(self, settings: ChatSettings, prompts: list) -> Question:
        if (self.max_completion_tokens or 0) > 0:
            self.max_tokens = self.max_completion_tokens
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return replace(super().about(settings, prompts), top_logprobs=logprobs)

    def ignored(self) -> list[str]:
        return [*super().ignored(), *(["top_logprobs"] if self.top_logprobs and not self.logprobs else [])]


class TextRequest(OpenAIRequest):
    """OpenAI's older completions: texts to go on with, and how."""

    prompt: str | Annotated[list[str], Field(min_length=1)]

    def question(self, settings: ChatSettings) -> Question:
        """What is asked. Raises Refused for too many characters."""
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if sum(map(len, prompts)) > MAX_CHARS:
            raise Refused(400, f"the prompt has more than {MAX_CHARS:,} characters; shorten it", "prompt")
        return self.about(settings, prompts)
