"""Files: whole reads and writes for the command line (`-` is stdin or stdout), and what counts as a picture."""

from __future__ import annotations

import os
import stat
import sys
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
        if sys.stdin is None:
            raise DCAEError("standard input is closed; name a file instead of -")
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DCAEError(f"{path}: {error.strerror or error}") from error


def check_output(path: str, force: bool) -> None:
    """Refuse early what :func:`write_bytes` could not do.

    Raises:
        OptionError: the file exists (a symbolic link to nothing does) and `force` is not set, or its folder does not.
    """
    if path == "-":
        if sys.stdout is None:
            raise OptionError("standard output is closed; name a file instead of -")
        return
    if os.path.lexists(path) and not force:
        raise _exists(path)
    folder = _pointed_to(Path(path)).parent
    try:
        there = folder.is_dir()
    except OSError as error:
        raise OptionError(f"{folder}: {error.strerror or error}") from error
    if not there:
        raise OptionError(f"{folder}: no such folder to write {path} into")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OptionError(f"{path}: its folder cannot be written into")


def _exists(path: str | Path) -> OptionError:
    return OptionError(f"{path}: exists already", "use --force to overwrite it")


def _pointed_to(path: Path) -> Path:
    """Path of what is named once symbolic links have been followed, whether it exists or not; absolute.

    Raises:
        DCAEError: links that lead to each other.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise DCAEError(f"{path}: a symbolic link that leads to itself; remove it")
    return target


@contextmanager
def replacing(path: Path, force: bool = True) -> Iterator[BinaryIO]:
    """A temporary file beside `path`, which takes its name when the block ends without an error.

    A file that is overwritten keeps its permissions; of a symbolic link, what it points to is overwritten.

    Args:
        force: overwrite a file of that name; else it is left as it is, even one that another process makes meanwhile.

    Raises:
        DCAEError: it cannot be written; an older file of that name is then untouched.
        OptionError: it exists, and `force` is not set.
    """
    temporary = None
    try:
        target = _pointed_to(path) if force else path.absolute()
        # Of a long name only the beginning: the temporary one must not be too long where the target's is not.
        name = target.parent / f".{target.name[:32]}.{os.urandom(8).hex()}"
        mode = stat.S_IMODE(target.stat().st_mode) if force and target.exists() else None
        # The system takes the umask off the 0o666 of a new file; what was private is so before it has contents.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        handle = os.open(name, flags, 0o666 if mode is None else 0o600)
        temporary = name
        with os.fdopen(handle, "wb") as file:
            if mode is not None:
                os.chmod(temporary, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        if force:
            os.replace(temporary, target)
        else:
            _name_new(temporary, target)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise DCAEError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _name_new(temporary: Path, target: Path) -> None:
    """Give a file a name that must not exist yet; the test and the naming are one step.

    Raises:
        FileExistsError: the name exists.
    """
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except (OSError, AttributeError, NotImplementedError):  # file systems and systems without hard links
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))  # takes the name; then it is ours to replace
        try:
            os.replace(temporary, target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def write_bytes(path: str, data: bytes, force: bool = True) -> None:
    """Write to a temporary file beside `path`, then rename; or to stdout for `-`.

    Args:
        force: as of :func:`replacing`.

    Raises:
        DCAEError: it cannot be written; an older file of that name is then untouched.
        OptionError: it exists, and `force` is not set.
    """
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    target = Path(path)
    if force and target.exists() and not target.is_file():  # a device or pipe cannot be replaced by renaming
        try:
            target.write_bytes(data)
        except OSError as error:
            raise DCAEError(f"{path}: cannot be written ({error.strerror or error})") from error
        return
    with replacing(target, force) as file:
        file.write(data)
