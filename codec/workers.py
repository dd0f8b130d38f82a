"""Workers of a batch: this process, or several, each with a model of its own."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import get_context, parent_process
from typing import NamedTuple

from dcae.codec.batch import Job
from dcae.codec.filecoders import Done, FileCoder
from dcae.errors import DCAEError, lacks_memory

_ATTEMPTS = 2
"""How often a file is tried whose process was killed: another one may have taken the memory."""


class Outcome(NamedTuple):
    """What became of a job."""

    job: Job
    done: Done | None
    """None if it failed."""
    error: str = ""
    """Why it failed."""

    def as_dict(self) -> dict[str, str | int | None]:
        """The outcome as a line of a manifest."""
        said, size = (self.done.said, self.done.size) if self.done else ("", None)
        return self.job._asdict() | {"bytes": size, "said": said, "error": self.error}


def outcomes(
    coder: FileCoder,
    jobs: Sequence[Job],
    processes: int,
    around: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> Iterator[Outcome]:
    """The outcome of every job, as they come.

    Args:
        processes: at least 1, which is this process with its threads; more are started, each with one thread (unless
            OMP_NUM_THREADS says otherwise). They end when this process does, however it ends.
        around: called with a source's name, gives a context for the time in which this process works on it.

    Raises:
        DCAEError: model or engine cannot be used.
    """
    if not jobs:
        return
    if processes > 1:
        yield from _Pool(coder, jobs, processes).run()
        return
    coder.open()
    for job in jobs:
        with around(job.source):
            outcome = attempt(coder, job)
        yield outcome


def attempt(coder: Callable[[Job], Done], job: Job) -> Outcome:
    """The outcome of one job; whatever goes wrong with it is its own."""
    try:
        return Outcome(job, coder(job))
    except (DCAEError, OSError) as error:
        return Outcome(job, None, str(error))
    except Exception as error:
        if lacks_memory(error):
            return Outcome(job, None, "not enough memory; fewer --jobs need less")
        return Outcome(job, None, f"an error of dcae, please report it: {type(error).__name__}: {error}")


class _Pool:
    """Several processes, each an executor of its own: it is known which file was in the one that died."""

    def __init__(self, coder: FileCoder, jobs: Sequence[Job], processes: int) -> None:
        self.coder, self.count = coder, min(processes, len(jobs))
        self.waiting = deque((job, 1) for job in jobs)
        self.busy: dict[Future[Outcome | None], tuple[ProcessPoolExecutor, Job | None, int]] = {}
        """What is under way: its executor, the job (None: loading the model) and which attempt at it this is."""
        self.executors: set[ProcessPoolExecutor] = set()

    def run(self) -> Iterator[Outcome]:
        try:
            for _ in range(self.count):
                self._start()
            while self.busy:
                for future in wait(self.busy, return_when=FIRST_COMPLETED).done:
                    if outcome := self._ended(future):
                        yield outcome
        finally:
            for executor in self.executors:
                executor.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        executor = ProcessPoolExecutor(1, get_context("spawn"), initializer=_begin, initargs=(self.coder,))
        self.executors.add(executor)
        self.busy[executor.submit(_open)] = executor, None, 1

    def _ended(self, future: Future[Outcome | None]) -> Outcome | None:
        """The outcome of what has ended, if it is one; its executor has the next job then."""
        executor, job, attempt = self.busy.pop(future)
        outcome = None
        try:
            outcome = future.result()
        except BrokenProcessPool:
            self.executors.discard(executor)
            executor.shutdown(wait=False)
            if job is None:
                raise DCAEError(
                    "a process was killed while it loaded the model (out of memory?)", "try fewer --jobs"
                ) from None
            if attempt < _ATTEMPTS:
                self.waiting.appendleft((job, attempt + 1))
            else:
                error = f"its process was killed, {_ATTEMPTS} times (out of memory?); try fewer --jobs"
                outcome = Outcome(job, None, error)
            if self.waiting:
                self._start()
            return outcome
        if self.waiting:
            job, attempt = self.waiting.popleft()
            try:
                self.busy[executor.submit(_code, job)] = executor, job, attempt
            except BrokenProcessPool:  # killed between two files
                self.waiting.appendleft((job, attempt))
                self.executors.discard(executor)
                executor.shutdown(wait=False)
                self._start()
        return outcome


_coder: FileCoder
"""Of a started process."""


def _begin(coder: FileCoder) -> None:
    global _coder
    _coder = coder
    begin_worker(signal.SIG_DFL)


def begin_worker(on_interrupt: signal.Handlers, threads: int = 1) -> None:
    """Make this process, which was started, a worker: it has so many threads and ends when its parent does.

    Args:
        on_interrupt: what Ctrl-C does, which goes to all processes of a terminal: only the first has something to say.
        threads: unless OMP_NUM_THREADS says otherwise; to be called before a library is imported that reads it.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    signal.signal(signal.SIGINT, on_interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without it, processes of a killed parent would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _open() -> None:
    _coder.open()


def _code(job: Job) -> Outcome:
    return attempt(_coder, job)
