"""The HTTP server under the app: a socket that listens, uvicorn with bounds for slow clients, an orderly end.

`serve` runs it in a thread, `run_forever` until Ctrl-C.

Written by hand; chapter 17 uses it.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from course_lib.host.errors import CourseError
from course_lib.host.stop import stop_when_asked

MAX_CONNECTIONS = 400  # above, those that wait for a request are closed, the oldest first
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
        reason = error.strerror or error
        raise CourseError(
            f"cannot listen on {host} port {port} ({reason}); choose another --port, or 0 for a free one"
        ) from error


def address_of(listener: socket.socket) -> str:
    """The address of a listening socket, for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class BoundedProtocol(H11Protocol):
    """HTTP, with bounds on how long a client may take to send the head of a request, and to read.

    uvicorn bounds the time between two requests only. A client that sends its head byte by byte (slow loris), or that
    does not read what it has asked for, would keep a connection for ever.
    """

    HEAD_SECONDS, READ_SECONDS = 10.0, 30.0
    _heard = 0.0
    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self._heard = self.loop.time()
        self._watch_head()
        others = [each for each in self.connections if isinstance(each, BoundedProtocol) and each is not self]
        stay = [each for each in others if not each.transport.is_closing()]
        idle = [each for each in stay if each.conn.their_state is h11.IDLE]
        if idle and len(stay) >= MAX_CONNECTIONS:
            min(idle, key=lambda each: each._heard).transport.abort()

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        super().data_received(data)
        self._watch_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_timer = self.loop.call_later(self.READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_timer = _stopped(self._read_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer = _stopped(self._head_timer)
        self._read_timer = _stopped(self._read_timer)
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        """The timer runs while the head of a request is expected."""
        if self.conn.their_state is not h11.IDLE:
            self._head_timer = _stopped(self._head_timer)
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.HEAD_SECONDS, self._too_slow)

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()


def _stopped(timer: asyncio.TimerHandle | None) -> None:
    """Cancel a timer, if it runs; None, to put in its place."""
    if timer:
        timer.cancel()


class ChatServer(uvicorn.Server):
    """uvicorn, whose end does not wait for replies: the engine ends first, and so do they."""

    def __init__(self, app: FastAPI):
        self._models, self._reading = app.state.models, app.state.reading
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # `gate` reads them, where they may be believed
            limit_concurrency=MAX_CONNECTIONS + 100,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=64 * 1024,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.to_thread(self._models.close)
        for task in self._reading:
            task.cancel()
        await super().shutdown(sockets)


@contextmanager
def serve(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> Generator[str, None, None]:
    """Serve an app in a thread while the block runs; gives its address, http://host:port."""
    listener = listen(host, port)
    server = ChatServer(app)
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
    with stop_when_asked(hangup=False):  # uvicorn has its own handlers meanwhile, and passes the signal on
        ChatServer(app).run([listener])
