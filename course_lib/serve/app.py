"""A chat server: a page, nanochat's and OpenAI's form of completions, one model for all.

`create_app` makes it, `serve` runs it in a thread, `run_forever` until Ctrl-C.

Exported from notebooks/16_chat.ipynb; edit it there.
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

# ---- 5. One thread owns the model


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


class Reply:
    """One reply while it is written, for the event loop in which it was made.

    Iterate over `pieces()`. finish_reason: "stop" or "length", at the end. usage: tokens so far.
    """

    def __init__(self, engine: BatchEngine, tokenizer: Tokenizer, request: Request, stops: list[str]):
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

    def _visible(self, found: list[Piece]) -> list[Piece]:
        """What stop strings let through; they are for text, not for tool calls."""
        shown = []
        for kind, text in found:
            if kind == "text":
                shown.append(Piece(kind, self._stops.push(text)))
            elif not self._stops.found:
                shown += [Piece("text", self._stops.finish()), Piece(kind, text)]
        return [piece for piece in shown if piece.text]

    def _last(self) -> list[Piece]:
        """What was held back."""
        found = [] if self._stops.found else self._visible(self._decoder.finish())
        return [*found, *(Piece("text", text) for text in [self._stops.finish()] if text)]


# ---- 6. What may be asked


class Chat:
    """A model that many talk to: makes replies of requests, and counts."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, settings: ChatSettings):
        self.tokenizer, self.settings, self.config = tokenizer, settings, model.config
        self.engine = BatchEngine(model, tokenizer, settings.tool, settings.max_rows, settings.max_waiting)
        self.started = time.time()
        self.counts = {"requests": 0, "replies": 0, "refused": 0, "gone": 0, "tokens": 0}
        self._seconds = 1.0  # what a reply takes, roughly

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

    def ended(self, reply: Reply) -> None:
        """Count a reply, and let its row go."""
        reply.cancel()
        self.counts["replies" if reply.finish_reason else "gone"] += 1
        self.counts["tokens"] += reply.tokens
        self._seconds += 0.1 * (time.monotonic() - reply.started - self._seconds)

    @property
    def retry_after(self) -> int:
        """Seconds until a place in the queue is likely to be free."""
        _, waiting = self.engine.load
        turns = (waiting + 1) / self.settings.max_rows
        return max(1, min(60, math.ceil(turns * self._seconds)))

    def stats(self) -> dict:
        """What is going on."""
        running, waiting = self.engine.load
        now = {"running": running, "waiting": waiting, "max_rows": self.settings.max_rows}
        return {**now, **self.counts, "uptime_seconds": round(time.time() - self.started, 1)}

    def close(self) -> None:
        """End the engine; replies that are being written end."""
        self.engine.close()


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


async def openai_events(reply: Reply, answer: Completion, include_usage: bool) -> AsyncIterator[str]:
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


# ---- 7. Who may ask


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


# ---- 8. The server


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
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD)  # its connections inherit it
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
