"""Pictures in and out: what Pillow opens, as 8-bit RGB, or one clear sentence why not."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from dcae.errors import PictureError

_PROGRAMS = ("EPS", "WMF", "EMF")
"""Formats that Pillow has another program run or draw."""
_SRGB_NAMES = {
    "sRGB IEC61966-2.1",
    "sRGB",
    "sRGB built-in",
    "sRGB2014",
    "IEC 61966-2-1 Default RGB Colour Space - sRGB",
}


def open_picture(source: str | Path | BinaryIO | bytes) -> Image.Image:
    """Open and decode a picture file.

    Raises:
        PictureError: missing, unreadable, damaged, or too large for Pillow's limit.
    """
    name = str(source) if isinstance(source, str | Path) else "the picture"
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        if image.format in _PROGRAMS:
            raise PictureError(f"{name}: {image.format} is not read, since it would have to be run; convert it to PNG")
        _refuse_deep(image)
        image.load()
    except PictureError:
        raise
    except FileNotFoundError as error:
        raise PictureError(f"{name}: no such file") from error
    except UnidentifiedImageError as error:
        raise PictureError(f"{name}: not a picture that Pillow can read") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can make Pillow's readers raise almost anything
        raise PictureError(f"{name}: unreadable ({error})") from error
    return image


def _refuse_deep(image: Image.Image) -> None:
    """Pillow reads 16-bit colour as 8 bits without a word; what is stored shows only before it is decoded."""
    if any(";16" in str(tile[3]) for tile in getattr(image, "tile", [])) and not image.mode.startswith("I"):
        raise PictureError("the picture has 16 bits per channel, which are not coded; convert it to 8 bits")


def to_pixels(image: Image.Image) -> tuple[NDArray[np.uint8], str]:
    """Upright sRGB pixels (H, W, 3) uint8, and the mode to give back: "RGB" or "L".

    EXIF orientation is applied and an embedded ICC profile converted to sRGB. Gray and bilevel pictures are coded
    as gray; alpha channels are accepted when fully opaque.

    Raises:
        PictureError: truncated or closed, transparency, CMYK, more than 8 bits per channel, several frames.
    """
    # The further frames of MPO, what some cameras call JPEG, are previews and depth maps of the first.
    try:
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except Exception as error:  # as in `open_picture`: counting frames reads on in the file
        raise PictureError(f"unreadable ({error})") from error
    if frames > 1:
        raise PictureError(f"the picture has {frames} frames; only single pictures are coded, extract one")
    _refuse_deep(image)
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # truncated, or closed meanwhile
        raise PictureError(f"the picture is unreadable ({error})") from error
    profile = image.info.get("icc_profile")
    with suppress(Exception):  # a damaged EXIF block says nothing of the pixels
        image = ImageOps.exif_transpose(image)
    if min(image.size) < 1:
        raise PictureError(f"the picture has no pixels ({image.width}x{image.height})")
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            raise PictureError("the picture has transparent pixels, which are not coded; flatten it first")
        image = image.convert(image.mode[:-1])
    if image.mode in ("1", "L"):
        pixels = np.asarray(_to_srgb(image.convert("L"), profile, "L"))
        return np.repeat(pixels[..., None], 3, 2), "L"
    if image.mode in ("P", "RGB", "RGBX"):
        return np.array(_to_srgb(image.convert("RGB"), profile, "RGB")), "RGB"
    if image.mode.startswith(("I", "F")):
        raise PictureError(f"the picture has more than 8 bits per channel (mode {image.mode}); convert it to 8 bits")
    raise PictureError(f"pictures of mode {image.mode} are not coded; convert it to RGB")


def _to_srgb(image: Image.Image, profile: bytes | None, mode: str) -> Image.Image:
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != {"RGB": "RGB", "L": "GRAY"}[mode]:
            return image
        if mode == "RGB" and ImageCms.getProfileDescription(source).strip() in _SRGB_NAMES:
            return image
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except Exception as error:  # as in `open_picture`
        raise PictureError(f"the picture's ICC profile cannot be used ({error}); convert it to sRGB first") from error
    assert converted is not None  # only with inPlace
    return converted.getchannel("G") if mode == "L" else converted


def from_pixels(pixels: NDArray[np.uint8], mode: str) -> Image.Image:
    """(H, W, 3) uint8 -> a picture of mode "RGB" or "L" (the rounded mean of the channels)."""
    if mode == "L":
        total = pixels.astype(np.uint16).sum(2)
        return Image.fromarray(((total + 1) // 3).astype(np.uint8))
    return Image.fromarray(pixels)
