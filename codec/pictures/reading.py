"""Picture files: opened by Pillow, or by another library where Pillow would lose something."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dcae.codec.limits import check_size
from dcae.codec.pictures.deep import is_deep, read_deep
from dcae.codec.pictures.heif import NEEDED, register_heif
from dcae.codec.pictures.metadata import orientation_of
from dcae.errors import PictureError, PictureWarning
from dcae.networks.config import DCAEConfig

_PROGRAMS = ("EPS", "WMF", "EMF")
"""Formats that Pillow has another program run or draw."""
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


class Opened(NamedTuple):
    """A picture file after it was decoded."""

    image: Image.Image
    """As Pillow has it, of the frame that was asked for."""
    deep: NDArray[np.uint16] | None
    """Samples (H, W, C) where Pillow would have made 8 bits of 16; as they lie in the file."""
    orientation: int
    """How its pixels lie, those of `deep` where it is, 1 to 8 as EXIF has it."""


def open_picture(source: str | Path | bytes, frame: int | None = None, max_pixels: int | None = None) -> Opened:
    """Open and decode a picture file.

    Args:
        frame: which picture of an animation or of a file with several pages, from 0.
        max_pixels: largest number of pixels, padded to multiples of 64; a larger picture is not decoded.

    Raises:
        PictureError: missing, unreadable, damaged, too large for this limit or Pillow's, or with several frames none of
            which was chosen.
    """
    name = str(source) if isinstance(source, str | Path) else "the picture"
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        image = _opened(data)
        if image.format in _PROGRAMS:
            raise PictureError(f"{image.format} is not read, since it would have to be run; convert it to PNG")
        return opened(image, frame, data, max_pixels)
    except PictureError as error:
        raise PictureError(f"{name}: {error.what}", error.advice) from error
    except FileNotFoundError as error:
        raise PictureError(f"{name}: no such file") from error
    except (PermissionError, IsADirectoryError) as error:
        raise PictureError(f"{name}: {error.strerror or error}") from error
    except UnidentifiedImageError as error:
        raise PictureError(f"{name}: not a picture that Pillow can read") from error
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"{name}: its pixels are more than the limit of {Image.MAX_IMAGE_PIXELS}",
            "raise max_pixels (--max-pixels; in Python also PIL.Image.MAX_IMAGE_PIXELS) if you trust the file and "
            "have the memory",
        ) from error
    except Exception as error:  # a damaged file can make Pillow's readers raise almost anything
        raise PictureError(f"{name}: unreadable ({error})") from error


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        if data[4:8] != b"ftyp" or data[8:12] not in _HEIF_BRANDS:
            raise
    if not register_heif():
        raise PictureError(*NEEDED) from None
    return Image.open(io.BytesIO(data))


def opened(
    image: Image.Image, frame: int | None = None, data: bytes | None = None, max_pixels: int | None = None
) -> Opened:
    """A picture of Pillow's, decoded; arguments and errors as of :func:`open_picture`.

    Args:
        data: the file, if the caller has it.
    """
    _check_size(image, max_pixels)
    choose_frame(image, frame)
    _check_size(image, max_pixels)  # that of this frame
    _scale_key(image)
    kind, deep, orientation = image.format, None, 1
    if is_deep(image):
        if kind not in ("PNG", "TIFF"):
            raise PictureError(f"{kind} with 16 bits a channel, which is not read; convert it to PNG or TIFF")
        deep = read_deep(data if data is not None else _file_of(image), kind, frame or 0)
        orientation = orientation_of(image)  # not before: it may decode the picture, and close its file
    elif image.mode == "RGB" and any(tile[0] == "ppm" and tile[3][-1] > 255 for tile in getattr(image, "tile", [])):
        warnings.warn("PPM with more than 8 bits a channel is read as 8; PNG keeps them", PictureWarning, stacklevel=2)
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # truncated, or closed meanwhile
        raise PictureError(f"the picture is unreadable ({error})") from error
    if min(image.size) < 1:
        raise PictureError(f"the picture has no pixels ({image.width}x{image.height})")
    if deep is not None and deep.shape[:2] not in ((image.height, image.width), (image.width, image.height)):
        raise PictureError("two readers disagree about the size of the picture; it is damaged")
    if deep is None:  # decoding has turned some kinds of files upright
        orientation = orientation_of(image)
    return Opened(image, deep, orientation)


def _scale_key(image: Image.Image) -> None:
    """Make the transparent level of a gray PNG of 2 or 4 bits one of 8 bits, which Pillow does to its samples alone."""
    key = image.info.get("transparency")
    kinds = [tile[3] for tile in getattr(image, "tile", [])]
    if image.format == "PNG" and isinstance(key, int) and kinds and kinds[0] in ("L;2", "L;4"):
        image.info["transparency"] = key * (85 if kinds[0] == "L;2" else 17)


def _check_size(image: Image.Image, max_pixels: int | None) -> None:
    if max_pixels is not None:
        check_size(*image.size, DCAEConfig.stride, max_pixels, PictureError)


def _file_of(image: Image.Image) -> bytes:
    """The file behind a picture that Pillow has opened and not decoded yet."""
    file = getattr(image, "fp", None)
    if file is None or getattr(file, "closed", False):
        raise PictureError("the picture has 16 bits a channel and its file is closed; open it again, or name the file")
    at = file.tell()
    file.seek(0)
    data: bytes = file.read()
    file.seek(at)
    return data


def choose_frame(image: Image.Image, frame: int | None) -> None:
    """Go to a frame of a picture.

    Raises:
        PictureError: unreadable, no such frame, or several and none chosen.
    """
    try:
        # The further frames of MPO, what some cameras call JPEG, are previews and depth maps of the first.
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frame is None and frames > 1:
            several = f"the picture has {frames} frames, a .dcae file one"
            raise PictureError(several, f"choose it with --frame 0..{frames - 1}")
        if frame is not None and not 0 <= frame < max(frames, 1):
            raise PictureError(f"the picture has no frame {frame}, only 0..{frames - 1}")
        if frame is not None and frames > 1:
            image.seek(frame)
    except (MemoryError, PictureError):
        raise
    except Exception as error:  # counting and seeking read on in the file
        raise PictureError(f"unreadable ({error})") from error
