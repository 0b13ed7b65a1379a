"""Who may ask the chat server: a layer before the app that looks at Host, Origin, API key and body of each request.

A local server is reached by every page that is open in a browser on the same machine; this layer keeps them out.

Written by hand; chapter 16 uses it.
"""

import asyncio
import hmac
import ipaddress
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
    return scheme in ("http", "https") and place.lower() == host.lower()


class Gate:
    """Stands before the app (ASGI): who may ask, how large a body may be, how long it may take.

    public: paths that need no API key.
    """

    def __init__(self, app: ASGIApp, settings: ChatSettings, public: frozenset[str]):
        self.app, self.settings, self.public = app, settings, public

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
            self.admit(scope["path"], headers)
            body = await self.read(headers, receive)
        except Refused as error:
            response = error.response()
            response.headers["connection"] = "close"  # the rest of the body stays unread
            await response(scope, receive, send_safely)
            return
        if body is not None:
            await self.app(scope, replay(body, receive), send_safely)

    def admit(self, path: str, headers: Headers) -> None:
        """Raises Refused for an unknown Host, a foreign Origin or a wrong API key."""
        host, origin, key = headers.get("host", ""), headers.get("origin"), self.settings.api_key
        if not host_is_allowed(host, self.settings.allow_host):
            sentence = f"this server is not called {host[:80]!r}; use its IP address, or start it with --allow-host"
            raise Refused(403, sentence)
        if origin is not None and not origin_is_own(origin, host):
            raise Refused(403, f"a page from {origin[:80]!r} may not send requests to this server")
        if key is not None and path not in self.public:
            given = headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, f"Bearer {key}".encode()):
                sentence = "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'"
                raise Refused(401, sentence, code="invalid_api_key", headers={"www-authenticate": "Bearer"})

    async def read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body; None when the client goes away. Raises Refused when it is too large or too slow."""
        too_large = Refused(413, f"the body has more than {MAX_BODY:,} bytes; shorten the conversation")
        if int(headers.get("content-length", "0")) > MAX_BODY:
            raise too_large
        body = bytearray()
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


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already, and then what else comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return first.pop() if first else await receive()

    return receive_again
