"""Who may ask the chat server: a layer before the app that looks at Host, Origin, API key and body of each request.

A local server is reached by every page that is open in a browser on the same machine; this layer keeps them out.

Written by hand; chapter 17 uses it.
"""

import asyncio
import hmac
import ipaddress
import math
import time
from collections import deque
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from course_lib.serve.api import ChatSettings, Refused

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


def host_is_allowed(host: str, names: tuple[str, ...] = ()) -> bool:
    """Whether the Host header names this server: localhost, an IP address or one of `names`.

    Stops DNS rebinding, where a foreign domain resolves to this machine.
    """
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.removeprefix("[").removesuffix("]").lower()
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return name == "localhost" or name in map(str.lower, names)


def origin_is_own(origin: str, host: str) -> bool:
    """Whether the page that sends a request, by its Origin header, is one of this server's own."""
    scheme, _, place = origin.partition("://")
    port = {"http": ":80", "https": ":443"}.get(scheme)  # an origin leaves it out, a Host header may name it
    return port is not None and place.lower().removesuffix(port) == host.lower().removesuffix(port)


class Brake:
    """Slows down who guesses a key: after TRIES wrong ones within SECONDS, an address waits until the first is so old.

    Meanwhile not even the right key is looked at, or a guesser would know by that.
    """

    TRIES, SECONDS, ADDRESSES = 10, 60.0, 10_000

    def __init__(self):
        self._wrong: dict[str, deque[float]] = {}  # address -> when it sent its last wrong keys

    def check(self, address: str) -> None:
        """Raises Refused as long as an address has to wait."""
        times = self._wrong.get(address, [])
        wait = self.SECONDS - (time.monotonic() - times[0]) if len(times) == self.TRIES else 0
        if wait > 0:
            seconds = math.ceil(wait)
            sentence = f"too many wrong API keys have come from your address; try again in {seconds} seconds"
            raise Refused(429, sentence, code="too_many_keys", headers={"retry-after": str(seconds)})

    def wrong(self, address: str) -> None:
        """Note a wrong key."""
        if len(self._wrong) >= self.ADDRESSES and address not in self._wrong:
            del self._wrong[next(iter(self._wrong))]
        self._wrong.setdefault(address, deque(maxlen=self.TRIES)).append(time.monotonic())


class Gate:
    """Stands before the app (ASGI): who may ask, how large a body may be, how long it may take.

    public: paths that need no API key; reading: holds the tasks that wait for a body, to be cancelled at the end.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ChatSettings,
        public: frozenset[str],
        reading: set[asyncio.Task | None] | None = None,
    ):
        self.reading = set() if reading is None else reading
        self.app, self.settings, self.public, self.brake = app, settings, public, Brake()
        self.origins = {origin.rstrip("/").lower() for origin in settings.allow_origin}
        self.proxies = [ipaddress.ip_network(proxy) for proxy in settings.trusted_proxy]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SAFE_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        try:
            self.admit(scope["path"], headers, (scope.get("client") or [""])[0])
            body = await self.read(headers, receive)
        except Refused as error:
            response = error.response()
            response.headers["connection"] = "close"  # the rest of the body stays unread
            await response(scope, receive, send_safely)
            return
        if body is not None:
            await self.app(scope, replay(body, receive), send_safely)

    def admit(self, path: str, headers: Headers, address: str) -> None:
        """Raises Refused for an unknown Host, a foreign Origin or a wrong API key. address: the client's IP address."""
        host, origin, key = headers.get("host", ""), headers.get("origin"), self.settings.api_key
        if self.proxies and any(ipaddress.ip_address(address) in proxy for proxy in self.proxies):
            host = last_of(headers.get("x-forwarded-host")) or host
            address = last_of(headers.get("x-forwarded-for")) or address
        if not host_is_allowed(host, self.settings.allow_host):
            sentence = f"this server is not called {host[:80]!r}"
            raise Refused(403, f"{sentence}; use its IP address, or start it with --allow-host NAME")
        if origin is not None and not origin_is_own(origin, host) and origin.lower() not in self.origins:
            sentence = f"a page from {origin[:80]!r} may not send requests to this server"
            raise Refused(403, f"{sentence}; if it is yours, start the server with --allow-origin ORIGIN")
        given = headers.get("authorization", "").encode("latin-1")
        if key is None or path in self.public:
            return
        if given:
            self.brake.check(address)
        if not hmac.compare_digest(given, f"Bearer {key}".encode()):
            if given:
                self.brake.wrong(address)
            sentence = "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'"
            raise Refused(401, sentence, code="invalid_api_key", headers={"www-authenticate": "Bearer"})

    async def read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body; None when the client goes away. Raises Refused when it is too large or too slow."""
        too_large = Refused(413, f"the body has more than {MAX_BODY:,} bytes; shorten the conversation")
        if int(headers.get("content-length", "0")) > MAX_BODY:
            raise too_large
        body = bytearray()
        self.reading.add(asyncio.current_task())
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > MAX_BODY:
                        raise too_large
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            seconds = self.settings.body_seconds
            raise Refused(408, f"the body did not come within {seconds:g} seconds; try again") from None
        except asyncio.CancelledError:  # the server ends
            raise Refused(503, "the server was stopped before the body had come; try again later") from None
        finally:
            self.reading.discard(asyncio.current_task())


def last_of(header: str | None) -> str:
    """The last of the values in a header: that which the nearest proxy has added."""
    return (header or "").rpartition(",")[2].strip()


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already, and then what else comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return first.pop() if first else await receive()

    return receive_again
