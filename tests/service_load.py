"""Load for a service: clients that send pictures, some of them hostile, while a worker is killed; every answer is
checked."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from service import Answer, Service, pixels_of

import dcae

SIDES = {0.1: (384, 256), 0.4: (768, 512), 1.5: (1536, 1024), 6.0: (3000, 2000), 12.0: (4000, 3000)}
"""Megapixels -> width and height."""
HOSTILE = ("bomb", "truncated", "damaged", "slow", "gone")
LEAST_PSNR = 18.0
"""dB that a picture of `example` keeps, even by the tests' model at its lowest quality; another picture has fewer."""


@dataclass(frozen=True)
class Example:
    """A picture, as it is sent, and its `.dcae` file."""

    megapixels: float
    body: bytes
    file: bytes
    pixels: NDArray[np.uint8]
    """(H, W, 3) as a decoder of the body has them."""
    decoded: NDArray[np.uint8]
    """(H, W, 3) of `file`."""


def example(megapixels: float, seed: int, model: str | Path, kind: str) -> Example:
    """A picture that no other seed's is like: large soft shapes, with grain."""
    (width, height), rng = SIDES[megapixels], np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(40, 216, (6, 9, 3), np.uint8))
    grain = np.tile(rng.integers(-12, 13, (64, 64, 1), np.int8), (-(-height // 64), -(-width // 64), 1))
    large = np.asarray(shapes.resize((width, height), Image.Resampling.BILINEAR)).astype(np.int16)
    buffer = BytesIO()
    Image.fromarray((large + grain[:height, :width]).clip(0, 255).astype(np.uint8)).save(buffer, kind)
    body = buffer.getvalue()
    file = dcae.encode(body, 1, model=model, effort=0)
    return Example(megapixels, body, file, pixels_of(body), np.asarray(dcae.decode(file, model=model)))


def bomb(side: int = 60_000) -> bytes:
    """A PNG that says of itself that it has `side` pixels squared, 3.6 thousand million, in a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    begun = zlib.compress(bytes(1 << 20))
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", begun) + chunk(b"IEND", b"")


@dataclass
class Report:
    """What became of a load."""

    answers: Counter[str] = field(default_factory=Counter)
    """Kind of request and status -> how many."""
    wrong: list[str] = field(default_factory=list)
    """Answers that are not what they have to be."""
    again: int = 0
    """Answers of 429, after which a client came again."""
    seconds: dict[float, list[float]] = field(default_factory=dict)
    """Megapixels -> from the first byte to the last, of answers to good requests."""
    wall: float = 0.0
    server: int = 0
    """Largest memory of the server's process in bytes."""
    worker: int = 0
    """Largest of one worker."""
    together: int = 0
    """Largest of all at once."""
    killed: int = 0


class Load:
    """Clients of a service.

    Args:
        requests: how many in all; each tenth is hostile.
        clients: that send at once, one after the other each.
        kill: whether a worker is killed when half of the answers are there (Linux).
    """

    def __init__(
        self, service: Service, examples: list[Example], requests: int, clients: int, kill: bool, seed: int = 1
    ) -> None:
        self.service, self.examples, self.clients, self.kill = service, examples, clients, kill
        self.report = Report()
        self._lock = threading.Lock()
        self._answered = 0
        choose = random.Random(seed)
        # The large ones a few times, the small ones often: about as many pixels of each.
        weights = [1 / found.megapixels**0.8 for found in examples]
        self.plan = [
            (HOSTILE[k // 10 % len(HOSTILE)] if k % 10 == 5 else choose.choice(("encode", "decode", "job")), found)
            for k, found in enumerate(choose.choices(examples, weights, k=requests))
        ]
        for k, found in enumerate(sorted(examples, key=lambda e: -e.megapixels)):  # each at least once
            self.plan[10 * k] = ("encode", found)

    def run(self) -> Report:
        """Send all; gives what became of it."""
        watching = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(watching,))
        watcher.start()
        began = time.monotonic()
        try:
            with ThreadPoolExecutor(self.clients) as pool:
                list(pool.map(self._one, self.plan))
        finally:
            self.report.wall = time.monotonic() - began
            watching.set()
            watcher.join()
        return self.report

    def _one(self, request: tuple[str, Example]) -> None:
        kind, found = request
        began = time.monotonic()
        try:
            outcome, fault = getattr(self, f"_{kind}")(found)
        except Exception as error:
            outcome, fault = "none", f"{type(error).__name__}: {error}"
        with self._lock:
            report = self.report
            report.answers[f"{kind} {outcome}"] += 1
            if fault:
                report.wrong.append(f"{kind} of {found.megapixels} MP: {outcome}, {fault}")
            elif kind not in HOSTILE:
                report.seconds.setdefault(found.megapixels, []).append(time.monotonic() - began)
            self._answered += 1
            if self.kill and self._answered == len(self.plan) // 2:
                self._kill()

    def _kill(self) -> None:
        worker = next(iter(self.service.workers()), None)
        if worker is not None:
            os.kill(worker, signal.SIGKILL)
            self.report.killed += 1

    def _post(self, path: str, body: bytes) -> Answer:
        """The answer, after as many tries as a full queue takes."""
        while True:
            answer = self.service.post(path, body)
            if answer.status != 429:
                return answer
            with self._lock:
                self.report.again += 1
            time.sleep(min(float(answer.headers["retry-after"]), 1.0) * random.uniform(0.5, 1.0))

    def _encode(self, found: Example) -> tuple[str, str]:
        answer = self._post("/encode?quality=1&effort=0", found.body)
        return str(answer.status), self._encoded(answer, found)

    def _job(self, found: Example) -> tuple[str, str]:
        taken = self._post("/jobs?kind=encode&quality=1&effort=0", found.body)
        if taken.status != 202:
            return str(taken.status), "not taken on"
        state = self.service.until(taken.json["status_url"], "done", "failed", "cancelled")["state"]
        answer = self.service.get(taken.json["result_url"])
        return state, self._encoded(answer, found)

    def _decode(self, found: Example) -> tuple[str, str]:
        answer = self._post("/decode", found.file)
        if answer.status != 200:
            return str(answer.status), answer.data[:200].decode(errors="replace")
        pixels = pixels_of(answer.data).astype(np.int16)
        same = pixels.shape == found.decoded.shape and np.abs(pixels - found.decoded).max() <= 1
        return "200", "" if same else "another picture"

    @staticmethod
    def _encoded(answer: Answer, found: Example) -> str:
        """What is wrong with a file; the small ones are decoded."""
        if answer.status != 200:
            return answer.data[:200].decode(errors="replace")
        info = dcae.info(answer.data)
        if (info.height, info.width) != found.pixels.shape[:2] or info.quality != 1:
            return "another file"
        if answer.data == found.file or found.megapixels > 0.5:
            return "" if abs(len(answer.data) - len(found.file)) <= 0.01 * len(found.file) + 8 else "another size"
        error = np.square(found.pixels.astype(float) - np.asarray(dcae.decode(answer.data))).mean()
        return "" if 10 * np.log10(255**2 / max(error, 1e-9)) > LEAST_PSNR else "another picture"

    def _bomb(self, found: Example) -> tuple[str, str]:
        return self._refused(self._post("/encode", bomb()), 413)

    def _truncated(self, found: Example) -> tuple[str, str]:
        return self._refused(self._post("/encode", found.body[: len(found.body) * 2 // 3]), 422)

    def _damaged(self, found: Example) -> tuple[str, str]:
        at = len(found.file) // 2
        return self._refused(self._post("/decode", found.file[:at] + b"?" * 9 + found.file[at + 9 :]), 422)

    def _slow(self, found: Example) -> tuple[str, str]:
        """A sender of a byte now and then."""
        with self._connected(found) as client:
            client.settimeout(0.3)
            until = time.monotonic() + 120
            while time.monotonic() < until:
                with suppress(TimeoutError):
                    start = client.recv(100)
                    return start[9:12].decode(), "" if start.startswith((b"HTTP/1.1 408", b"HTTP/1.1 429")) else "kept"
                with suppress(OSError):
                    client.send(b"x")
        return "none", "no answer"

    def _gone(self, found: Example) -> tuple[str, str]:
        """A sender that hangs up in the middle."""
        with self._connected(found) as client:
            client.sendall(found.body[: len(found.body) // 2])
        return "hung up", ""

    def _connected(self, found: Example) -> socket.socket:
        client = socket.create_connection((self.service.host, self.service.port))
        head = f"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(found.body)}\r\n\r\n"
        client.sendall(head.encode())
        return client

    @staticmethod
    def _refused(answer: Answer, status: int) -> tuple[str, str]:
        code: Any = answer.json.get("code") if answer.status >= 400 else None
        return str(answer.status), "" if answer.status == status and code else answer.data[:200].decode()

    def _watch(self, end: threading.Event) -> None:
        """Look at the memory of all processes, until the end."""
        report = self.report
        while not end.wait(0.1):
            server = resident(self.service.process.pid)
            workers = [resident(pid) for pid in self.service.workers()]
            report.server = max(report.server, server)
            report.worker = max([report.worker, *workers])
            report.together = max(report.together, server + sum(workers))


def resident(pid: int) -> int:
    """Bytes of memory that a process has; 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
