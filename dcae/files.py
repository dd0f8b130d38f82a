"""Files: whole reads and writes for the command line (`-` is stdin or stdout), and what counts as a picture."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dcae.errors import DCAEError, OptionError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})
"""Files taken for pictures when a whole folder is read."""


def read_bytes(path: str) -> bytes:
    """The contents of a file, or of stdin for `-`.

    Raises:
        DCAEError: it cannot be read.
    """
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DCAEError(f"{path}: {error.strerror or error}") from error


def check_output(path: str, force: bool) -> None:
    """Refuse early what :func:`write_bytes` could not do.

    Raises:
        OptionError: the file exists and `force` is not set, or its folder does not.
    """
    if path == "-":
        return
    if Path(path).exists() and not force:
        raise OptionError(f"{path}: exists already; use --force to overwrite it")
    if not Path(path).absolute().parent.is_dir():
        raise OptionError(f"{Path(path).absolute().parent}: no such folder to write {path} into")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside `path`, renamed to it when the block ends without an error.

    Raises:
        DCAEError: it cannot be written; an older file of that name is then untouched.
    """
    target = path.absolute()
    temporary = None
    try:
        # Of a long name only the beginning: the temporary one must not be too long where the target's is not.
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:32]}.")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except OSError as error:
        raise DCAEError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_bytes(path: str, data: bytes) -> None:
    """Write to a temporary file beside `path`, then rename; or to stdout for `-`.

    Raises:
        DCAEError: it cannot be written; an older file of that name is then untouched.
    """
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    target = Path(path)
    if target.exists() and not target.is_file():  # a device or pipe cannot be replaced by renaming
        try:
            target.write_bytes(data)
        except OSError as error:
            raise DCAEError(f"{path}: cannot be written ({error.strerror or error})") from error
        return
    with replacing(target) as file:
        file.write(data)
