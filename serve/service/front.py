"""What every request passes before its route: whose page it is from, headers of the answer, log and counters."""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dcae.serve.service.errors import Refusal
from dcae.serve.service.keys import Gate
from dcae.serve.service.metrics import Metrics
from dcae.serve.service.settings import Settings
from dcae.serve.service.shares import Shares

LOG = logging.getLogger("dcae.serve")
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""What the page may load: nothing of others, no script within HTML, and WebAssembly for the decoder."""
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",  # with the next one a page may use threads
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_DRAIN_SECONDS = 5.0
"""For which the rest of a refused body is received: a client that is still sending would not see the answer."""


class Front:
    """Middleware of all requests.

    The host is looked at since a page of a stranger's can have its name mean the loopback address and then ask us as
    if it were ours; the origin since it can send a simple request without asking whether it may. Requests of a client
    are counted as connections are (see `PatientProtocol`), since those of a proxy are not its own.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, gate: Gate) -> None:
        self.app, self.settings, self.metrics, self.gate = app, settings, metrics, gate
        self._shares = Shares(settings.connections)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(receive, send, self.settings, Headers(scope=scope))
        app, client = self.app, _client(scope)
        crowded = self._shares.take(client) > self._shares.most or _crowded(scope)
        try:
            self._check(Headers(scope=scope), scope["method"], crowded)
        except Refusal as refusal:
            close = {"Connection": "close"} if crowded else {}
            app = JSONResponse(refusal.body(), refusal.status, refusal.headers() | close)
        try:
            await app(scope, answer.receive, answer.send)
        finally:
            self._shares.leave(client)
            self._note(scope, answer)

    def _check(self, headers: Headers, method: str, crowded: bool) -> None:
        if crowded and not self.gate.has_key(headers.get("authorization", "")):
            most = f"the limit of {self._shares.most} connections at once"
            raise Refusal(429, "connections", f"your address has more than {most}; close some, or try again later", 5)
        host = headers.get("host", "")
        if self.settings.names and _name(host) not in self.settings.names:
            raise Refusal(400, "host", "this service is not asked for under this name")
        origin = headers.get("origin")
        if origin is None or method in ("GET", "HEAD", "OPTIONS"):
            return
        allowed = self.settings.cors
        own = (f"http://{host}".lower(), f"https://{host}".lower())
        if origin not in allowed and "*" not in allowed and origin.lower() not in own:
            raise Refusal(403, "origin", "pages of other origins may not ask")

    def _note(self, scope: Scope, answer: _Answer) -> None:
        """A line of the log and the counters; neither has what the client chose: names, ids, parameters, keys."""
        route, method = _route(scope), scope["method"] if scope["method"] in _METHODS else "other"
        self.metrics.requests.labels(method, route, str(answer.status)).inc()
        seconds = time.monotonic() - answer.began
        LOG.info("%s %s %s %d %d bytes %.3f s", _client(scope), method, route, answer.status, answer.size, seconds)


_METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")


def _route(scope: Scope) -> str:
    route = scope.get("route")
    path: str = getattr(route, "path", "")
    if path:
        return path
    return "/static" if scope["path"].startswith("/static/") else "other"


def _client(scope: Scope) -> str:
    """The address that asks; a proxy's clients have theirs."""
    return str((scope.get("client") or ("-",))[0])


def _crowded(scope: Scope) -> bool:
    """Whether the connection is beyond its address's share, and no proxy's."""
    crowded = scope.get("state", {}).get("crowded")
    return crowded is not None and crowded == scope.get("client")


def _name(host: str) -> str:
    """The name in a header `Host`, without its port."""
    name, _, port = host.lower().rpartition(":")
    return name if name and port.isdigit() else host.lower()


class _Answer:
    """An answer that is on its way."""

    def __init__(self, receive: Receive, send: Send, settings: Settings, headers: Headers) -> None:
        self._receive, self._send, self._settings = receive, send, settings
        self._left = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._waits = headers.get("expect", "").lower() == "100-continue"
        self.status, self.size, self.began = 499, 0, time.monotonic()

    async def receive(self) -> Message:
        """The next part of the request."""
        self._waits = False
        message = await self._receive()
        self._left = bool(message.get("more_body", False))
        return message

    async def send(self, message: Message) -> None:
        """A part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            if self._left and not self._waits and self.status != 408:
                await self._drain()
        elif message["type"] == "http.response.body":
            self.size += len(message.get("body", b""))
        await self._send(message)

    async def _drain(self) -> None:
        size, until = 0, time.monotonic() + _DRAIN_SECONDS
        while self._left and size <= self._settings.max_bytes and (patience := until - time.monotonic()) > 0:
            try:
                message = await asyncio.wait_for(self.receive(), patience)
            except asyncio.TimeoutError:
                return
            size += len(message.get("body", b""))
