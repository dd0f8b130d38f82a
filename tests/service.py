"""A service for tests: started as people start it, asked over the loopback address."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

TINY = Path(__file__).with_name("golden") / "tiny.safetensors"
"""A model that codes badly, and at once."""
ADVICE = re.compile(r"--[a-z]|pip install|max_pixels|DCAE_")
"""What only helps whoever runs the package: options of the command line, arguments of Python, packages, variables."""
PATIENCE = 300.0
"""Seconds after which a test fails that waits for an answer."""


class Answer(NamedTuple):
    """An answer, whole."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    data: bytes

    @property
    def json(self) -> Any:
        """Its body, if that is JSON."""
        return json.loads(self.data)


class Service:
    """A running `dcae serve`."""

    def __init__(self, process: subprocess.Popen[str], host: str, port: int, temporary: Path) -> None:
        self.process, self.host, self.port, self.temporary = process, host, port, temporary
        self.patience = PATIENCE
        self.log: list[str] = []
        """What it has written, by lines."""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """The answer to a request; names of headers have _ for -."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.patience)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            return whole(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """The answer to GET."""
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        """The answer to POST."""
        return self.ask("POST", path, body, **headers)

    def job(self, kind: str, body: bytes, **options: Any) -> str:
        """The address of a new job."""
        query = "".join(f"&{name}={value}" for name, value in options.items())
        answer = self.post(f"/jobs?kind={kind}{query}", body)
        assert answer.status == 202, answer
        address: str = answer.json["status_url"]
        return address

    def events(self, address: str) -> Iterator[dict[str, Any]]:
        """What a job tells of itself."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.patience)
        try:
            connection.request("GET", f"{address}/events")
            answer = connection.getresponse()
            assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/event-stream")
            for line in answer:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])
        finally:
            connection.close()

    def until(self, address: str, *states: str) -> dict[str, Any]:
        """A job's status once it is in one of some states."""
        for status in self.events(address):
            if status["state"] in states:
                return status
        raise AssertionError(f"{status} and no more")

    def workers(self) -> list[int]:
        """Numbers of its worker processes (Linux)."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                child = f"PPid:\t{self.process.pid}\n" in (folder / "status").read_text()
                if child and "spawn_main" in (folder / "cmdline").read_text():
                    found.append(int(folder.name))
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it; gives its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def whole(answer: http.client.HTTPResponse) -> Answer:
    """All of an answer."""
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(answer.status, headers, answer.read())


@contextmanager
def served(folder: Path, *arguments: str, model: str = "tiny") -> Iterator[Service]:
    """A service with the models of `tests/golden` beside the installed ones, and its temporary files in a folder.

    Args:
        arguments: of `dcae serve`.
    """
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"DCAE_MODEL_PATH": str(TINY.parent), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dcae", "serve", "--port", "0", "--model", model, *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        first = process.stderr.readline()
        found = re.search(r"http://([^/]+):(\d+)/", first)
        assert found, first + process.stderr.read()
        service = Service(process, found[1], int(found[2]), folder)
        threading.Thread(target=lambda: service.log.extend(process.stderr or ()), daemon=True).start()
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()


def picture(width: int = 96, height: int = 64, seed: int = 0, kind: str = "PNG") -> bytes:
    """A picture file with waves and some noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / (10.0 + seed % 7)
    waves = np.stack([np.sin(rows * (1 + 0.1 * seed)) * np.cos(columns - c) for c in range(3)], -1)
    pixels = np.clip(120 + 70 * waves + rng.normal(0, 4, waves.shape), 0, 255).astype(np.uint8)
    return saved(Image.fromarray(pixels), kind)


def flat(width: int, height: int, mode: str = "L") -> bytes:
    """A large picture in a small file."""
    return saved(Image.new("L", (width, height), 90).convert(mode), "PNG")


def saved(image: Image.Image, kind: str) -> bytes:
    """A picture file."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def pixels_of(data: bytes) -> np.ndarray[Any, Any]:
    """(H, W[, C]) of a picture file."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def refused(answer: Answer, status: int, code: str) -> str:
    """The sentence of a refusal, which is checked to be one."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json"), answer
    found = answer.json
    assert found.keys() == {"error", "code"} and found["code"] == code, found
    sentence: str = found["error"]
    assert sentence and "\n" not in sentence and "Traceback" not in sentence
    assert not ADVICE.search(sentence), sentence
    assert not any(part in sentence for part in ("/tmp", "site-packages", ".py", str(Path(__file__).parents[1])))
    return sentence


def waiting_for(condition: Any) -> None:
    """Wait until something holds."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
