# %% [markdown]
# # 16 · Chat
#
# **Goal.** Talk to a model: in a terminal, and in a browser together with many others, safely.
#
# | | |
# |---|---|
# | Needs | [05 · Tokenizer](05_tokenizer.ipynb), [12 · Engine](12_engine.ipynb), [13 · Conversations](13_conversations.ipynb); the calculator of chapter 14, without asking how it works |
# | Time | 70 minutes to read, 50 for the exercises; a minute to run |
# | Memory | under 1 GB |
# | You will build | what people see of a reply → `course_lib.serve.streaming`; what they may send → `course_lib.serve.api`; a server → `course_lib.serve.app`; the programs `chat_cli` and `chat_web` → `course_lib.scripts` |
#
# The model is done, the engine is done. What is left between them and a person looks small: show the text. But text comes in
# pieces that end inside a character, a person changes their mind, eight people come at once, and a web page from elsewhere knocks
# at the same door. A good chat is made of such cases.

# %% [markdown]
# ![Map of the course: chapter 16 chat is marked, the fourth one of Part III; after 15 reinforcement, before 17 speedrun](images/map_16.svg)

# %%
#| export serve.streaming
"""What people may see of the ids that a model writes: text and tool calls, piece by piece.

No special token, no half of a character, nothing behind a stop string. And the prompt that fits.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from course_lib.chat.conversation import render_for_completion
from course_lib.data.tokenizer import StreamDecoder, Tokenizer
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPTConfig

# %%
#| export serve.api
"""What clients may send to the chat server, within which limits, and what they get back.

Two forms: nanochat's own, and the part of OpenAI's chat completions that a small model can serve.
"""

import time
import uuid
from typing import Annotated, Any, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field

from course_lib.host.errors import CourseError
from course_lib.serve.streaming import Piece, content_of

# %%
#| export serve.app
"""A chat server: a page, nanochat's and OpenAI's form of completions, one model for all.

`create_app` makes it, `serve` runs it in a thread, `run_forever` until Ctrl-C.
"""

import asyncio
import hmac
import ipaddress
import json
import math
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import h11
import uvicorn
from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sse_starlette import EventSourceResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import BatchEngine, QueueFull, Request
from course_lib.host.errors import CourseError
from course_lib.host.paths import data_dir
from course_lib.host.stop import stop_when_asked
from course_lib.model.gpt import GPT
from course_lib.serve.api import (
    ERRORS,
    ChatRequest,
    Completion,
    CompletionRequest,
    Refused,
    error_body,
    sentence_about,
)
from course_lib.serve.streaming import Piece, PieceDecoder, StopStrings, fit_prompt, joined

# %% [markdown]
# These cells open the modules that this chapter builds. The next one is for this notebook only.

# %%
import http.client
import io
from contextlib import ExitStack, redirect_stdout
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import mlx.core as mx

from course_lib import backend
from course_lib.chat.calculator import use_calculator
from course_lib.chat.conversation import render_conversation
from course_lib.classroom import add_to, budget, check
from course_lib.classroom.exercises import chat as exercises
from course_lib.data.tokenizer import StreamDecoder
from course_lib.generate.engine import Engine
from course_lib.model.gpt import GPTConfig
from course_lib.train.trainer import Trainer

backend.seed_everything(42)
print(backend.describe())

# %% [markdown]
# ## 1. What a chat adds to a completion
#
# ### A model that answers
#
# A fine-tuned model (chapter 13) takes longer to make than this notebook takes to run. So here is one that knows a few answers
# by heart. It is small and it understands nothing; but what it writes has all that we need to see: a calculation, characters of
# several bytes, and text that looks like a web page.

# %%
calculation = [
    {"type": "text", "text": "Let me see: "},
    {"type": "python", "text": "6*7"},
    {"type": "python_output", "text": "42"},
    {"type": "text", "text": "It is 42."},
]
answers = {
    "Hi": "Hello! What shall we talk about?",
    "6*7?": calculation,
    "Smile": "Here you are: 😀🦊",
    "Attack": "<script>steal(document.cookie)</script>",
    "Count": " ".join(str(n) for n in range(1, 31)),
}
conversations = [
    [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    for question, answer in answers.items()
]
conversations.append(conversations[0] + conversations[2])  # two turns

# %%
tokenizer = Tokenizer.train([str(list(answers)), answers["Hi"], str(calculation)], 320)
rendered = [render_conversation(tokenizer, messages) for messages in conversations]
length = max(len(ids) for ids, _ in rendered)
end = tokenizer.special("<|assistant_end|>")
inputs = mx.array([(ids + [end] * length)[: length - 1] for ids, _ in rendered])  # (B, T)
targets = mx.array(
    [
        [token if trained else -1 for token, trained in zip(ids[1:], mask[1:], strict=True)]
        + [-1] * (length - len(ids))
        for ids, mask in rendered
    ]
)  # (B, T), -1: not trained

# %%
config = GPTConfig(256, tokenizer.vocab_size, n_layer=2, n_head=2, n_kv_head=2, n_embd=64)
model, num_steps = GPT(config), 60
trainer = Trainer(model, num_steps)
for step in range(num_steps):
    result = trainer.step([(inputs, targets)])
    if (step + 1) % 20 == 0:
        print(f"step {step + 1}  loss {result.loss:.3f}")
assert result.loss < 0.1

# %% [markdown]
# ### The model has no memory
#
# A completion goes on from a text. A chat is the same, with the whole conversation as the text: `render_for_completion` of
# chapter 13 writes it down with special tokens, up to the place where the assistant's turn begins.

# %%
engine = Engine(model, tokenizer, tool=use_calculator)
talk = [{"role": "user", "content": "Hi"}]
for question in ("Smile", None):
    ids = render_for_completion(tokenizer, talk)
    reply = engine.generate_batch([ids], max_tokens=100, temperature=0)[0]
    print(f"{len(ids):2d} ids of prompt, then: {tokenizer.decode(reply.ids)}")
    talk += [{"role": "assistant", "content": tokenizer.decode(reply.ids)}]
    talk += [{"role": "user", "content": question}] if question else []


# %% [markdown]
# The prompt of the second turn holds the first one, question and answer. Between two turns the model keeps nothing: whoever
# talks to it sends everything again, each time. It is cheap all the same, since the engine keeps the caches of the last texts
# (chapter 12) and reads only what is new.
#
# ## 2. What people may see
#
# ### Not like this
#
# Decode each id as it comes, and print it:

# %%
def ids_of(question):
    """The ids of the reply, as the engine gives them."""
    prompt = render_for_completion(tokenizer, [{"role": "user", "content": question}])
    return engine.generate_batch([prompt], max_tokens=100, temperature=0)[0].ids


for question in ("6*7?", "Smile"):
    print("".join(tokenizer.decode([token]) for token in ids_of(question)))

# %% [markdown]
# Two things went wrong. Special tokens are shown by name, which means nothing to a reader. And the emoji are gone: each takes
# four bytes in UTF-8, here these are four tokens, and none of them is a character by itself.
#
# ### Holding back half a character
#
# `StreamDecoder` of chapter 05 waits until a character is complete. What it gives out at each id:

# %%
decoder = StreamDecoder(tokenizer)
for token in ids_of("Smile")[-8:]:
    print(f"{tokenizer.token(token)!r:8} -> {decoder.push(token)!r}")


# %% [markdown]
# Three times nothing, then a whole emoji, twice. A reader never sees a broken character, and nothing comes later than it must.
#
# ### Pieces
#
# A reply is made of three kinds of text: what is said, what the calculator is asked, and what it answers. A `Piece` is some of
# one kind. Special tokens only switch between kinds.

# %%
#| export serve.streaming
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


# %%
decoder = PieceDecoder(tokenizer)
for token in ids_of("6*7?"):
    for piece in decoder.push(token):
        print(piece.kind, repr(piece.text), end="   ")


# %% [markdown]
# Neighbours of one kind can be joined. The content of a message, as chapter 13 has it, is made from them, so that a calculation
# stays in the history as what it was.

# %%
#| export serve.streaming
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


# %%
decoder = PieceDecoder(tokenizer)
content = content_of(piece for token in ids_of("6*7?") for piece in decoder.push(token))
print(content)
assert content == calculation


# %% [markdown]
# ### Stop strings
#
# A program that uses the model may want it to stop at a word of its own, such as "\n\n" or "User:". That word does not end where
# a token ends: `shall we` may come as `sha`, `ll`, ` w` … So text that *may be the beginning* of a stop string has to wait, and no
# other text should.

# %%
#| export serve.streaming
class StopStrings:
    """Text up to the first of some strings, wherever the borders of the pieces are.

    found: whether one of them has come. Nothing is given out behind it, nor the string itself.
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
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back: no stop string has come of it."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    most = min(len(text), len(stop) - 1)
    return next((n for n in range(most, 0, -1) if text.endswith(stop[:n])), 0)


# %%
stop, decoder = StopStrings(["shall we"]), StreamDecoder(tokenizer)
for token in ids_of("Hi"):
    text = decoder.push(token)
    print(f"{text!r}→{stop.push(text)!r}", end="  ")
    if stop.found:
        break


# %% [markdown]
# On the left of each arrow what the model wrote, on the right what was shown. From the `s` of "shall" on nothing is shown, until
# the whole stop string is there. Nothing of it was ever on the screen.
#
# ### A conversation that is too long
#
# The model has `sequence_len` positions, prompt and reply together. A long conversation forgets its oldest turns, whole ones, a
# question with its answer; a system message stays. And there must be room for the reply: a quarter of the positions is kept for
# it.

# %%
#| export serve.streaming
def fit_prompt(
    tokenizer: Tokenizer, messages: Sequence[dict], config: GPTConfig, max_tokens: int
) -> list[int]:
    """Ids of the prompt for the next reply, with room for max_tokens behind it where possible.

    A conversation that is too long for the model forgets its oldest turns; a quarter of
    sequence_len is kept for the reply (less, if max_tokens is less). Only when the last message
    needs that quarter, the reply gets what is left. Raises CourseError for what is no conversation,
    for one that does not end with the user's message, and for a last message that is too long.
    """
    length = config.sequence_len
    if messages and messages[-1].get("role") != "user":
        raise CourseError(
            f"the last message is from {messages[-1].get('role')!r}, expected 'user': it is the "
            "one to be answered"
        )
    try:
        room = length - min(max_tokens, length // 4)
        return render_for_completion(tokenizer, messages, room)
    except CourseError:
        return render_for_completion(tokenizer, messages, length)


# %%
long_talk = [{"role": "system", "content": "Be kind."}]
for n in range(30):
    long_talk += [{"role": "user", "content": f"Question {n}"}]
    long_talk += [{"role": "assistant", "content": f"Answer {n}"}] if n < 29 else []
ids = fit_prompt(tokenizer, long_talk, config, max_tokens=512)
print(len(ids), "ids of", config.sequence_len)
print(tokenizer.decode(ids[:60]).replace("<|user_start|>", "\n<|user_start|>"), "…")
assert len(ids) <= 192

# %% [markdown]
# The system message is followed by one of the last questions. The model does not know that there was anything before.
#
# ## 3. In the terminal
#
# With these parts and the engine, a chat in the terminal is a loop. `chat_cli` reads a line, with Python's `readline` for editing
# and history, shows the pieces as they come, and tells how fast they came. Its flags:

# %%
from course_lib.scripts.chat_cli import Conversation, Settings

# %% [markdown]
# Which model? One of the runs that `base_train` and `chat_sft` have left.

# %% [markdown]
# A terminal obeys what is printed: the escape character can clear the screen or change its title. The model may have learnt such
# characters, so `printable` takes them out.

# %% [markdown]
# Ctrl-C shall stop the reply and not the program. Within `stop_when_asked` it is only noted, and looked at between two tokens.
# What there was of the reply stays in the conversation.

# %% [markdown]
# Lines that begin with a slash are for the program.

# %% [markdown]
# Here is a conversation with it, without a keyboard:

# %%
settings, screen = Settings(max_tokens=100), io.StringIO()
terminal = Conversation(engine, settings, temperature=0.0, seed=1)
with redirect_stdout(screen):
    for line in ("6*7?", "/clear", "Smile", "/temperature 3"):
        print("you>", line)
        if line.startswith("/"):
            print(terminal.command(line))
        else:
            terminal.say(line)
print(screen.getvalue())


# %% [markdown]
# The calculation stands in brackets; no special token is shown.
#
# ## 4. A stream in the browser's language
#
# A browser asks by HTTP: it sends a request and gets a response. A reply that takes seconds should be seen while it is written.
# **Server-sent events** do that with one long response: lines that begin with `data: `, a blank line after each event. That is all
# of the format. By hand, without any library, it is a few lines. This server answers one client with three events:

# %%
def serve_by_hand(listener):
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)  # the request; we do not care what it says
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for text in ("Hel", "lo", "!"):
            time.sleep(0.05)
            connection.sendall(f"data: {json.dumps({'token': text})}\n\n".encode())


with socket.create_server(("127.0.0.1", 0)) as listener:
    thread = threading.Thread(target=serve_by_hand, args=[listener])
    thread.start()
    start = time.perf_counter()
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while data := client.recv(65536):
            print(f"{1000 * (time.perf_counter() - start):4.0f} ms  {data}")
    thread.join()

# %% [markdown]
# Each event came when it was sent, not at the end. These are the bytes on the wire, and the real server below sends no others.
#
# ## 5. One thread owns the model
#
# ### Why not a thread for each client
#
# MLX is lazy, and what is to be computed belongs to the thread that has written it down. Another thread cannot compute it:

# %%
later = mx.ones(3) + 1  # written down here, not yet computed


def compute():
    try:
        mx.eval(later)
        print("computed")
    except RuntimeError as error:
        print(f"in another thread: {error}")


thread = threading.Thread(target=compute)
thread.start()
thread.join()


# %% [markdown]
# And if it could: eight threads that each run the model would be eight passes over the weights for eight tokens. One thread that
# runs it for eight rows needs one (chapter 12). So the model gets one thread, that of `BatchEngine`, and nobody else touches it.
#
# A web server, for its part, should not wait. FastAPI and uvicorn run an **event loop**: one thread that turns to whichever client
# has something new. Two threads, then, and a handle between them: the engine's thread adds ids to it and calls `notify`; that rings
# a bell in the loop's thread, `call_soon_threadsafe`, the one call that is allowed from outside.

# %%
#| export serve.app
@dataclass(frozen=True)
class ChatSettings:
    """How a server answers, whom, and how many at once.

    tool: as for the engines. hosts: names besides localhost and IP addresses by which it may be
    called. body_seconds: how long a client may take to send a request.
    """

    name: str = "course"
    temperature: float = 0.8
    top_k: int = 50
    max_tokens: int = 512
    max_rows: int = 8
    max_waiting: int = 64
    tool: Callable | None = None
    api_key: str | None = None
    hosts: tuple[str, ...] = ()
    body_seconds: float = 10


# %%
#| export serve.app
class Reply:
    """One reply while it is written, for the event loop in which it was made.

    Iterate over `pieces()`. finish_reason: "stop" or "length", at the end. usage: tokens so far.
    """

    def __init__(
        self, engine: BatchEngine, tokenizer: Tokenizer, request: Request, stops: list[str]
    ):
        loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        tell = partial(loop.call_soon_threadsafe, self._news.set)
        self._handle = engine.submit(request, notify=tell)
        self._decoder, self._stops = PieceDecoder(tokenizer), StopStrings(stops)
        self.tokens, self.finish_reason = 0, None
        self.started = time.monotonic()
        self.seconds_to_first: float | None = None

    @property
    def usage(self) -> dict:
        """OpenAI's counts."""
        prompt = len(self._handle.prompt_ids)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.tokens,
            "total_tokens": prompt + self.tokens,
        }

    def cancel(self) -> None:
        """Nobody reads it any more: its row is free before the next step."""
        if not self._handle.finish_reason:
            self._handle.cancel()


# %% [markdown]
# `pieces` sleeps until the bell rings and gives out what has come since. If the client reads slowly, several tokens have come
# meanwhile and go out as one piece; the engine never waits for a reader. Note the order: clear the bell, *then* look. The other
# way round a token that comes between the two would be seen one token late, or, as the last one, never.

# %%
#| export serve.app
@add_to(Reply)
async def pieces(self) -> AsyncIterator[Piece]:
    """What has come since the last time, as soon as there is something. Raises what ended it."""
    handle, done = self._handle, None
    while not done:
        await self._news.wait()
        self._news.clear()  # before looking: what comes from now on sets it again
        done, new = handle.finish_reason, len(handle.ids)
        found = []
        for token in handle.ids[self.tokens : new]:
            self.tokens += 1
            found += self._visible(self._decoder.push(token))
            if self._stops.found:
                break
        if self.tokens and self.seconds_to_first is None:
            self.seconds_to_first = time.monotonic() - self.started
        if done or self._stops.found:
            found += self._last()
        for piece in joined(found):
            yield piece
        if self._stops.found:
            break
    self.cancel()
    if done and not self._stops.found:
        done = handle.generation().finish_reason  # raises, after an error
    if done == "cancelled" and not self._stops.found:
        raise Refused(503, "the server was stopped before the reply was finished; try again later")
    self.finish_reason = "stop" if self._stops.found or done == "stop" else "length"


# %%
#| export serve.app
@add_to(Reply)
def _visible(self, found: list[Piece]) -> list[Piece]:
    """What stop strings let through; they are for text, not for tool calls."""
    shown = []
    for kind, text in found:
        if kind == "text":
            shown.append(Piece(kind, self._stops.push(text)))
        elif not self._stops.found:
            shown += [Piece("text", self._stops.finish()), Piece(kind, text)]
    return [piece for piece in shown if piece.text]


@add_to(Reply)
def _last(self) -> list[Piece]:
    """What was held back."""
    found = [] if self._stops.found else self._visible(self._decoder.finish())
    return [*found, *(Piece("text", text) for text in [self._stops.finish()] if text)]


# %% [markdown]
# ## 6. What may be asked
#
# ### Two forms
#
# The original nanochat has one address, `POST /chat/completions`. The body is the conversation and perhaps settings; the answer is
# events `{"token": …}` and at last `{"done": true}`. Most other programs speak OpenAI's form, `POST /v1/chat/completions`. Our
# server understands both.
#
# Whatever comes from outside is checked before anything else sees it. Pydantic does this from types: `strict` means that the text
# "5" is no number.

# %%
#| export serve.api
MAX_MESSAGES, MAX_MESSAGE_CHARS, MAX_CHARS = 500, 8_000, 32_000


STRICT = ConfigDict(strict=True)  # "5" is no number


class Refused(CourseError):
    """A request that is answered with an error: its HTTP status, and what else the answer says."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ):
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


# %%
#| export serve.api
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


# %%
#| export serve.api
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


# %% [markdown]
# OpenAI's form has more fields. Some this server cannot honour. To ignore them would be a lie to the program that sent them, so
# it says so, unless they ask for nothing.

# %%
#| export serve.api
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


# %%
#| export serve.api
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


# %% [markdown]
# An error is one sentence, in the form that OpenAI's clients know how to raise.

# %%
#| export serve.api
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


def error_body(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict:
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


# %%
try:
    ChatRequest(messages=[{"role": "user", "content": "x" * 9000}]).plain_messages()
except Refused as error:
    print(json.dumps(error_body(error.status, str(error), error.param), indent=1))


# %% [markdown]
# And an answer is a chunk for each piece, or one object.

# %%
#| export serve.api
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


# %% [markdown]
# ### From a request to a reply
#
# `Chat` brings it together: a checked request becomes ids, the ids are queued, and a `Reply` is what comes back. Rendering a long
# conversation takes a while, so it is done in a thread (`to_thread`) and the loop goes on meanwhile. A full queue is status 429,
# "too many requests", with an estimate of when to come back.

# %%
#| export serve.app
class Chat:
    """A model that many talk to: makes replies of requests, and counts."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, settings: ChatSettings):
        self.tokenizer, self.settings, self.config = tokenizer, settings, model.config
        self.engine = BatchEngine(
            model, tokenizer, settings.tool, settings.max_rows, settings.max_waiting
        )
        self.started = time.time()
        self.counts = {"requests": 0, "replies": 0, "refused": 0, "gone": 0, "tokens": 0}
        self._seconds = 1.0  # what a reply takes, roughly


# %%
#| export serve.app
@add_to(Chat)
async def reply(self, body: ChatRequest, stops: list[str], max_tokens: int | None) -> Reply:
    """Queue a reply. Raises Refused for what cannot be answered, or not now."""
    self.counts["requests"] += 1
    settings, choose = self.settings, lambda value, default: default if value is None else value
    max_tokens = choose(max_tokens, settings.max_tokens)
    messages = body.plain_messages()
    try:
        ids = await asyncio.to_thread(fit_prompt, self.tokenizer, messages, self.config, max_tokens)
    except CourseError as error:
        raise Refused(400, str(error), "messages") from error
    request = Request(
        ids,
        max_tokens,
        choose(body.temperature, settings.temperature),
        min(choose(body.top_k, settings.top_k), self.config.vocab_size),
        body.top_p,
        seed=choose(body.seed, secrets.randbits(32)),
    )
    try:
        return Reply(self.engine, self.tokenizer, request, stops)
    except QueueFull as error:
        self.counts["refused"] += 1
        raise Refused(429, f"{error}", code="queue_full") from error
    except CourseError as error:
        raise Refused(503, f"{error}") from error


# %%
#| export serve.app
@add_to(Chat)
def ended(self, reply: Reply) -> None:
    """Count a reply, and let its row go."""
    reply.cancel()
    self.counts["replies" if reply.finish_reason else "gone"] += 1
    self.counts["tokens"] += reply.tokens
    self._seconds += 0.1 * (time.monotonic() - reply.started - self._seconds)


@add_to(Chat)
@property
def retry_after(self) -> int:
    """Seconds until a place in the queue is likely to be free."""
    _, waiting = self.engine.load
    turns = (waiting + 1) / self.settings.max_rows
    return max(1, min(60, math.ceil(turns * self._seconds)))


@add_to(Chat)
def stats(self) -> dict:
    """What is going on."""
    running, waiting = self.engine.load
    now = {"running": running, "waiting": waiting, "max_rows": self.settings.max_rows}
    return {**now, **self.counts, "uptime_seconds": round(time.time() - self.started, 1)}


@add_to(Chat)
def close(self) -> None:
    """End the engine; replies that are being written end."""
    self.engine.close()


# %% [markdown]
# ### A client that goes away
#
# People close pages. Then the row of the reply must be free for somebody else at once. `EventSourceResponse` notices the end of the
# connection and stops reading our events; whatever has happened, `finally` gives the row back.

# %%
#| export serve.app
class ReplyStream(EventSourceResponse):
    """Server-sent events of one reply. However the stream ends, the reply's row is free then."""

    def __init__(self, chat: Chat, reply: Reply, events: AsyncIterator[str]):
        super().__init__(events, sep="\n", shutdown_grace_period=3)  # the engine's end comes first
        self._chat, self._reply = chat, reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._chat.ended(self._reply)


async def nanochat_events(reply: Reply) -> AsyncIterator[str]:
    """Events as nanochat has them; tool calls have names of their own."""
    try:
        async for kind, text in reply.pieces():
            yield json.dumps({"token" if kind == "text" else kind: text})
        yield json.dumps({"done": True, "finish_reason": reply.finish_reason, "usage": reply.usage})
    except CourseError as error:
        yield json.dumps(error_body(503, str(error)))


async def openai_events(
    reply: Reply, answer: Completion, include_usage: bool
) -> AsyncIterator[str]:
    """Events as OpenAI has them."""
    try:
        yield json.dumps(answer.chunk({"role": "assistant", "content": ""}))
        async for kind, text in reply.pieces():
            yield json.dumps(answer.chunk({"content" if kind == "text" else kind: text}))
        yield json.dumps(answer.chunk({}, reply.finish_reason))
        if include_usage:
            yield json.dumps(answer.usage_chunk(reply.usage))
        yield "[DONE]"
    except CourseError as error:
        yield json.dumps(error_body(503, str(error)))


# %% [markdown]
# A reply that is not streamed has the same duty. So there two things are awaited: the reply, and the client's end.

# %%
#| export serve.app
async def chat_completions(body: ChatRequest, request: HTTPRequest) -> Response:
    """nanochat's form: always a stream."""
    chat: Chat = request.app.state.chat
    reply = await chat.reply(body, [], body.max_tokens)
    return ReplyStream(chat, reply, nanochat_events(reply))


async def v1_chat_completions(body: CompletionRequest, request: HTTPRequest) -> Response:
    """OpenAI's form, as a stream or whole."""
    chat: Chat = request.app.state.chat
    body.refuse_unknown(chat.settings.name)
    reply = await chat.reply(body, body.stops, body.max_completion_tokens or body.max_tokens)
    answer = Completion(chat.settings.name)
    if body.stream:
        usage = bool(body.stream_options and body.stream_options.include_usage)
        return ReplyStream(chat, reply, openai_events(reply, answer, usage))
    try:
        pieces = await unless_gone(request, collect(reply))
    except CourseError as error:
        raise Refused(503, str(error)) from error
    finally:
        chat.ended(reply)
    return JSONResponse(answer.whole(pieces, reply.finish_reason or "length", reply.usage))


# %%
#| export serve.app
async def collect(reply: Reply) -> list[Piece]:
    """All pieces of a reply, at its end."""
    return joined([piece async for piece in reply.pieces()])


async def unless_gone(request: HTTPRequest, work) -> list[Piece]:
    """What `work` gives; nothing when the client goes away before."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else []
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# %%
#| export serve.app
DEFAULTS = ("temperature", "top_k", "max_tokens")


def models(request: HTTPRequest) -> dict:
    """The one model, in OpenAI's form, and the settings of requests that do not say."""
    chat: Chat = request.app.state.chat
    about = {"id": chat.settings.name, "object": "model", "created": int(chat.started)}
    about["defaults"] = {key: getattr(chat.settings, key) for key in DEFAULTS}
    return {"object": "list", "data": [{**about, "owned_by": "you"}]}


def health() -> dict:
    """That it is there."""
    return {"status": "ok"}


def stats(request: HTTPRequest) -> dict:
    """What is going on."""
    return request.app.state.chat.stats()


# %% [markdown]
# ## 7. Who may ask
#
# "It only listens on my own machine" is not enough. Your browser is on your machine, too, and it runs scripts of every page that
# you visit. Two attacks are old and work on many local servers:
#
# - **A page from elsewhere asks.** A script on evil.example sends a POST to http://127.0.0.1:8000. It may not read the answer, but the
#   model has worked for it. The browser is honest about where the script is from: it sends `Origin: https://evil.example`.
# - **DNS rebinding.** The page is on evil.example, and then that name is made to lead to 127.0.0.1. Now the browser believes that page
#   and server are one, and the script may read everything. But the request still says `Host: evil.example`.
#
# So both headers are looked at. A Host that is a number cannot have been rebound: there was no name to look up.

# %%
#| export serve.app
def host_is_allowed(host: str, names: tuple[str, ...] = ()) -> bool:
    """Whether a request may have come for us under this Host header.

    localhost, an IP address, or one of `names`. A page from elsewhere that has made its own name
    lead here (DNS rebinding) comes with that name.
    """
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.removeprefix("[").removesuffix("]").lower()
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return name == "localhost" or name in names


def origin_is_own(origin: str, host: str) -> bool:
    """Whether the page that sends a request, by its Origin header, is one of this server's own."""
    scheme, _, place = origin.partition("://")
    return scheme in ("http", "https") and place.lower() == host.lower()


# %%
assert host_is_allowed("localhost:8000") and host_is_allowed("[::1]:8000")
assert not host_is_allowed("evil.example:8000")
assert not host_is_allowed("127.0.0.1.evil.example")
assert origin_is_own("http://127.0.0.1:8000", "127.0.0.1:8000")
assert not origin_is_own("https://evil.example", "127.0.0.1:8000")

# %% [markdown]
# The checks stand before everything else, in a layer around the app. The layer also reads the body, up to a megabyte and for ten
# seconds at most, and it puts a **content security policy** on every answer: the page may load what this server has, and run no
# script from anywhere else, not even one written into the page.

# %%
#| export serve.app
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


SAFE_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


MAX_BODY = 1 << 20  # bytes: 32,000 characters of the longest escapes, and more


# %%
#| export serve.app
class Gate:
    """Stands before the app (ASGI): who may ask, how large a body may be, how long it may take."""

    def __init__(self, app: ASGIApp, settings: ChatSettings, public: frozenset[str]):
        self.app, self.settings, self.public = app, settings, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            self.admit(scope["path"], Headers(scope=scope))
            body = await self.read(Headers(scope=scope), receive)
        except Refused as error:
            body = error_body(error.status, str(error), error.param, error.code)
            response = JSONResponse(body, error.status, {"connection": "close"})
            if error.status == 401:
                response.headers["www-authenticate"] = "Bearer"
            await response(scope, receive, send_safely)
            return
        if body is not None:
            await self.app(scope, replay(body, receive), send_safely)


# %%
#| export serve.app
@add_to(Gate)
def admit(self, path: str, headers: Headers) -> None:
    """Raises Refused for a request from where none may come."""
    host, origin, key = headers.get("host", ""), headers.get("origin"), self.settings.api_key
    if not host_is_allowed(host, self.settings.hosts):
        raise Refused(403, f"this server is not called {host[:80]!r}; use its IP address")
    if origin is not None and not origin_is_own(origin, host):
        raise Refused(403, f"a page from {origin[:80]!r} may not send requests to this server")
    if key is not None and path not in self.public:
        given = headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, f"Bearer {key}".encode()):
            raise Refused(
                401,
                "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'",
                code="invalid_api_key",
            )


# %%
#| export serve.app
@add_to(Gate)
async def read(self, headers: Headers, receive: Receive) -> bytes | None:
    """The whole body; None when the client goes away. Raises Refused: too large or too slow."""
    body, limit = bytearray(), f"at most {MAX_BODY:,} bytes are allowed"
    with suppress(ValueError):
        if int(headers.get("content-length", "")) > MAX_BODY:
            raise Refused(413, f"the body has {headers['content-length'][:20]} bytes; {limit}")
    try:
        async with asyncio.timeout(self.settings.body_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    raise Refused(413, f"the body has more than {MAX_BODY:,} bytes; {limit}")
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        seconds = self.settings.body_seconds
        raise Refused(408, f"the body did not come within {seconds:g} seconds") from None


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already, and then what else comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return first.pop() if first else await receive()

    return receive_again


# %% [markdown]
# ## 8. The server
#
# What is left is to put the parts together.

# %%
#| export serve.app
PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/chat.css": ("chat.css", "text/css; charset=utf-8"),
    "/chat.js": ("chat.js", "text/javascript; charset=utf-8"),
    "/markdown.js": ("markdown.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def create_app(model: GPT, tokenizer: Tokenizer, settings: ChatSettings | None = None) -> FastAPI:
    """The chat server's app. Call it in the thread that has made or loaded the model.

    From now on the model belongs to a thread of its own. `app.state.chat.close()` ends that;
    `serve` and `run_forever` do it when they end.
    """
    settings = settings or ChatSettings()
    app = FastAPI(title="chat", docs_url=None, redoc_url=None)
    app.state.chat = Chat(model, tokenizer, settings)
    app.add_middleware(Gate, settings=settings, public=frozenset({*PAGES, "/health"}))
    for path, function in {
        "/chat/completions": chat_completions,
        "/v1/chat/completions": v1_chat_completions,
    }.items():
        app.post(path, response_model=None, responses=ERRORS)(function)
    for path, function in {"/v1/models": models, "/health": health, "/stats": stats}.items():
        app.get(path, responses=ERRORS)(function)
    for path, (name, media_type) in PAGES.items():
        text = (data_dir() / "web" / name).read_bytes()
        page = partial(Response, text, media_type=media_type, headers={"cache-control": "no-cache"})
        app.add_api_route(path, _endpoint(page), methods=["GET", "HEAD"], include_in_schema=False)
    app.add_exception_handler(Refused, answer_refused)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(HTTPException, answer_http_error)
    return app


def _endpoint(page: Callable[[], Response]) -> Callable:
    async def endpoint() -> Response:
        return page()

    return endpoint


# %%
#| export serve.app
async def answer_refused(request: HTTPRequest, error: Refused) -> Response:
    """The answer to what was refused, with the time to wait when the queue is full."""
    body = error_body(error.status, str(error), error.param, error.code)
    headers = {}
    if error.status == 429:
        headers["retry-after"] = str(request.app.state.chat.retry_after)
    return JSONResponse(body, error.status, headers)


async def answer_invalid(request: HTTPRequest, error: RequestValidationError) -> Response:
    """The answer to a body of another form."""
    message, param = sentence_about(error)
    return JSONResponse(error_body(400, message, param, "invalid_value"), 400)


async def answer_http_error(request: HTTPRequest, error: HTTPException) -> Response:
    """The answer to an address or a method that is not there, and to a body that cannot be read."""
    sentences = {
        404: "there is nothing at this address; the page is at /",
        405: "this address does not know that method",
    }
    message = sentences.get(error.status_code, "the request cannot be read; send a JSON object")
    return JSONResponse(error_body(error.status_code, message), error.status_code, error.headers)


# %% [markdown]
# ### Clients that are slow on purpose
#
# A client can hold a connection by sending its request byte by byte, or by asking for a long reply and not reading it. Neither may
# cost us more than a little memory for a little while. uvicorn has no clock for these two, so we give it one.

# %%
#| export serve.app
class BoundedProtocol(H11Protocol):
    """HTTP, with bounds on how long a client may take to send the head of a request, and to read.

    uvicorn bounds the time between two requests only. A client that sends its head byte by byte
    (slow loris), or that does not read what it has asked for, would keep a connection for ever.
    """

    HEAD_SECONDS, READ_SECONDS = 10.0, 30.0
    _clock: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading = self.loop.call_later(self.READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        self._stop_reading()
        super().connection_lost(exc)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading.cancel()
            self._reading = None

    def _watch(self) -> None:
        """The clock runs while the head of a request is expected."""
        if self.conn.their_state is not h11.IDLE:
            self._stop_clock()
        elif self._clock is None:
            self._clock = self.loop.call_later(self.HEAD_SECONDS, self._too_slow)

    def _stop_clock(self) -> None:
        if self._clock:
            self._clock.cancel()
            self._clock = None

    def _too_slow(self) -> None:
        self._clock = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()


# %% [markdown]
# At the end of the server the engine ends first. The replies then end with a sentence that says why, and nobody waits for them.

# %%
#| export serve.app
class ChatServer(uvicorn.Server):
    """uvicorn, whose end does not wait for replies: the engine ends first, and so do they."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.to_thread(self.config.app.state.chat.close)
        await super().shutdown(sockets)


UNREAD = 64 * 1024  # bytes that the system keeps for a client that does not read


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises CourseError when it cannot."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD
        )  # its connections inherit it
        listener.bind(address)
        listener.listen(128)
        return listener
    except OSError as error:
        raise CourseError(
            f"cannot listen on {host} port {port} ({error.strerror or error}); choose another "
            "--port, or 0 for a free one"
        ) from error


def address_of(listener: socket.socket) -> str:
    """The address of a listening socket, for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


# %%
#| export serve.app
def server_for(app: FastAPI) -> ChatServer:
    """The server of an app, with its bounds."""
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        limit_concurrency=500,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=64 * 1024,
    )
    return ChatServer(config)


@contextmanager
def serve(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve an app in a thread while the block runs; gives its address, http://host:port."""
    listener = listen(host, port)
    server = server_for(app)
    thread = threading.Thread(target=server.run, args=([listener],), name="ChatServer", daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield address_of(listener)
    finally:
        server.should_exit = True
        thread.join()


def run_forever(app: FastAPI, listener: socket.socket) -> None:
    """Serve an app until Ctrl-C or SIGTERM; replies that are being written end."""
    with stop_when_asked():  # uvicorn has its own handlers meanwhile, and passes the signal on
        server_for(app).run([listener])


# %% [markdown]
# ### Talk to it
#
# The server runs in a thread of its own now. The same question as raw bytes:

# %%
app = create_app(model, tokenizer, ChatSettings("by heart", temperature=0, tool=use_calculator))
running = ExitStack()
address = running.enter_context(serve(app))
host, port = "127.0.0.1", int(address.rpartition(":")[2])


def raw(method, path, body="", **headers):
    """Send a request by hand; the whole answer as text."""
    headers = {"Host": f"{host}:{port}", "Connection": "close", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items())]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body.encode())}"]
    with socket.create_connection((host, port)) as client:
        client.sendall("\r\n".join([*lines, "", body]).encode())
        return b"".join(iter(lambda: client.recv(65536), b"")).decode()


question = json.dumps({"messages": [{"role": "user", "content": "6*7?"}]})
print(raw("POST", "/chat/completions", question))


# %% [markdown]
# Headers, then events, each with its length before it (HTTP calls that chunks). The calculator's pieces have names of their own,
# `python` and `python_output`: a client that does not know them shows the text alone.
#
# Now the attacks of section 7:

# %%
def outcome(answer):
    status, body = answer.split("\r\n")[0], answer.rpartition("\r\n\r\n")[2]
    return f"{status[9:]}: {json.loads(body)['error']['message']}"


print(outcome(raw("POST", "/chat/completions", question, Origin="https://evil.example")))
print(outcome(raw("GET", "/v1/models", Host="evil.example")))
print(outcome(raw("GET", "/../../etc/passwd")))
print(outcome(raw("POST", "/chat/completions", "[" * 100_000)))

# %% [markdown]
# Each is refused, in one sentence. And OpenAI's form, with a stop string:

# %%
body = {"messages": [{"role": "user", "content": "Hi"}], "stop": "shall we"}
answer = json.loads(raw("POST", "/v1/chat/completions", json.dumps(body)).rpartition("\r\n\r\n")[2])
print(json.dumps({key: answer[key] for key in ("object", "choices", "usage")}, indent=1))
assert answer["choices"][0]["message"]["content"] == "Hello! What "


# %% [markdown]
# Any program that is made for OpenAI's API can use it:
# `openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")`.
#
# ### Somebody closes the page
#
# A client asks for a long reply, reads a little and goes. `/stats` tells what the server does.

# %%
def load():
    stats = json.loads(raw("GET", "/stats").rpartition("\r\n\r\n")[2])
    return f"running {stats['running']}, waiting {stats['waiting']}, gone {stats['gone']}"


body = json.dumps(
    {"messages": [{"role": "user", "content": "Count"}], "temperature": 2, "top_k": 200}
)
client = http.client.HTTPConnection(host, port)
client.request("POST", "/chat/completions", body, {"Content-Type": "application/json"})
response = client.getresponse()
response.read(10)
print(load())
response.close()
client.close()
time.sleep(0.5)
print(load())

# %% [markdown]
# If the first line says that nothing runs, the model was quicker than we: it is very small. In any case nothing runs in the second.
#
# ## 9. Eight at once
#
# Chapter 12 measured continuous batching from the inside. What do people notice of it? The time until the first word. Eight clients
# ask at the same moment, first a server that serves one after the other, then one that serves all together. The model is of some
# size now, and untrained (its special tokens are made unlikely, so that all replies are equally long).

# %%
big_config = GPTConfig.from_depth(budget(8, quick=2), tokenizer.vocab_size, sequence_len=256)
big = GPT(big_config)
head = 0.3 * mx.random.normal(big.lm_head.weight.shape)
head[tokenizer.bos :] = 0
big.lm_head.weight = head
big.set_dtype(backend.compute_dtype())


def client_times(address, number, start, times):
    """Ask for 30 tokens; the seconds of each event."""
    client = http.client.HTTPConnection(address.removeprefix("http://"))
    body = {"messages": [{"role": "user", "content": f"{number}"}], "max_tokens": 30}
    client.request(
        "POST", "/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
    )
    response = client.getresponse()
    while line := response.readline():
        if line.startswith(b'data: {"token'):
            times[number].append(time.perf_counter() - start)


# %%
def eight_clients(max_rows):
    """For each client the seconds of its events."""
    times = [[] for _ in range(8)]
    with serve(create_app(big, tokenizer, ChatSettings(max_rows=max_rows))) as address:
        start = time.perf_counter()
        arguments = [(address, n, start, times) for n in range(8)]
        threads = [threading.Thread(target=client_times, args=each) for each in arguments]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sorted(times, key=lambda each: each[0])


queued, batched = eight_clients(max_rows=1), eight_clients(max_rows=8)


# %%
def draw_times(ax, times, title):
    """Hatched: waits. Blue: is written."""
    for n, (first, *_, last) in enumerate(times):
        ax.barh(n, first, color="white", edgecolor="#999999", hatch="///")
        ax.barh(n, last - first, left=first, color="#cfe4f3", edgecolor="#0072B2")
    ax.set(title=title, xlabel="seconds", yticks=range(8), ylim=(7.6, -0.6))


figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), sharex=True, sharey=True)
draw_times(axes[0], queued, "one after the other")
draw_times(axes[1], batched, "together")
axes[0].set_ylabel("client")
plt.show()
for name, times in (("one after the other", queued), ("together", batched)):
    firsts = sorted(each[0] for each in times)
    end_of_all = max(each[-1] for each in times)
    print(f"{name}: first word after {firsts[4]:.2f} s (median), all done after {end_of_all:.2f} s")

# %% [markdown]
# Hatched is waiting, blue is being written. On the left each waits for all before. On the right all wait a little, for the prompts
# of the others, and then all are written at once: each is written more slowly than it would be alone, and yet the last one is
# finished far earlier.
#
# ## 10. The page
#
# The page is three files in `data/web`, without a library, a build step or a server elsewhere: `index.html`, `chat.css`, `chat.js`, and
# a fourth for markdown. It keeps the conversation and sends all of it with each request, as section 1 says it must. Stop ends the
# connection, and the server does the rest; Regenerate and Edit cut the conversation and ask again.
#
# ### Text from a model is text from a stranger
#
# The model's answer to "Attack" was `<script>steal(document.cookie)</script>`. A page that puts this into its HTML runs it. Models
# repeat what they have read, and what a user has pasted from somewhere. So two walls stand here, each of which is enough:
#
# 1. `markdown.js` makes nodes and never HTML. Text becomes a text node, in which `<` is a character like any other. Elements are
#    the dozen that the file itself creates. A link leads to `http`, `https` or `mailto`, or it is no link: `javascript:` stays text.
# 2. The content security policy forbids scripts that the server has not sent as a file.
#
# The difference in Python, with a library for HTML and XML:

# %%
attack = answers["Attack"]
as_markup = ElementTree.fromstring(f"<p>{attack}</p>")
as_text = ElementTree.Element("p")
as_text.text = attack
print("pasted into HTML:", [child.tag for child in as_markup], "inside the paragraph")
print("as a text node:  ", [child.tag for child in as_text], "and it reads", as_text.text)

# %% [markdown]
# Pasted, the text has become an element that a browser would run. As the text of a node it has not, and a reader sees what the
# model wrote.

# %%
running.close()

# %% [markdown]
# ### chat_web
#
# The program has flags and starts the server.

# %%
from course_lib.scripts.chat_web import Settings


# %% [markdown]
# ```bash
# uv run chat_web                    # then open http://127.0.0.1:8000
# uv run chat_cli -p "Why is the sky blue?"
# ```
#
# Both need a model: `base_train` and then `chat_sft` make one.
#
# ## Exercises
#
# ### Exercise 16.1 — read a stream
#
# 15 minutes, ●●○. Write `parse_events(chunks)`: `chunks` are byte strings, as they come from a socket, cut anywhere, even inside a
# character. Return the list of what the events hold, parsed as JSON, up to `data: [DONE]` or the end. An event ends with a blank
# line; lines end with `\n` or `\r\n`; lines that do not begin with `data: ` (comments begin with `:`) are skipped.
#
# <details><summary>Hint</summary>Put all bytes together that have come so far, and take complete lines off the front. Decode a
# line, never a chunk. Each of our events has one line of data.</details>

# %% tags=["exercise"]
def parse_events(chunks):
    raise NotImplementedError


# %%
check(exercises.parse_events, parse_events)


# %% [markdown]
# ### Exercise 16.2 — where may it be cut?
#
# 15 minutes, ●●○. Write `showable(data)`: how many bytes of `data` (the beginning of a text in UTF-8) may be decoded and shown now?
# All but the beginning of a character at the end that lacks bytes. In UTF-8 the first byte of a character tells how many
# there are: below 0x80 one, 0xC0–0xDF two, 0xE0–0xEF three, 0xF0–0xF7 four. All that follow are 0x80–0xBF.
#
# <details><summary>Hint</summary>Only the last three bytes can matter. Go back over bytes 0x80–0xBF to the first byte of the last
# character, and see whether it promises more bytes than there are.</details>

# %% tags=["exercise"]
def showable(data):
    raise NotImplementedError


# %%
check(exercises.showable, showable)


# %% [markdown]
# ### Exercise 16.3 — a safe link
#
# 10 minutes, ●○○. Write `safe_link(address)` for a chat page: return the address if it leads to `http`, `https` or `mailto`, else
# `None`. Attackers write `JavaScript:`, put spaces in front, or line ends and tabs inside (browsers take these out before they look
# at the address!). An address without a scheme, such as `page.html`, leads to our own server: `None`, too.
#
# <details><summary>Hint</summary>List what is allowed, never what is forbidden. Take out what browsers take out, then
# `urllib.parse.urlsplit(address).scheme`.</details>

# %% tags=["exercise"]
def safe_link(address):
    raise NotImplementedError


# %%
check(exercises.safe_link, safe_link)


# %% [markdown]
# ### Exercise 16.4 — fair to everybody
#
# 10 minutes, ●●○. One user sends sixty requests, then you send one: in order of arrival you are the sixty-first. Write
# `fair_order(clients)`: `clients` are the names of the senders in the order of arrival; return the positions in the list, in the
# order in which they are to be served. Everybody's first request comes before anybody's second, and so on; among equals, the order
# of arrival.
#
# <details><summary>Hint</summary>Number the requests of each client: 0, 1, 2 … Then sort by that number. Python's sort keeps the
# order of equals.</details>

# %% tags=["exercise"]
def fair_order(clients):
    raise NotImplementedError


# %%
check(exercises.fair_order, fair_order)

# %% [markdown]
# Solutions: [solutions/16_chat.ipynb](solutions/16_chat.ipynb)
#
# ## Summary
#
# - A model has no memory: each turn sends the whole conversation, and what does not fit is forgotten from the oldest turn on.
# - A reader sees whole characters, no special tokens, nothing behind a stop string: each of these means holding something back.
# - One thread owns the model. An event loop talks to the clients, and a bell rings between the two.
# - A client that goes away, does not read, or sends its request byte by byte costs nobody else anything.
# - A local server is reached by every page in your browser: look at Origin and Host, and treat a model's text as a stranger's.
#
# ## Pitfalls
#
# - Decoding each token by itself: half an emoji is two boxes.
# - Looking for a stop string in each token and not in the text.
# - **A model that is loaded in one thread and run in another**: MLX refuses, or worse, each request waits for all others.
# - A reply that goes on when its reader has gone: after a few reloads of the page the server writes for nobody.
# - `innerHTML` with text from a model; and a blacklist of bad links in place of a list of good ones.
# - `Access-Control-Allow-Origin: *` on a local server "to make it work": now every page may read it.
# - A key in the address (`?key=…`): it ends up in histories and logs.
#
# ## Further reading
#
# - [Server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html), the standard.
# - [Content security policy](https://developer.mozilla.org/en-US/docs/Web/HTTP/Guides/CSP), MDN.
# - [Protecting browsers from DNS rebinding attacks](https://crypto.stanford.edu/dns/), Jackson et al., 2007.
# - [Slowloris](https://en.wikipedia.org/wiki/Slowloris_(cyber_attack)): why the time of a request needs a bound.
# - [UTF-8](https://www.rfc-editor.org/rfc/rfc3629), RFC 3629: exercise 16.2.
#
# **Next:** [17 · Speedrun](17_speedrun.ipynb), the whole way from text to this chat in one command.
