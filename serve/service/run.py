"""The server: from the socket to the last answer."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

import click
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from dcae.errors import DCAEError
from dcae.serve.service.app import make_app
from dcae.serve.service.front import LOG, Front
from dcae.serve.service.service import Service
from dcae.serve.service.settings import Settings
from dcae.serve.service.shares import Shares

_CONNECTIONS = 400
_LAST_SECONDS = 3
"""After the seconds of grace, for the last answers."""


class PatientProtocol(H11Protocol):
    """HTTP/1.1 of uvicorn, which by itself waits for ever for the head of a request, and for a client that reads, and
    lets an address have all connections that there may be.

    Requests on a connection beyond its address's share are refused by `Front`, which knows keys and proxies; a
    connection beyond twice that is closed at once, unless there are proxies, whose connections are of many clients.
    """

    shares = Shares(1)
    """Connections of each address."""
    sheds = True
    """Whether connections are closed at once that are beyond twice a share."""
    patience = 15.0
    """Seconds in which a head has to be there, after the connection or the answer before."""
    reading_seconds = 120.0
    """Seconds in which the next part of an answer has to be taken."""
    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect(None)
        held = self.shares.take(self._address)
        if held > self.shares.most:
            self.app_state = self.app_state | {"crowded": self.client}
        if self.sheds and held > 2 * self.shares.most:
            self.transport.abort()

    def on_response_complete(self) -> None:
        before = self.cycle
        super().on_response_complete()
        self._expect(before)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.shares.leave(self._address)
        for timer in (self._timer, self._unread):
            if timer is not None:
                timer.cancel()

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _expect(self, before: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self.patience, self._check, before)

    def _check(self, before: Any) -> None:
        if self.cycle is before:  # nor is the end of an answer waited for that nobody reads
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.reading_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()


def patient(settings: Settings) -> type[PatientProtocol]:
    """The protocol with the patience and the shares of a service."""
    its = {
        "patience": settings.idle_seconds,
        "reading_seconds": settings.body_seconds,
        "shares": Shares(settings.connections),
        "sheds": not settings.proxies,
    }
    return type("Protocol", (PatientProtocol,), its)


class Server(uvicorn.Server):
    """uvicorn's, whose service takes nothing more from the first signal on."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # not running any more
            asyncio.get_running_loop().call_soon_threadsafe(self._service.pool.end)
        super().handle_exit(sig, frame)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        DCAEError: it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        raise DCAEError(
            f"{host}:{port}: cannot be listened at ({getattr(error, 'strerror', None) or error})"
        ) from error


def run(settings: Settings, open_browser: bool = False) -> None:
    """Serve until a signal ends it.

    Raises:
        DCAEError: it cannot be started.
    """
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    LOG.setLevel(logging.INFO)
    with listening(settings.host, settings.port) as sock:
        app = make_app(settings)
        service: Service = app.state.service
        config = uvicorn.Config(
            Front(app, settings, service.metrics, service.gate), http=patient(settings), ws="none", loop="asyncio",
            log_config=None, log_level="warning", access_log=False, server_header=False,
            proxy_headers=bool(settings.proxies), forwarded_allow_ips=settings.proxies or None,
            limit_concurrency=_CONNECTIONS, timeout_graceful_shutdown=math.ceil(settings.grace) + _LAST_SECONDS,
        )  # fmt: skip
        host, port = sock.getsockname()[:2]
        url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        click.echo(f"dcae: {url} (Ctrl-C ends it)", err=True)
        if open_browser:
            import webbrowser

            threading.Timer(0.5, webbrowser.open, (url,)).start()
        server = Server(config, service)
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again at its end
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # the terminal is closed
            signal.signal(signal.SIGHUP, server.handle_exit)
        try:
            server.run([sock])
        except KeyboardInterrupt:  # which uvicorn raises once all is done
            pass
        finally:
            service.jobs.close()
            signal.signal(signal.SIGTERM, before)
