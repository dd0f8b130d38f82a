"""Sources: the forms in which the functions of the package take files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from dcae.errors import DCAEError, FileFormatError


class Readable(Protocol):
    """An object with a method `read` that gives bytes, as an opened file has."""

    def read(self) -> bytes:
        """All that is left."""


FileSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Readable
"""A file: its path, its bytes, or an object to read them from, which is read to its end and not closed."""


def as_bytes(source: FileSource) -> bytes:
    """The bytes of a file.

    Raises:
        DCAEError: it cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        try:
            return Path(source).read_bytes()
        except (OSError, ValueError) as error:
            raise DCAEError(f"{source}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    return contents(source, "file", "", FileFormatError)


def contents(source: object, what: str, others: str, error: type[DCAEError]) -> bytes:
    """The bytes of what is no path.

    Args:
        what: what it should be, for messages.
        others: further forms that are taken, for messages.

    Raises:
        error: they cannot be had.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    read = getattr(source, "read", None)
    if not callable(read):
        forms = f"a path, bytes, {others}{', ' if others else ''}or an opened file"
        raise error(f"a {what} is {forms}, not {type(source).__name__}")
    try:
        data = read()
    except MemoryError:
        raise
    except Exception as cause:  # closed, or opened for writing; objects of others raise almost anything
        raise error(f"the {what} cannot be read ({cause})") from cause
    if not isinstance(data, bytes):
        raise error(f"the {what} was opened as text; open it in binary mode")
    return data
