"""Jobs: what was asked for, how far it is, and the files that came of it, in a temporary folder of bounded size."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from dcae.serve.service.settings import Settings
from dcae.serve.service.tasks import Failed, Result, Task


class Job:
    """A piece of work. All of it happens in the thread of the event loop.

    Args:
        folder: for its files; it is there.
    """

    def __init__(self, identity: str, kind: str, options: dict[str, Any], folder: Path) -> None:
        self.id, self.kind, self.options, self.folder = identity, kind, options, folder
        self.state, self.progress, self.stage, self.position = "queued", 0.0, "", 0
        self.result: Result | None = None
        self.failure: Failed | None = None
        self.attempts, self.size = 0, 0
        self.awaited = False
        """Whether a client waits for what comes of it, which stays until then."""
        self.created = time.monotonic()
        self.ended: float | None = None
        self._change = asyncio.Event()

    @property
    def source(self) -> Path:
        """File with the request's body."""
        return self.folder / "body"

    def task(self) -> Task:
        """What a worker is told of it."""
        return Task(self.kind, str(self.source), str(self.folder), self.options)

    def as_dict(self) -> dict[str, Any]:
        """Its status, as clients see it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "state": self.state,
            "progress": round(self.progress, 3),
            "stage": self.stage,
            "position": self.position,
            "error": self.failure.sentence if self.failure else None,
            "code": self.failure.code if self.failure else None,
        }

    def set(self, **changes: Any) -> None:
        """Change attributes, and tell whoever follows it."""
        if all(getattr(self, name) == value for name, value in changes.items()):
            return
        for name, value in changes.items():
            setattr(self, name, value)
        change, self._change = self._change, asyncio.Event()
        change.set()

    def end(self, state: str, **changes: Any) -> None:
        """Bring it to a state in which it stays; once it is there, nothing more happens to it."""
        if self.ended is None:
            self.source.unlink(missing_ok=True)
            if state != "done":
                shutil.rmtree(self.folder, ignore_errors=True)
            self.size = sum(path.stat().st_size for path in self.folder.iterdir()) if self.folder.is_dir() else 0
            self.ended = time.monotonic()
            self.set(state=state, position=0, **changes)

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """Its status, now and whenever it changes, until it stays as it is."""
        while True:
            change = self._change
            yield self.as_dict()
            if self.ended is not None:
                return
            await change.wait()

    async def wait(self) -> None:
        """Wait until it stays as it is."""
        async for _ in self.follow():
            pass


class Jobs:
    """The jobs that there are, each with a folder; old ones go when there are too many."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.root = Path(tempfile.mkdtemp(prefix="dcae-serve-"))
        self._jobs: dict[str, Job] = {}

    def new(self, kind: str, options: dict[str, Any]) -> Job:
        """A new job with an empty folder. Its id, 128 random bits, is all that one needs to know to see it."""
        identity = secrets.token_urlsafe(16)
        folder = self.root / identity
        folder.mkdir()
        self._jobs[identity] = job = Job(identity, kind, options, folder)
        return job

    def get(self, identity: str) -> Job | None:
        """The job with an id, if it is still there."""
        self.tidy()
        return self._jobs.get(identity)

    def keep(self, job: Job) -> None:
        """Let go of a job without its files, which stay to the end."""
        self._jobs.pop(job.id, None)

    def remove(self, job: Job) -> None:
        """Forget a job and its files."""
        self._jobs.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def tidy(self) -> None:
        """Forget ended jobs, the oldest first, that are too many, too large together, or too old."""
        limits, now = self._settings, time.monotonic()
        ended = [job for job in self._jobs.values() if job.ended is not None and not job.awaited]
        ended.sort(key=lambda job: job.ended or 0)
        count, size = len(ended), sum(job.size for job in ended)
        for job in ended:
            old = now - (job.ended or 0) > limits.keep_seconds
            if not (old or count > limits.keep_jobs or size > limits.keep_bytes):
                break
            count, size = count - 1, size - job.size
            self.remove(job)

    @property
    def kept(self) -> tuple[int, int]:
        """Number of jobs that have ended, and bytes of what came of them."""
        return sum(job.ended is not None for job in self._jobs.values()), sum(job.size for job in self._jobs.values())

    def close(self) -> None:
        """Remove all files."""
        shutil.rmtree(self.root, ignore_errors=True)
