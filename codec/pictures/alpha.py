"""Transparency: which colours lie under it, and the plane itself as bytes without loss.

The plane is a PNG or WebP picture, whichever is smaller.
"""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, WebPImagePlugin

from dcae.codec.pictures.picture import Picture, Samples
from dcae.errors import FileFormatError

WEBP_SIDE, WEBP_PIXELS = 16383, 1 << 27
"""Longest side of a WebP picture, and the most pixels of those that are written: Pillow refuses to read larger ones."""


def smoothed(picture: Picture) -> Picture:
    """The picture with the colours that nobody sees, under an alpha of 0, taken from their visible neighbours, so that
    they cost few bits and draw no edge."""
    if picture.alpha is None or picture.alpha.min() > 0:
        return picture
    return replace(picture, pixels=_filled(picture.pixels, picture.alpha > 0))


def _filled(values: NDArray[Any], seen: NDArray[np.bool_]) -> NDArray[Any]:
    """Values (H, W, C) with those that are not seen filled in: each from the mean of what is seen in the smallest of
    the squares of 2, 4, 8, ... pixels around it that has something (a pyramid of means, of which no level is larger
    than a quarter of the picture)."""
    if seen.all() or not seen.any():
        return values if seen.any() else np.zeros_like(values)
    half = [-(-side // 2) for side in seen.shape]
    sums, counts = np.zeros((*half, values.shape[2]), np.float32), np.zeros((*half, 1), np.float32)
    quarters = [(slice(row, None, 2), slice(column, None, 2)) for row in (0, 1) for column in (0, 1)]
    for quarter in quarters:
        inside = seen[quarter][..., None]
        place = slice(inside.shape[0]), slice(inside.shape[1])
        sums[place] += values[quarter] * inside
        counts[place] += inside
    sums /= np.maximum(counts, 1)
    coarse = _filled(sums, counts[..., 0] > 0)
    filled = values.copy()
    for quarter in quarters:
        hidden = ~seen[quarter]
        guess = coarse[: hidden.shape[0], : hidden.shape[1]][hidden]
        # A mean of levels, which never leaves their range.
        filled[quarter][hidden] = guess if values.dtype.kind == "f" else np.rint(guess)
    return filled


def packed(samples: Samples, effort: int = 4) -> bytes:
    """Samples (H, W) or (H, W, 1) gray, or (H, W, 3), as a PNG or WebP file without loss.

    Args:
        effort: 0 is fast, for a first look at the size; 4 is what files hold.
    """
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]
    if samples.dtype == np.uint16 and samples.ndim == 3:
        from dcae.codec.pictures.deep import write_deep

        return write_deep(Picture(samples), "PNG")
    image = Image.fromarray(samples)
    files = []
    if samples.dtype == np.uint8 and max(image.size) <= WEBP_SIDE and image.width * image.height <= WEBP_PIXELS:
        files.append(_saved(image.convert("RGB"), "WEBP", lossless=True, method=effort, quality=20 * effort))
    if effort or not files:
        files.append(_saved(image, "PNG", compress_level=9 if effort else 1))
    return min(files, key=len)


def _saved(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _opened(data: bytes) -> Image.Image:
    """A PNG or WebP file, not decoded yet. `Image.open` would refuse, or warn of, sizes that the caller's limit allows;
    what is opened here is compared with a size that was checked."""
    for plugin in (PngImagePlugin.PngImageFile, WebPImagePlugin.WebPImageFile):
        with suppress(SyntaxError):  # what a plugin raises at another one's file
            return plugin(io.BytesIO(data))
    raise ValueError("neither PNG nor WebP")


def unpacked(data: bytes, width: int, height: int, channels: int, depth: int, what: str) -> Samples:
    """Samples (H, W, C) of a lossless section, uint8 or uint16.

    Args:
        what: its name, for messages.

    Raises:
        FileFormatError: not a PNG or WebP picture of just this size and kind.
    """
    try:
        image = _opened(data)
        if image.size != (width, height) or getattr(image, "n_frames", 1) != 1:
            raise FileFormatError(f"{what} is a picture of another size ({image.width}x{image.height}); it is damaged")
        if depth == 16 and channels == 3:
            from dcae.codec.pictures.deep import is_deep, read_deep

            if not is_deep(image):
                raise FileFormatError(f"{what} is a picture of 8 bits where 16 were meant; it is damaged")
            samples: Samples = read_deep(data, str(image.format), 0)
        else:
            mode = {(1, 8): "L", (3, 8): "RGB", (1, 16): "I;16"}[channels, depth]
            image.load()
            if mode == "L" and image.mode == "RGB" and image.format == "WEBP":  # which has no gray
                image = image.getchannel("G")
            samples = np.asarray(image)[..., None] if mode != "RGB" else np.asarray(image)
            if image.mode != mode:
                raise FileFormatError(f"{what} is a picture of mode {image.mode}, not {mode}; it is damaged")
    except (MemoryError, FileFormatError):
        raise
    except Exception as error:  # a damaged file can make Pillow's readers raise almost anything
        raise FileFormatError(f"{what} cannot be read ({error}); the file is damaged") from error
    if samples.shape != (height, width, channels):
        raise FileFormatError(f"{what} has {samples.shape[2]} channels, not {channels}; the file is damaged")
    return samples
