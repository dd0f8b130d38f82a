"""`dcae serve`: what would be waited for without end: trickling bodies, answers that nobody reads, processes that do
not start."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from service import served, waiting_for

pytest.importorskip("fastapi", reason="needs fastapi, which pip install '.[dev]' brings")
pytest.importorskip("prometheus_client", reason="needs prometheus_client, which pip install '.[dev]' brings")

from starlette.requests import Request

from dcae.serve.service import front
from dcae.serve.service import pool as pools
from dcae.serve.service.bodies import receive
from dcae.serve.service.errors import Refusal
from dcae.serve.service.jobs import Jobs
from dcae.serve.service.keys import Gate
from dcae.serve.service.metrics import Metrics
from dcae.serve.service.pool import Pool
from dcae.serve.service.settings import Settings

SCOPE: dict[str, Any] = {"type": "http", "method": "POST", "path": "/encode", "headers": [(b"content-length", b"900")]}


class Trickle:
    """A client whose next byte is always there at once."""

    def __init__(self) -> None:
        self.bytes = 0

    async def __call__(self) -> dict[str, Any]:
        self.bytes += 1
        return {"type": "http.request", "body": b"x", "more_body": True}


def test_a_body_that_trickles_ends_in_time(tmp_path: Path) -> None:
    client = Trickle()
    with pytest.raises(Refusal) as refusal:
        asyncio.run(receive(Request(SCOPE, client), tmp_path / "body", Settings(max_bytes=900, body_seconds=1e-6)))
    assert refusal.value.status == 408 and client.bytes < 900


def test_the_rest_of_a_refused_body_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_DRAIN_SECONDS", 0.0)
    client, sent = Trickle(), []

    async def send(message: Any) -> None:
        sent.append(message)

    async def refuse(*_: Any) -> None:
        raise AssertionError

    scope = SCOPE | {"headers": [*SCOPE["headers"], (b"host", b"elsewhere")]}
    asyncio.run(front.Front(refuse, Settings(max_bytes=900), Metrics(), Gate(None, None))(scope, client, send))
    assert sent[0]["status"] == 400 and client.bytes == 0


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks at connections as Linux shows them")
def test_an_answer_that_nobody_reads_is_given_up(tmp_path: Path) -> None:
    """It would keep one of the connections that there may be, and its file the space."""
    with served(tmp_path / "service", "--workers=1", "--body-seconds=1") as service, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((service.host, service.port))
        client.sendall(b"GET /static/map.webp HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)  # 21 MB
        waiting_for(lambda: not connected(service.port))
        assert service.get("/healthz").status == 200


def connected(port: int) -> bool:
    """Whether a connection to a port of this machine is established (Linux)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(line[1].endswith(f":{port:04X}") and line[3] == "01" for line in lines)


def test_processes_that_cannot_be_started_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    class Process:
        def __init__(self, settings: Settings) -> None:
            tries.append(settings)
            raise OSError("no handle is left")

    async def tried() -> None:
        pool, jobs = Pool(Settings(), Metrics()), Jobs(Settings())
        pool.start()
        job = jobs.new("encode", {})
        await pool.submit(job)
        await job.wait()  # nobody waits for what may never come
        assert job.failure is not None and job.failure.code == "worker" and pool.broken
        jobs.close()
        while len(tries) < 2:
            assert not pool._tasks[0].done()
            await asyncio.sleep(0.01)
        await pool.close()

    monkeypatch.setattr(pools, "WorkerProcess", Process)
    asyncio.run(asyncio.wait_for(tried(), 300))


HANGUP = getattr(signal, "SIGHUP", None)


@pytest.mark.skipif(HANGUP is None or signal.getsignal(HANGUP) == signal.SIG_IGN, reason="nohup, or no such signal")
def test_a_closed_terminal_ends_it(tmp_path: Path) -> None:
    """As Ctrl-C does, so that no pictures stay behind."""
    with served(tmp_path / "service", "--workers=1") as service:
        assert service.get("/healthz").status == 200 and list(service.temporary.glob("dcae-serve-*"))
        assert service.end(int(HANGUP or 0)) == 0
    assert not list((tmp_path / "service").glob("dcae-serve-*"))


def test_names_that_it_is_asked_for_under() -> None:
    """Those of strangers are refused at every loopback address, and a name has no capitals."""
    assert Settings(host="127.0.0.2").names == ("127.0.0.2", "127.0.0.1", "localhost", "[::1]")
    assert "[::1]" in Settings(host="::1").names
    assert "codec.example.org" in Settings(host="0.0.0.0", hosts=("Codec.Example.org",)).names
    assert not Settings(host="0.0.0.0").names
