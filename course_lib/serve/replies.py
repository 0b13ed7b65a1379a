"""Replies while they are written, and the forms in which they go out: whole, or as server-sent events.

An event loop talks to the clients, one other thread owns the model (`BatchEngine`); a `Reply` stands between the two.

Written by hand; chapter 16 uses it.
"""

import asyncio
import json
import math
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from functools import partial
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
from course_lib.serve.streaming import Piece, PieceDecoder, StopStrings, content_of, fit_prompt, joined


class Reply:
    """One reply while it is written, for the event loop in which it was made.

    Iterate over `pieces()`. tokens: how many so far; finish_reason: "stop" or "length", at the end.
    """

    def __init__(self, engine: BatchEngine, tokenizer: Tokenizer, request: Request, stops: list[str]):
        self._news = asyncio.Event()
        notify = partial(asyncio.get_running_loop().call_soon_threadsafe, self._news.set)
        self._handle = engine.submit(request, notify)
        self._decoder, self._stops = PieceDecoder(tokenizer), StopStrings(stops)
        self.tokens = 0
        self.finish_reason: str | None = None
        self.started = time.monotonic()

    @property
    def usage(self) -> dict[str, int]:
        """OpenAI's counts."""
        prompt = len(self._handle.prompt_ids)
        return {"prompt_tokens": prompt, "completion_tokens": self.tokens, "total_tokens": prompt + self.tokens}

    def cancel(self) -> None:
        """Nobody reads it any more: its row is free before the next step."""
        self._handle.cancel()

    async def pieces(self) -> AsyncIterator[Piece]:
        """What is new, as soon as there is something. Raises the error that ended the reply.

        A client that reads slowly gets several tokens as one piece; the engine does not wait for it.
        """
        handle, ended = self._handle, None
        while not (ended or self._stops.found):
            await self._news.wait()
            self._news.clear()  # before looking: what comes from now on sets it again
            ended = handle.finish_reason
            found = []
            for token in handle.ids[self.tokens :]:
                self.tokens += 1
                found += self._visible(self._decoder.push(token))
                if self._stops.found:
                    break
            if ended:
                found += [*self._visible(self._decoder.finish()), Piece("text", self._stops.finish())]
            for piece in joined(piece for piece in found if piece.text):
                yield piece
        if self._stops.found:
            self.cancel()
            self.finish_reason = "stop"
            return
        ended = handle.generation().finish_reason  # raises, after an error
        if ended == "cancelled":
            raise Refused(503, "the server was stopped before the reply was finished; try again later")
        self.finish_reason = "stop" if ended == "stop" else "length"

    def _visible(self, found: list[Piece]) -> list[Piece]:
        """What stop strings let through; they are for text, not for tool calls."""
        shown = []
        for kind, text in found:
            if kind == "text":
                shown.append(Piece(kind, self._stops.push(text)))
            elif not self._stops.found:
                shown += [Piece("text", self._stops.finish()), Piece(kind, text)]
        return shown


class Chat:
    """A model that many talk to: makes replies of questions, and counts."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, settings: ChatSettings):
        self.tokenizer, self.settings, self.config = tokenizer, settings, model.config
        self.engine = BatchEngine(model, tokenizer, settings.tool, settings.max_rows, settings.max_waiting)
        self.started = time.time()
        self.counts = {"requests": 0, "replies": 0, "refused": 0, "gone": 0, "tokens": 0}
        self._seconds = 1.0  # what a reply takes, roughly: a moving average

    async def reply(self, question: Question) -> Reply:
        """Queue a reply. Raises Refused for a conversation that cannot be answered, or not now."""
        self.counts["requests"] += 1
        arguments = self.tokenizer, question.messages, self.config, question.max_tokens
        try:
            ids = await asyncio.to_thread(fit_prompt, *arguments)  # to render a long conversation takes a while
        except CourseError as error:
            raise Refused(400, str(error), "messages") from error
        top_k = min(question.top_k, self.config.vocab_size)
        request = Request(ids, question.max_tokens, question.temperature, top_k, question.top_p, seed=question.seed)
        try:
            return Reply(self.engine, self.tokenizer, request, question.stops)
        except QueueFull as error:
            self.counts["refused"] += 1
            turns = (self.engine.load[1] + 1) / self.settings.max_rows  # until a place in the queue is free
            seconds = max(1, min(60, math.ceil(turns * self._seconds)))
            raise Refused(429, str(error), code="queue_full", headers={"retry-after": str(seconds)}) from error
        except CourseError as error:  # the engine is closed
            raise Refused(503, str(error)) from error

    def ended(self, reply: Reply) -> None:
        """Count a reply, and free its row."""
        reply.cancel()
        self.counts["replies" if reply.finish_reason else "gone"] += 1
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
        yield json.dumps(Refused(503, str(error)).body)


class Completion:
    """One reply in OpenAI's form: as the events of a stream, or whole."""

    def __init__(self, model: str, reply: Reply):
        self._reply = reply
        self._about = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    async def events(self, include_usage: bool) -> AsyncIterator[str]:
        """A chunk for each piece; tool calls have names of their own. Then perhaps usage, and [DONE]."""
        try:
            yield self._chunk(self._choice(delta={"role": "assistant", "content": ""}))
            async for kind, text in self._reply.pieces():
                yield self._chunk(self._choice(delta={"content" if kind == "text" else kind: text}))
            yield self._chunk(self._choice(delta={}))
            if include_usage:
                yield self._chunk(usage=self._reply.usage)
            yield "[DONE]"
        except CourseError as error:
            yield json.dumps(Refused(503, str(error)).body)

    async def whole(self) -> dict:
        """All of it, at its end. content has the text alone; parts also the tool calls, if there were any."""
        try:
            pieces = [piece async for piece in self._reply.pieces()]
        except CourseError as error:
            raise Refused(503, str(error)) from error
        text = "".join(text for kind, text in pieces if kind == "text")
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if isinstance(parts := content_of(pieces), list):
            message["parts"] = parts
        choice = self._choice(message=message)
        return {**self._about, "object": "chat.completion", "choices": [choice], "usage": self._reply.usage}

    def _choice(self, **content: dict) -> dict:
        """The one choice. content: its message, or the delta, which is what is new of the message."""
        return {"index": 0, **content, "logprobs": None, "finish_reason": self._reply.finish_reason}

    def _chunk(self, *choices: dict, **rest: dict) -> str:
        return json.dumps({**self._about, "object": "chat.completion.chunk", "choices": list(choices), **rest})


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
