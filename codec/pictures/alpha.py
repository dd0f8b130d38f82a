"""Transparency: which colours lie under it, and the plane itself as bytes without loss.

The plane is a PNG or WebP picture, whichever is smaller.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dcae.codec.pictures.picture import Picture, Samples
from dcae.errors import FileFormatError

FORMATS = ("PNG", "WEBP")
"""What a lossless section may hold."""
WEBP_SIDE = 16383
"""Longest side of a WebP picture."""


def smoothed(picture: Picture) -> Picture:
    """The picture with the colours that nobody sees, under an alpha of 0, taken from their visible neighbours, so that
    they cost few bits and draw no edge."""
    if picture.alpha is None or picture.alpha.min() > 0:
        return picture
    hidden = picture.alpha == 0
    filled = _filled(picture.pixels.astype(np.float32), ~hidden)
    limit = np.iinfo(picture.pixels.dtype).max
    pixels = picture.pixels.copy()
    pixels[hidden] = np.rint(filled[hidden]).clip(0, limit).astype(pixels.dtype)
    return Picture(pixels, picture.alpha, picture.metadata)


def _filled(values: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Values (H, W, C) with those that are not seen filled in: each from the mean of what is seen in the smallest of
    the squares of 2, 4, 8, ... pixels around it that has something (a pyramid of means)."""
    if seen.all() or min(seen.shape) == 0:
        return values
    if not seen.any() or max(seen.shape) == 1:
        return np.where(seen[..., None], values, values[seen].mean(0) if seen.any() else np.float32(0))
    height, width = seen.shape
    odd = ((0, height % 2), (0, width % 2))
    weights = np.pad(seen, odd).astype(np.float32)[..., None]
    sums = np.pad(values * seen[..., None], (*odd, (0, 0)))

    def halved(array: NDArray[np.float32]) -> NDArray[np.float32]:
        return array[::2, ::2] + array[1::2, ::2] + array[::2, 1::2] + array[1::2, 1::2]

    count = halved(weights)
    coarse = _filled(halved(sums) / np.maximum(count, 1), count[..., 0] > 0)
    fine = coarse.repeat(2, 0).repeat(2, 1)[:height, :width]
    return np.where(seen[..., None], values, fine)


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
    if samples.dtype == np.uint8 and max(image.size) <= WEBP_SIDE:
        files.append(_saved(image.convert("RGB"), "WEBP", lossless=True, method=effort, quality=20 * effort))
    if effort or not files:
        files.append(_saved(image, "PNG", compress_level=9 if effort else 1))
    return min(files, key=len)


def _saved(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def unpacked(data: bytes, width: int, height: int, channels: int, depth: int, what: str) -> Samples:
    """Samples (H, W, C) of a lossless section, uint8 or uint16.

    Args:
        what: its name, for messages.

    Raises:
        FileFormatError: not a PNG or WebP picture of just this size and kind.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.size != (width, height) or getattr(image, "n_frames", 1) != 1:
            raise FileFormatError(f"{what} is a picture of another size ({image.width}x{image.height}); it is damaged")
        if depth == 16 and channels == 3:
            from dcae.codec.pictures.deep import read_deep

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
