"""`dcae serve`: keys, rates, limits of time and memory, origins, and its end."""

from __future__ import annotations

import re
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers import LITE
from service import Service, flat, picture, refused, served, waiting_for

from dcae.cli import main
from dcae.serve.service.tasks import Failed, Result, Stop, Task

pytest.importorskip("fastapi", reason="needs fastapi, which pip install '.[dev]' brings")

PAGE = "https://page.example"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A file of keys, and the keys by name."""
    path, found, lines = tmp_path_factory.mktemp("keys") / "keys.txt", {}, ["# keys", ""]
    for name, rate in (("one", ""), ("two", " 3/hour")):
        result = CliRunner().invoke(main, ["serve", "--new-key", name])
        assert result.exit_code == 0
        found[name], line = result.stdout.splitlines()
        assert found[name] not in line
        lines.append(line + rate)
    path.write_text("\n".join(lines))
    return path, found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, dict[str, str]]) -> Iterator[Service]:
    """A service with keys and little memory."""
    limits = "--workers=1", "--memory=320MiB", f"--cors={PAGE}", "--keep=1k"
    with served(tmp_path_factory.mktemp("service"), f"--keys={keys[0]}", *limits) as found:
        waiting_for(lambda: found.get("/healthz").json["workers"])
        yield found


def test_a_key_is_asked_for(service: Service, keys: tuple[Path, dict[str, str]]) -> None:
    key = keys[1]["one"]
    for given in ("", "Bearer", "Bearer x", f"Basic {key}", f"Bearer {key}x", key, "Bearer \u00e4"):
        answer = service.post("/encode?effort=0", picture(), Authorization=given)
        refused(answer, 401, "no-key")
        assert answer.headers["www-authenticate"] == "Bearer"
    refused(service.post("/jobs?kind=encode", picture()), 401, "no-key")
    refused(service.get("/metrics"), 401, "no-key")
    assert service.get("/info").json["keys_required"] and service.get("/healthz").status == 200
    assert service.get("/metrics", Authorization=f"Bearer {key}").status == 200
    answer = service.post("/jobs?kind=encode&effort=0", picture(), Authorization=f"bearer {key}")
    assert answer.status == 202
    assert service.until(answer.json["status_url"], "done", "failed")["state"] == "done"


def test_a_key_has_a_rate(service: Service, keys: tuple[Path, dict[str, str]]) -> None:
    def ask(name: str) -> int:
        return service.post("/upscale", picture(16, 16), Authorization=f"Bearer {keys[1][name]}").status

    assert [ask("two") for _ in range(4)] == [200, 200, 200, 429]
    answer = service.post("/upscale", picture(16, 16), Authorization=f"Bearer {keys[1]['two']}")
    refused(answer, 429, "rate")
    assert 0 < int(answer.headers["retry-after"]) <= 1200
    assert ask("one") == 200


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched on Linux")
def test_work_has_a_limit_of_memory(service: Service, keys: tuple[Path, dict[str, str]]) -> None:
    key = f"Bearer {keys[1]['one']}"
    refused(service.post("/upscale?scale=4", flat(1200, 1200, "RGB"), Authorization=key), 413, "memory")
    assert service.post("/upscale", picture(16, 16), Authorization=key).status == 200


def test_results_are_not_kept_for_ever(service: Service, keys: tuple[Path, dict[str, str]]) -> None:
    answer = service.post("/jobs?kind=upscale", picture(64, 64), Authorization=f"Bearer {keys[1]['one']}")
    waiting_for(lambda: service.get(answer.json["status_url"]).status == 404)  # it has more than 1000 bytes
    refused(service.get(answer.json["result_url"]), 404, "no-job")


def test_pages_that_were_named_may_ask(service: Service) -> None:
    preflight = service.ask(
        "OPTIONS", "/encode", Origin=PAGE, Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization",
    )  # fmt: skip
    assert preflight.status == 200 and preflight.headers["access-control-allow-origin"] == PAGE
    answer = service.post("/encode", picture(), Origin=PAGE)
    assert answer.status == 401 and answer.headers["access-control-allow-origin"] == PAGE
    assert "X-DCAE-Quality" in answer.headers["access-control-expose-headers"]
    other = service.post("/encode", picture(), Origin="https://other.example")
    assert other.status == 403 and "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("lines", ["", "# nothing", "one 1234", f"one {'0' * 64} often", f"{'0' * 64}"])
def test_files_of_keys_that_are_none(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(lines)
    result = CliRunner().invoke(main, ["serve", "--port", "0", "--keys", str(path)])
    assert result.exit_code == 1 and result.stderr.count("\n") <= 2 and "Traceback" not in result.output
    assert "dcae: " in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rate", "often"), ("--max-bytes", "-1"), ("--memory", "much"), ("--new-key", "a b"), ("--model", "nothing"),
        ("--model", "./x.safetensors"), ("--runtime", "/nowhere"), ("--keys", "/nowhere"),
    ],
)  # fmt: skip
def test_options_that_are_wrong(arguments: tuple[str, str]) -> None:
    result = CliRunner().invoke(main, ["serve", "--port", "0", *arguments])
    assert result.exit_code in (1, 2) and "Traceback" not in result.output
    assert re.fullmatch(r"dcae: .*\n", result.stderr.splitlines(keepends=True)[-1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_when_what_runs_is_done(tmp_path: Path, number: signal.Signals, interruptible: None) -> None:
    """What runs is finished, what waits is refused, nothing new is taken, and no file is left."""
    with served(tmp_path / "service", "--workers=1", "--grace=600") as service, ThreadPoolExecutor(3) as clients:
        running = service.job("encode", picture(512, 384), model=LITE, effort=1)
        service.until(running, "running")
        sent = clients.submit(service.post, "/encode?effort=0", picture())
        told = clients.submit(lambda: list(service.events(running)))
        waiting_for(lambda: service.get("/healthz").json["queued"])
        open_before = socket.create_connection((service.host, service.port))
        service.process.send_signal(number)
        refused(sent.result(), 503, "ending")
        assert told.result()[-1]["state"] == "done"
        open_before.close()
        assert service.process.wait(60) == 0
        with pytest.raises(OSError, match="refused"):
            service.get("/healthz")
    assert not list((tmp_path / "service").glob("dcae-serve-*"))


def test_work_has_a_limit_of_seconds(tmp_path: Path) -> None:
    with served(tmp_path / "service", "--workers=1", "--max-seconds=0.2") as service:
        for _ in range(2):  # the second time by another process
            refused(service.post(f"/encode?model={LITE}&effort=4", picture(512, 384)), 504, "seconds")
        assert 'dcae_worker_restarts_total{reason="seconds"} 2.0' in service.get("/metrics").data.decode()


def test_ends_in_time(tmp_path: Path) -> None:
    """What is not done after the seconds of grace is given up, in a sentence."""
    with served(tmp_path / "service", "--workers=1", "--grace=0.1") as service, ThreadPoolExecutor(1) as clients:
        sent = clients.submit(service.post, f"/encode?model={LITE}&effort=4", picture(512, 384))
        waiting_for(lambda: "dcae_running 1.0" in service.get("/metrics").data.decode())
        service.process.send_signal(signal.SIGTERM)
        refused(sent.result(), 503, "ending")
        assert service.process.wait(60) == 0
    assert not list((tmp_path / "service").glob("dcae-serve-*"))


class _Silent:
    """A worker's end of its pipe, over which it is told to stop once it has said something."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def send(self, message: object) -> None:
        self.said.append(message)

    def poll(self) -> bool:
        return len(self.said) == 2

    def recv(self) -> Stop:
        return Stop()


def test_a_worker_leaves_what_was_cancelled(tmp_path: Path) -> None:
    """At the next word about its progress, and does the next task as if nothing had been."""
    from dcae.serve.service.coding import Coder
    from dcae.serve.service.settings import Settings
    from dcae.serve.service.work import _tell, outcome

    pipe: Any = _Silent()
    coder = Coder(Settings(), lambda told: _tell(pipe, told))
    (tmp_path / "body").write_bytes(picture(512, 384))
    options = {"model": LITE, "quality": 1.0, "effort": 1}
    task = Task("encode", str(tmp_path / "body"), str(tmp_path), options)
    stopped = outcome(coder, task)
    assert isinstance(stopped, Failed) and stopped.code == "cancelled" and len(pipe.said) == 2
    assert not (tmp_path / "result").exists()
    pipe.said.append(None)
    assert isinstance(outcome(coder, task), Result)
    first = (tmp_path / "result").read_bytes()
    assert isinstance(outcome(Coder(Settings(), lambda told: None), task), Result)
    assert (tmp_path / "result").read_bytes() == first
