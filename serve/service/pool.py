"""Worker processes and the queue in front of them."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from contextlib import suppress
from typing import Any

from dcae.serve.service.errors import Refusal, ending
from dcae.serve.service.front import LOG
from dcae.serve.service.jobs import Job
from dcae.serve.service.metrics import Metrics
from dcae.serve.service.process import WorkerProcess
from dcae.serve.service.settings import Settings
from dcae.serve.service.tasks import Failed, Result, Told

_TICK = 0.1
"""Seconds between looks at a working process."""
_STOP_SECONDS = 1.0
"""After which a process is killed whose job was cancelled: a new one costs more than a moment of waiting."""
_ATTEMPTS = 2
"""How often a job is tried whose process died."""
_START_SECONDS = 120.0
"""After which a process that does not become ready is replaced."""


class Pool:
    """Processes that work on jobs, one each, and the queue in front of them. All of it runs in the event loop.

    A process that dies, takes too long or too much memory, or whose job is cancelled, is replaced by a new one.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.waiting: deque[Job] = deque()
        self.running: dict[Job, WorkerProcess] = {}
        self._taken: set[Job] = set()
        """Jobs that were taken on and have not ended."""
        self.ending = False
        self.broken = False
        """Whether there is no process and the latest could not be started."""
        self._wake = asyncio.Condition()
        self._idle: set[asyncio.Future[Job]] = set()
        """Of processes that wait for a job."""
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = 0
        self._seconds = 2.0
        """That a job takes, about: a moving average."""

    @property
    def ready(self) -> int:
        """Processes that have work or wait for it."""
        return self._ready

    def count(self, state: str) -> int:
        """Jobs in a state, "queued" or "running"; unlike those in `waiting` and `running` they have not ended, and none
        is on its way from one to the other."""
        return sum(job.state == state for job in self._taken)

    def start(self) -> None:
        """Start the processes; they become ready on their own."""
        self._tasks = [asyncio.create_task(self._worker()) for _ in range(self.settings.workers)]

    def check(self) -> None:
        """Refuse if there is no place for a job.

        Raises:
            Refusal: 429, the queue is full; 503, the service is being ended.
        """
        if self.ending:
            raise ending()
        if len(self.waiting) >= self.settings.queue:
            wait = min(max(math.ceil(self._seconds * len(self.waiting) / self.settings.workers / 2), 1), 60)
            raise Refusal(429, "queue", f"{len(self.waiting)} requests are waiting already; try again later", wait)

    async def submit(self, job: Job) -> None:
        """Put a job into the queue; refuses as :meth:`check` does."""
        async with self._wake:  # for which it may have to wait, so that the rest happens at once or not at all
            self.check()
            self.metrics.accepted.labels(job.kind).inc()
            self._taken.add(job)
            self.waiting.append(job)
            self._number()
            self._wake.notify()

    def cancel(self, job: Job) -> None:
        """End a job, whether it waits or is worked on."""
        if job in self.waiting:
            self.waiting.remove(job)
            self._number()
        self._end(job, "cancelled", failure=Failed(409, "cancelled", "the job was cancelled"))

    def end(self) -> None:
        """Take nothing more: what waits fails at once, what runs if it is not done after the seconds of grace."""
        if not self.ending:
            self.ending = True
            self._fail(list(self.waiting))
            self.waiting.clear()
            for task in self._idle:
                task.cancel()
            asyncio.get_running_loop().call_later(self.settings.grace, lambda: self._fail(list(self.running)))

    def _fail(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._end(job, "failed", failure=Failed(503, "ending", ending().sentence))

    def _end(self, job: Job, state: str, failure: Failed | None = None, **changes: Any) -> None:
        """Bring a job to a state in which it stays, and count it, unless it is in one."""
        if job.ended is None:
            self._taken.discard(job)
            self.metrics.jobs.labels(job.kind, state, failure.code if failure else "").inc()
            job.end(state, failure=failure, **changes)

    async def close(self) -> None:
        """Wait for the end of what runs, which is bounded, and for that of the processes."""
        self.end()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.settings.grace + 1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _number(self) -> None:
        for position, job in enumerate(self.waiting, 1):
            job.set(position=position)

    async def _next(self) -> Job:
        """The next job, once there is one."""
        async with self._wake:
            await self._wake.wait_for(lambda: self.waiting)
            job = self.waiting.popleft()
        self._number()
        return job

    async def _worker(self) -> None:
        process: WorkerProcess | None = None
        try:
            while not self.ending:
                if process is None:
                    try:
                        process = await self._started()
                    except OSError as error:  # no memory or no handle is left: perhaps in a moment
                        LOG.warning("no worker process can be started: %s", error)
                    if process is None:
                        self._not_started()
                        await asyncio.sleep(1.0)  # what fails at once would fail as fast as it can
                    continue
                job = await self._job_for(process)
                if job is not None:
                    process = await self._work(process, job)
                elif process.dead.is_set():
                    self._discard(process, "died")
                    process = None
        finally:
            if process is not None:
                process.kill()

    async def _job_for(self, process: WorkerProcess) -> Job | None:
        """The next job; None if the process dies before there is one, or all is to end."""
        job = asyncio.ensure_future(self._next())
        died = asyncio.ensure_future(process.dead.wait())
        self._idle.add(job)
        try:
            await asyncio.wait({job, died}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._idle.discard(job)
            died.cancel()
            if not job.done():
                job.cancel()
        with suppress(asyncio.CancelledError):
            return await job
        return None

    async def _started(self) -> WorkerProcess | None:
        """A process that is ready; None if it died before."""
        process = WorkerProcess(self.settings)
        try:
            process.start()
            until = time.monotonic() + _START_SECONDS
            while not process.ready.is_set() and not process.dead.is_set() and time.monotonic() < until:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(process.ready.wait(), 0.25)
        except BaseException:
            process.kill()
            raise
        if process.ready.is_set():
            self._ready += 1
            self.broken = False
            return process
        process.kill()
        self.metrics.restarts.labels("start").inc()
        return None

    def _not_started(self) -> None:
        """Let nobody wait for a process if there is none and the latest could not be started."""
        if not self._ready:
            self.broken = True
            failed = Failed(503, "worker", "no process that codes can be started; the service's log may say why")
            while self.waiting:
                self._end(self.waiting.popleft(), "failed", failure=failed)

    def _discard(self, process: WorkerProcess, reason: str) -> None:
        process.kill()
        self._ready -= 1
        self.metrics.restarts.labels(reason).inc()

    async def _work(self, process: WorkerProcess, job: Job) -> WorkerProcess | None:
        """Have a process work on a job; it comes back unless it has to be replaced."""
        if job.ended is not None:
            return process
        job.attempts += 1
        job.set(state="running", position=0, progress=0.0, stage="")
        self.running[job] = process
        began = time.monotonic()
        try:
            stopped = await self._watched(process, job, began)
        finally:
            del self.running[job]
        seconds = time.monotonic() - began
        self._seconds += 0.2 * (seconds - self._seconds)
        self.metrics.seconds.labels(job.kind).observe(seconds)
        if stopped is not None:
            self._discard(process, stopped)
            return None
        return process

    async def _watched(self, process: WorkerProcess, job: Job, began: float) -> str | None:
        """Follow a process to the end of a job; gives why it has to be replaced, if it has."""
        limits = self.settings
        process.send(job.task())
        while job.ended is None:
            try:
                message = await asyncio.wait_for(process.messages.get(), _TICK)
            except asyncio.TimeoutError:
                message = Told(job.progress, job.stage)
            if isinstance(message, Told):
                job.set(progress=max(job.progress, message.progress), stage=message.stage)
            elif isinstance(message, Result):
                self._end(job, "done", result=message, progress=1.0, stage="")
                return "large" if process.resident() > limits.memory / 2 else None  # the next one needs some, too
            elif isinstance(message, Failed):
                self._end(job, "failed", failure=message)
                return None
            elif message is None:
                self._died(job)
                return "died"
            if time.monotonic() - began > limits.max_seconds:
                self._end(job, "failed", failure=Failed(504, "seconds", _slow(limits.max_seconds)))
                return "seconds"
            if process.resident() > limits.memory:
                sentence = "the work needs more memory than this service gives"
                self._end(job, "failed", failure=Failed(413, "memory", sentence))
                return "memory"
        return await self._stopped(process)

    async def _stopped(self, process: WorkerProcess) -> str | None:
        """Have a process leave a job that was cancelled; gives why it has to be replaced, if it has."""
        process.stop()
        until = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < until and not self.ending:
            with suppress(asyncio.TimeoutError):
                message = await asyncio.wait_for(process.messages.get(), _TICK)
                if message is None:
                    return "died"
                if not isinstance(message, Told):
                    return None
        return "cancelled"

    def _died(self, job: Job) -> None:
        """A process died with a job: another one tries it, and it may have been the job's fault."""
        if job.attempts < _ATTEMPTS and not self.ending:
            job.set(state="queued", progress=0.0, stage="")
            self.waiting.appendleft(job)
            self._number()
            return
        sentence = "the process that worked on it ended unexpectedly, twice (out of memory?)"
        self._end(job, "failed", failure=Failed(503, "worker", sentence))


def _slow(seconds: float) -> str:
    return f"the work takes more than the limit of {seconds:g} s; a smaller picture or a lower effort takes less"
