"""Sources: the forms in which the functions of the package take pictures and files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dcae.codec.picture import open_picture
from dcae.errors import DCAEError, FileFormatError, PictureError


class Readable(Protocol):
    """An object with a method `read` that gives bytes, as an opened file has."""

    def read(self) -> bytes:
        """All that is left."""


FileSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Readable
"""A file: its path, its bytes, or an object to read them from, which is read to its end and not closed."""
PictureSource = FileSource | Image.Image | NDArray[Any]
"""A picture: a file that Pillow reads, a Pillow picture, or an array, see :func:`from_array`."""

_MODES = {(2, 1): "L", (3, 1): "L", (3, 2): "LA", (3, 3): "RGB", (3, 4): "RGBA"}
"""Dimensions and channels of an array -> Pillow's mode."""


def as_picture(source: PictureSource) -> Image.Image:
    """A Pillow picture of any source.

    Raises:
        PictureError: it cannot be read, or is none.
    """
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray):
        return from_array(source)
    if isinstance(source, str | os.PathLike):
        return open_picture(Path(source))
    return open_picture(_contents(source, "picture", "a Pillow picture, a NumPy array", PictureError))


def from_array(pixels: NDArray[Any]) -> Image.Image:
    """The picture of an array (H, W) or (H, W, 1) of gray, (H, W, 3) of red, green and blue, either with one channel
    more of alpha; uint8, 0 to 255.

    Raises:
        PictureError: another shape or type.
    """
    mode = _MODES.get((pixels.ndim, pixels.shape[2] if pixels.ndim == 3 else 1))
    if mode is None:
        raise PictureError(f"an array of shape {pixels.shape} is no picture; it must be (H, W) or (H, W, 1 to 4)")
    if pixels.dtype != np.uint8:
        raise PictureError(f"an array of {pixels.dtype} is not coded; it must be uint8, 0 to 255")
    if not pixels.size:
        raise PictureError(f"an array of shape {pixels.shape} has no pixels")
    if pixels.shape[-1] == 1 and pixels.ndim == 3:
        pixels = pixels[..., 0]
    return Image.fromarray(np.ascontiguousarray(pixels))


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
    return _contents(source, "file", "", FileFormatError)


def _contents(source: object, what: str, others: str, error: type[DCAEError]) -> bytes:
    """The bytes of what is no path."""
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
