"""The process of a worker: one task after the other. Heavy imports happen inside."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dcae.codec.workers import begin_worker
from dcae.errors import (
    DCAEError,
    FileFormatError,
    MissingDependencyError,
    ModelFileError,
    ModelNotFoundError,
    OptionError,
    PictureError,
    PictureWarning,
    lacks_memory,
)
from dcae.serve.service.coding import Coder, OtherFileError, TooLargeError
from dcae.serve.service.settings import Settings
from dcae.serve.service.tasks import KINDS, Failed, Ready, Result, Stop, Task, Told

_ERRORS = (
    (TooLargeError, 413, "too-many-pixels"),
    (OtherFileError, 415, "not-a-picture"),
    (MissingDependencyError, 422, "not-installed"),
    (ModelNotFoundError, 422, "no-model"),
    (ModelFileError, 500, "bad-model"),
    (FileFormatError, 422, "bad-file"),
    (PictureError, 422, "bad-picture"),
    (OptionError, 422, "bad-option"),
    (DCAEError, 422, "refused"),
)
"""Errors of the codec -> status and code of the answer; the first that fits."""


class Stopped(BaseException):
    """A task is to be left. It passes by what catches errors."""


def work(connection: Connection[Any, Any], settings: Settings) -> None:
    """Do tasks until the process is ended."""
    begin_worker(signal.SIG_IGN, settings.threads)
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = settings.max_pixels
    coder = Coder(settings, lambda told: _tell(connection, told))
    coder.encoder(None, None, None, None).open()
    limit_memory(settings.memory)
    connection.send(Ready())
    with suppress(EOFError):
        while True:
            task = connection.recv()
            if not isinstance(task, Stop):  # which came when the task was done already
                connection.send(outcome(coder, task))


def _tell(connection: Connection[Any, Any], told: Told) -> None:
    """Say how far a task is; where the answer is that nobody wants it any more, leave it."""
    connection.send(told)
    if connection.poll():
        assert isinstance(connection.recv(), Stop)
        raise Stopped


def outcome(coder: Coder, task: Task) -> Result | Failed:
    """What comes of a task; whatever goes wrong with it is its own."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PictureWarning)
            return _done(coder, task)
    except DCAEError as error:
        status, code = next((status, code) for kind, status, code in _ERRORS if isinstance(error, kind))
        hidden = status == 500  # names files of this machine
        return Failed(status, code, "a model file of this service is damaged" if hidden else error.what)
    except Stopped:
        return Failed(409, "cancelled", "the job was cancelled")
    except Exception as error:
        if lacks_memory(error) or "bad_alloc" in str(error):
            return Failed(413, "memory", "the work needs more memory than this service gives")
        # Not its message, which may name files of this machine.
        return Failed(500, "internal", f"an error of dcae, please report it: {type(error).__name__}")


def _done(coder: Coder, task: Task) -> Result:
    from dcae.serve.service.compare import compare

    does: dict[str, Callable[[Task, bytes], Result]] = {
        "encode": coder.encode,
        "decode": coder.decode,
        "upscale": coder.upscale,
        "compare": lambda task, data: compare(coder, task, data),
        "web-model": coder.web_model,
        "example": coder.example,
    }
    return does[task.kind](task, Path(task.source).read_bytes() if task.kind in KINDS else b"")


def limit_memory(limit: int) -> None:
    """Have the system refuse this process more than `limit` bytes of data beside what it has, where it can (Linux)."""
    try:
        import resource

        lines = Path("/proc/self/status").read_text().splitlines()
    except (ImportError, OSError):
        return
    data = next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmData:")), 0)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (data + limit, resource.RLIM_INFINITY))
