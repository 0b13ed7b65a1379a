"""Replies while they are written, and the forms in which they go out: whole, or as server-sent events.

An event loop talks to the clients, one other thread owns the model (`BatchEngine`); a `Reply` stands between the two.

Written by hand; chapter 17 uses it.
"""

import asyncio
import json
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

from fastapi import Request as HTTPRequest
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.rows import Request
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT
from course_lib.serve.api import ChatSettings, Question, Refused
from course_lib.serve.batch_engine import BatchEngine, QueueFull
from course_lib.serve.logprobs import LogProbs
from course_lib.serve.streaming import Piece, PieceDecoder, StopStrings, content_of, fit_prompt, joined


class Choice:
    """One reply while it is written. tokens: how many so far; finish_reason: "stop" or "length", at the end.

    top_logprobs: as in `Question`.
    """

    def __init__(
        self,
        engine: BatchEngine,
        tokenizer: Tokenizer,
        request: Request,
        stops: list[str],
        top_logprobs: int | None,
        notify: Callable,
    ):
        self._logprobs = None if top_logprobs is None else LogProbs(tokenizer, top_logprobs)
        self._handle = engine.submit(replace(request, watch=self._logprobs), notify)
        self._decoder, self._stops = PieceDecoder(tokenizer), StopStrings(stops)
        self._told = 0  # how many log-probabilities were given out
        self._ended: str | None = None
        self.tokens = 0
        self.finish_reason: str | None = None

    def cancel(self) -> None:
        """Nobody reads it any more: its row is free before the next step."""
        self._handle.cancel()

    def news(self) -> list[Piece]:
        """What has come since the last call."""
        self._ended = self._handle.finish_reason  # before the ids: none comes after it
        found = []
        for token in self._handle.ids[self.tokens :]:
            self.tokens += 1
            found += self._visible(self._decoder.push(token))
            if self._stops.found:
                break
        if self._ended:
            found += [*self._visible(self._decoder.finish()), Piece("text", self._stops.finish())]
        return joined(piece for piece in found if piece.text)

    def end(self) -> bool:
        """Whether the last news were the end. Raises the error that ended the reply."""
        if self._stops.found:
            self.cancel()
            self.finish_reason = "stop"
        elif self._ended:
            ended = self._handle.generation().finish_reason  # raises, after an error
            if ended == "cancelled":
                raise Refused(503, "the server was stopped before the reply was finished; try again later")
            self.finish_reason = "stop" if ended == "stop" else "length"
        return bool(self.finish_reason)

    def logprobs(self) -> list[dict] | None:
        """Log-probabilities of the tokens since the last call; None when nobody asked for them."""
        if self._logprobs is None:
            return None
        start, self._told = self._told, self.tokens
        return self._logprobs.entries[start : self.tokens]

    def _visible(self, found: list[Piece]) -> list[Piece]:
        """What stop strings let through; they are for text, not for tool calls."""
        shown = []
        for kind, text in found:
            if kind == "text":
                shown.append(Piece(kind, self._stops.push(text)))
            elif not self._stops.found:
                shown += [Piece("text", self._stops.finish()), Piece(kind, text)]
        return shown


class Reply:
    """All replies to one question while they are written, for the event loop in which it was made.

    prompts: ids of each. Sample n of a prompt is what a question with the seed + n would get.
    """

    def __init__(self, engine: BatchEngine, tokenizer: Tokenizer, prompts: list[list[int]], question: Question):
        self._news = asyncio.Event()
        notify = partial(asyncio.get_running_loop().call_soon_threadsafe, self._news.set)
        self._prompt_tokens = sum(map(len, prompts))
        self.choices: list[Choice] = []
        self.started = time.monotonic()
        q = question
        try:
            for ids, n in product(prompts, range(q.num_samples)):
                request = Request(ids, q.max_tokens, q.temperature, q.top_k, q.top_p, q.min_p, q.seed + n)
                self.choices.append(Choice(engine, tokenizer, request, q.stops, q.top_logprobs, notify))
        except CourseError:
            self.cancel()
            raise

    @property
    def tokens(self) -> int:
        """How many so far."""
        return sum(choice.tokens for choice in self.choices)

    @property
    def finished(self) -> bool:
        return all(choice.finish_reason for choice in self.choices)

    @property
    def usage(self) -> dict[str, int]:
        """OpenAI's counts."""
        prompt, written = self._prompt_tokens, self.tokens
        return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}

    def cancel(self) -> None:
        """Nobody reads them any more: their rows are free before the next step."""
        for choice in self.choices:
            choice.cancel()

    async def news(self) -> AsyncIterator[tuple[int, Choice, list[Piece]]]:
        """(its number, a choice, what is new of it), as soon as there is something; at its end once with nothing new.

        Raises the error that ended a reply. A client that reads slowly gets several tokens as one piece; the engine
        does not wait for it.
        """
        writing = list(enumerate(self.choices))
        while writing:
            await self._news.wait()
            self._news.clear()  # before looking: what comes from now on sets it again
            for number, choice in list(writing):
                if pieces := choice.news():
                    yield number, choice, pieces
                if choice.end():
                    writing.remove((number, choice))
                    yield number, choice, []


class Chat:
    """A model that many talk to: makes replies of questions, and counts; counts: of a server with several models."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, settings: ChatSettings, counts: dict | None = None):
        self.tokenizer, self.settings, self.config = tokenizer, settings, model.config
        self.engine = BatchEngine(model, tokenizer, settings.tool, settings.max_rows, settings.max_waiting)
        self.started = time.time()
        self.counts = counts or {"requests": 0, "replies": 0, "refused": 0, "gone": 0, "tokens": 0}
        self._seconds = 1.0  # what a reply takes, roughly: a moving average
        self._preparing, self._turn = 0, asyncio.Lock()  # replies whose prompts are made: one prompt at a time

    @property
    def busy(self) -> bool:
        """Whether it is writing, or about to."""
        return bool(sum(self.engine.load) + self._preparing)

    async def reply(self, question: Question) -> Reply:
        """Queue a reply. Raises Refused for a conversation that cannot be answered, or not now."""
        self.counts["requests"] += 1
        question = self._fitting(question)
        wanted = len(question.prompts) * question.num_samples
        places = self.settings.max_rows + self.settings.max_waiting
        if sum(self.engine.load) + self._preparing + wanted > places:
            raise self._full(f"{sum(self.engine.load) + self._preparing} requests wait already; try again in a while")
        self._preparing += wanted
        try:
            async with self._turn:
                prompts = await asyncio.to_thread(lambda: [self._ids(each, question) for each in question.prompts])
        except CourseError as error:
            raise Refused(400, str(error), "messages" if isinstance(question.prompts[0], list) else "prompt") from error
        finally:
            self._preparing -= wanted
        try:
            return Reply(self.engine, self.tokenizer, prompts, question)
        except QueueFull as error:
            raise self._full(str(error)) from error
        except CourseError as error:  # the engine is closed
            raise Refused(503, str(error)) from error

    def _fitting(self, question: Question) -> Question:
        """The question with numbers that this model knows."""
        top_k = None if question.top_k is None else min(question.top_k, self.config.vocab_size)
        return replace(question, top_k=top_k, max_tokens=min(question.max_tokens, self.config.sequence_len))

    def _ids(self, prompt: list[dict] | str, question: Question) -> list[int]:
        """Ids of a prompt. Raises CourseError for one that does not fit."""
        if not isinstance(prompt, str):
            return fit_prompt(self.tokenizer, prompt, self.config, question.max_tokens)
        ids = self.tokenizer.encode(prompt, bos=True)
        if len(ids) > self.config.sequence_len:
            said = f"the prompt has {len(ids):,} tokens, and the model has room for {self.config.sequence_len:,}"
            raise CourseError(f"{said}; shorten it")
        return ids

    def _full(self, sentence: str) -> Refused:
        """The answer to who comes when too many wait."""
        self.counts["refused"] += 1
        turns = (self.engine.load[1] + 1) / self.settings.max_rows  # until a place in the queue is free
        seconds = max(1, min(60, math.ceil(turns * self._seconds)))
        return Refused(429, sentence, code="queue_full", headers={"retry-after": str(seconds)})

    def ended(self, reply: Reply) -> None:
        """Count a reply, and free its row."""
        reply.cancel()
        self.counts["replies" if reply.finished else "gone"] += 1
        self.counts["tokens"] += reply.tokens
        self._seconds += 0.1 * (time.monotonic() - reply.started - self._seconds)

    def counters(self) -> dict[str, float]:
        """Running, waiting, served, refused, tokens, uptime."""
        running, waiting = self.engine.load
        now = {"running": running, "waiting": waiting, "max_rows": self.settings.max_rows}
        return {**now, **self.counts, "uptime_seconds": round(time.time() - self.started, 1)}

    def close(self) -> None:
        """End the engine; replies that are being written end."""
        self.engine.close()


# ---- Forms of a reply


class ReplyStream(EventSourceResponse):
    """Server-sent events of one reply. However the stream ends, the reply's rows are free then."""

    def __init__(self, chat: Chat, reply: Reply, events: AsyncIterator[str], headers: dict[str, str] | None = None):
        super().__init__(events, headers=headers, sep="\n", shutdown_grace_period=3)  # the engine's end comes first
        self._chat, self._reply = chat, reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._chat.ended(self._reply)


async def nanochat_events(reply: Reply) -> AsyncIterator[str]:
    """Events as nanochat has them; tool calls have names of their own."""
    try:
        async for _, _, pieces in reply.news():
            for kind, text in pieces:
                yield json.dumps({"token" if kind == "text" else kind: text})
        yield json.dumps({"done": True, "finish_reason": reply.choices[0].finish_reason, "usage": reply.usage})
    except CourseError as error:
        yield json.dumps(Refused(503, str(error)).body)


class Completion:
    """The replies to a question in the form of OpenAI's older completions: as the events of a stream, or whole."""

    kind, chunk_kind, prefix = "text_completion", "text_completion", "cmpl"

    def __init__(self, model: str, reply: Reply):
        self._reply = reply
        self._about = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    async def events(self, include_usage: bool) -> AsyncIterator[str]:
        """A chunk for each piece, and one for the end of each choice. Then perhaps usage, and [DONE]."""
        usage = {"usage": None} if include_usage else {}  # until the last one
        try:
            for first in self.begin():
                yield self._chunk(first, **usage)
            async for number, choice, pieces in self._reply.news():
                for kind, text in pieces:
                    if delta := self.delta(kind, text):
                        yield self._chunk(self._choice(number, choice, delta), **usage)
                if choice.finish_reason:
                    yield self._chunk(self._choice(number, choice, self.delta()), **usage)
            if include_usage:
                yield self._chunk(usage=self._reply.usage)
            yield "[DONE]"
        except CourseError as error:
            yield json.dumps(Refused(503, str(error)).body)

    async def whole(self) -> dict:
        """All of it, at its end."""
        found: list[list[Piece]] = [[] for _ in self._reply.choices]
        try:
            async for number, _, pieces in self._reply.news():
                found[number] += pieces
        except CourseError as error:
            raise Refused(503, str(error)) from error
        pairs = enumerate(zip(self._reply.choices, found, strict=True))
        choices = [self._choice(number, choice, self.message(pieces)) for number, (choice, pieces) in pairs]
        return {**self._about, "object": self.kind, "choices": choices, "usage": self._reply.usage}

    def begin(self) -> list[dict]:
        """Choices to send before anything is written."""
        return []

    def delta(self, kind: str = "text", text: str = "") -> dict | None:
        """What is new of a choice; None: nothing that this form can tell."""
        return {"text": text} if kind == "text" else None

    def message(self, pieces: list[Piece]) -> dict:
        """All of a choice."""
        return {"text": "".join(text for kind, text in pieces if kind == "text")}

    def _choice(self, number: int, choice: Choice, content: dict | None) -> dict:
        logprobs = choice.logprobs()
        told = logprobs if logprobs is None else {"content": logprobs, "refusal": None}
        return {"index": number, **(content or {}), "logprobs": told, "finish_reason": choice.finish_reason}

    def _chunk(self, *choices: dict, **rest: dict | None) -> str:
        return json.dumps({**self._about, "object": self.chunk_kind, "choices": list(choices), **rest})


class ChatCompletion(Completion):
    """OpenAI's chat completions. Tool calls have names of their own beside the content."""

    kind, chunk_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def begin(self) -> list[dict]:
        delta = {"role": "assistant", "content": ""}
        numbers = range(len(self._reply.choices))
        return [{"index": n, "delta": delta, "logprobs": None, "finish_reason": None} for n in numbers]

    def delta(self, kind: str = "text", text: str = "") -> dict:
        return {"delta": {"content" if kind == "text" else kind: text} if text else {}}

    def message(self, pieces: list[Piece]) -> dict:
        """content has the text alone; parts also the tool calls, if there were any."""
        message: dict[str, Any] = {"role": "assistant", "content": super().message(pieces)["text"], "refusal": None}
        if isinstance(parts := content_of(pieces), list):
            message["parts"] = parts
        return {"message": message}


async def unless_gone(request: HTTPRequest, work: Coroutine[Any, Any, dict]) -> dict | None:
    """What `work` gives; None when the client goes away before."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
