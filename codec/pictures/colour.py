"""Colour profiles: what is kept with a picture, what says nothing, and what is turned into sRGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from dcae.errors import PictureError

_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colours that an ICC profile may be of, and Pillow's modes for them."""
CMYK_DEFAULT = "uncalibrated"
"""Name of the inks that a CMYK picture without a profile is taken to have: red is (255 - C)(255 - K) / 255, and so
on, as Pillow and browsers show such pictures."""


def profile_mode(profile: bytes) -> str | None:
    """Pillow's mode of the pixels that an ICC profile is for, "RGB", "L" or "CMYK"; None if damaged or of others."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _SPACES.get(opened.profile.xcolor_space.strip())
        if mode is not None:  # a profile may have a header and nothing behind it
            _to_srgb(Image.new(mode, (1, 1)), profile)
        return mode
    except Exception:  # LittleCMS says little more than that it cannot
        return None


def is_srgb(profile: bytes, mode: str) -> bool:
    """Whether a profile of mode "RGB" or "L" means sRGB, whatever its name: no colour of a grid moves by more than a
    level when it is converted."""
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    if mode == "L":
        ramp = np.arange(256, dtype=np.uint8)[None]
        return bool(
            np.abs(np.asarray(_to_srgb(Image.fromarray(ramp), profile)).astype(int) - ramp[..., None]).max() <= 1
        )
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(18, -1, 3)
    return bool(np.abs(np.asarray(_to_srgb(Image.fromarray(grid), profile)).astype(int) - grid).max() <= 1)


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """A picture of mode "RGB" or "CMYK" as sRGB, mode "RGB"; one of mode "L" stays gray.

    Raises:
        PictureError: a profile that is damaged, or of other colours than the picture.
    """
    try:
        converted = _to_srgb(image, profile)
    except Exception as error:
        raise PictureError(f"the picture's ICC profile cannot be used ({error})", "--strip drops it") from error
    return converted.getchannel("G") if image.mode == "L" else converted


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None  # only with inPlace
    return converted
