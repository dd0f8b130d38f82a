"""Coder for tests of batches, without a network; in a file of its own, since started processes import it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from dcae.codec.batch import Job
from dcae.codec.filecoders import Coded, FileCoder
from dcae.errors import DCAEError, PictureError


@dataclass(frozen=True)
class Copying(FileCoder):
    """Copies files; what a file says can make it fail.

    "refuse": an error of ours; "bug": another one; "memory"; "die once", "die always": the process is killed; "wait":
    until the file `go` exists beside it.
    """

    loads: bool = True

    def open(self) -> None:
        if not self.loads:
            raise DCAEError("no such device")
        if self.device == "killed":
            os.kill(os.getpid(), signal.SIGKILL)

    def code(self, source: str | bytes, output: str) -> Coded:
        path = Path(str(source))
        text = path.read_text(encoding="utf-8")
        tried = path.with_suffix(".tried")
        if text == "refuse":
            raise PictureError("refused\nin two lines")
        if text == "bug":
            raise ZeroDivisionError("a bug")
        if text == "memory":
            raise MemoryError
        if text == "die always" or (text == "die once" and not tried.exists()):
            tried.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        while text == "wait" and not (path.parent / "go").exists():
            path.with_suffix(f".{os.getpid()}").touch()
            time.sleep(0.01)
        with path.with_suffix(".runs").open("a") as runs:
            runs.write(f"{os.getpid()}\n")
        threads = os.environ.get("OMP_NUM_THREADS", "")
        return Coded(f"{text} {os.getpid()} {threads}".encode(), "copied")


def written_jobs(folder: Path, **texts: str) -> list[Job]:
    """Jobs for files of these names and texts, which it writes."""
    jobs = []
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        jobs.append(Job(str(folder / name), str(folder / f"{name}.out")))
    return jobs
