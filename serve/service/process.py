"""A worker process, as the service sees it."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dcae.serve.service.settings import Settings
from dcae.serve.service.tasks import Failed, Ready, Result, Stop, Task, Told

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class WorkerProcess:
    """A process that does one task after the other, and says how far it is.

    To be made in the event loop, which is told by a thread that reads what the process says.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._loop = settings, asyncio.get_running_loop()
        context = get_context("spawn")
        self._mine, theirs = context.Pipe()
        self._theirs: Connection[Any, Any] | None = theirs
        from dcae.serve.service.work import work

        self._process = context.Process(target=work, args=(theirs, settings), daemon=True, name="dcae-worker")
        self.ready, self.dead = asyncio.Event(), asyncio.Event()
        self.messages: asyncio.Queue[Told | Result | Failed | None] = asyncio.Queue()
        """What it says; None once it has died."""

    @property
    def pid(self) -> int:
        """Its number; 0 before it was started."""
        return self._process.pid or 0

    def start(self) -> None:
        """Start it."""
        self._process.start()
        assert self._theirs is not None
        self._theirs.close()  # so that its death is the end of the pipe
        self._theirs = None
        threading.Thread(target=self._listen, daemon=True, name=f"dcae-worker-{self.pid}").start()

    def send(self, task: Task) -> None:
        """Give it a task; if it has died, `messages` says so."""
        with suppress(OSError):
            self._mine.send(task)

    def stop(self) -> None:
        """Have it leave its task, which takes it a moment, or long; it says so as it says what comes of one."""
        with suppress(OSError):
            self._mine.send(Stop())

    def kill(self) -> None:
        """End it at once."""
        if self._process.pid is not None:
            self._process.kill()
            threading.Thread(target=self._process.join, daemon=True).start()  # or it would remain as a zombie

    def resident(self) -> int:
        """Bytes of memory that it has; 0 where the system does not tell."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE
        except (OSError, ValueError, IndexError):
            return 0

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                self._tell(self._mine.recv())
        self._tell(None)
        self._mine.close()

    def _tell(self, message: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._told, message)

    def _told(self, message: Any) -> None:
        if isinstance(message, Ready):
            self.ready.set()
            return
        if message is None:
            self.dead.set()
        self.messages.put_nowait(message)
