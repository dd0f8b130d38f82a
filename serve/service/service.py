"""The service behind the routes: takes requests on as jobs and follows these to their ends."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request

from dcae.serve.service.bodies import Gone, hung_up, receive
from dcae.serve.service.errors import Refusal
from dcae.serve.service.jobs import Job, Jobs
from dcae.serve.service.keys import Gate, read_keys
from dcae.serve.service.metrics import Metrics
from dcae.serve.service.pool import Pool
from dcae.serve.service.settings import Settings
from dcae.serve.service.tasks import Failed, Result

_TIDY_SECONDS = 5.0


class Service:
    """All that requests share.

    Raises:
        OptionError: a file of keys that cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.gate = Gate(None if settings.keys is None else read_keys(settings.keys), settings.rate)
        self.metrics = Metrics()
        self.jobs = Jobs(settings)
        self.pool = Pool(settings, self.metrics)
        self.uploads = 0
        self._made: dict[tuple[str, str], asyncio.Task[Job]] = {}
        metrics = self.metrics
        metrics.workers.set_function(lambda: self.pool.ready)
        metrics.queued.set_function(lambda: self.pool.count("queued"))
        metrics.running.set_function(lambda: self.pool.count("running"))
        metrics.uploads.set_function(lambda: self.uploads)
        metrics.kept.set_function(lambda: self.jobs.kept[0])
        metrics.kept_bytes.set_function(lambda: self.jobs.kept[1])

    async def take(self, request: Request, kind: str, options: dict[str, Any]) -> Job:
        """Take a request on as a job: its body is received, and it waits for a worker.

        Raises:
            Refusal: it is not taken on.
            Gone: the client has hung up.
        """
        key = self.gate.key_of(request.headers.get("authorization", ""))
        self.gate.count(request.client.host if request.client else "", key)
        self.pool.check()
        if self.uploads >= self.settings.uploads:
            raise Refusal(429, "uploads", f"{self.uploads} bodies are being received already; try again later", 5)
        self.jobs.tidy()
        job = self.jobs.new(kind, options)
        self.uploads += 1
        try:
            self.metrics.received.inc(await receive(request, job.source, self.settings))
            await self.pool.submit(job)
        except BaseException:
            self.jobs.remove(job)
            raise
        finally:
            self.uploads -= 1
        return job

    async def finished(self, request: Request, job: Job) -> Result:
        """What came of a job, for a client that waits for it; the job is cancelled when that hangs up.

        Raises:
            Refusal: it failed, or was cancelled.
            Gone: the client has hung up.
        """
        job.awaited = True
        waiting = asyncio.ensure_future(job.wait()), asyncio.ensure_future(hung_up(request))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not waiting[0].done():
                raise Gone
            return result_of(job)
        except BaseException:
            self.forget(job)
            raise
        finally:
            for task in waiting:
                task.cancel()
            try:
                await asyncio.gather(*waiting, return_exceptions=True)
            finally:
                job.awaited = False

    def forget(self, job: Job) -> None:
        """End a job, if it has not ended, and remove its files."""
        self.pool.cancel(job)
        self.jobs.remove(job)

    async def made(self, kind: str, name: str, options: dict[str, Any]) -> Job:
        """The job of something that a worker makes for the service itself, once.

        Raises:
            Refusal: it cannot be made, or not now.
        """
        if (kind, name) not in self._made:
            self._made[kind, name] = asyncio.create_task(self._make(kind, options))
        task = self._made[kind, name]
        try:
            job = await asyncio.shield(task)
            result_of(job)
        except Exception:  # not that this client has hung up: others may wait for it
            self._made.pop((kind, name), None)
            raise
        return job

    async def _make(self, kind: str, options: dict[str, Any]) -> Job:
        job = self.jobs.new(kind, options)
        job.awaited = True  # which tidying up leaves alone
        try:
            await self.pool.submit(job)
        except Refusal:
            self.jobs.remove(job)
            raise
        await job.wait()
        self.jobs.keep(job)
        return job

    async def tidy(self) -> None:
        """Remove old jobs, for ever."""
        while True:
            await asyncio.sleep(_TIDY_SECONDS)
            self.jobs.tidy()


def result_of(job: Job) -> Result:
    """What came of a job that has ended.

    Raises:
        Refusal: it failed, or was cancelled.
    """
    if job.result is not None:
        return job.result
    failure = job.failure or Failed(500, "internal", "nothing came of it")
    raise Refusal(failure.status, failure.code, failure.sentence, 5 if failure.status == 503 else None)
