"""What was opened as a picture that the codec codes: upright, gray or RGB, with alpha and metadata apart."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from dcae.codec.container import MAX_OPTIONAL
from dcae.codec.pictures import colour, reading
from dcae.codec.pictures.alpha import smoothed
from dcae.codec.pictures.deep import BITS
from dcae.codec.pictures.metadata import exif_of, xmp_of
from dcae.codec.pictures.picture import Metadata, Picture, Samples
from dcae.codec.pictures.preparation import AS_IT_IS, Preparation
from dcae.codec.sources import FileSource, contents
from dcae.errors import OptionError, PictureError, PictureWarning

_ROWS = 64
"""Rows that are put before a background at a time."""

PictureSource = Picture | Image.Image | FileSource | NDArray[Any]
"""What can be coded: a path, the bytes of a picture file or an open one, a picture of Pillow's, or samples (H, W) or
(H, W, 1 to 4) of uint8 or uint16, gray or RGB, with or without alpha."""


def prepare(source: PictureSource, how: Preparation = AS_IT_IS, max_pixels: int | None = None) -> Picture:
    """The picture that is coded.

    Args:
        source: what was prepared already, and needs nothing more, is returned.
        max_pixels: largest number of pixels, padded to multiples of 64, of pictures that are decoded for it.

    Raises:
        PictureError: missing, unreadable, damaged, larger than this limit or Pillow's, or of a kind that is not coded.
        OptionError: a background that is no colour, or a frame that is no number.

    Warns:
        PictureWarning: something of it is not kept.
    """
    if not isinstance(how, Preparation):
        raise OptionError(f"a preparation is a {Preparation.__name__}, got {how!r:.40}")
    if how.frame is not None and (isinstance(how.frame, bool) or not isinstance(how.frame, Integral)):
        raise OptionError(f"a frame is a whole number, got {how.frame!r:.40}")
    if how.frame and isinstance(source, Picture | np.ndarray):
        raise PictureError(f"the picture has no frame {how.frame}, only 0..0")
    if isinstance(source, Picture):
        if how == AS_IT_IS and all(len(part) <= MAX_OPTIONAL for part in vars(source.metadata).values()):
            return source
        picture = source
        if (profile := picture.metadata.icc) and (how.to_srgb or how.strip):
            picture = replace(_in_srgb(picture, profile), metadata=replace(picture.metadata, icc=b""))
    elif isinstance(source, np.ndarray):
        picture = of_samples(source)
    else:
        picture = of_opened(_opened(source, how.frame, max_pixels), how)
    if picture.alpha is not None and picture.alpha.min() == np.iinfo(picture.alpha.dtype).max:
        picture = replace(picture, alpha=None)
    if how.background is not None:
        picture = flattened(picture, how.background)
    if how.strip:
        picture = replace(picture, metadata=Metadata())
    if isinstance(source, Picture):
        told = picture.metadata
        kept = map(_kept, (told.exif, told.xmp, told.icc), ("EXIF", "XMP", "the ICC profile"))
        picture = replace(picture, metadata=Metadata(*kept))
    return smoothed(picture)


def _opened(source: Image.Image | FileSource, frame: int | None, max_pixels: int | None) -> reading.Opened:
    if isinstance(source, Image.Image):
        return reading.opened(source, frame, max_pixels=max_pixels)
    if isinstance(source, os.PathLike):
        source = Path(source)
    elif not isinstance(source, str):  # which errors name as it is
        source = contents(source, "picture", "a Pillow picture, a NumPy array", PictureError)
    return reading.open_picture(source, frame, max_pixels)


def of_samples(samples: NDArray[Any]) -> Picture:
    """A picture of an array (H, W) or (H, W, C) with C from 1 to 4: gray or RGB, the last of 2 or 4 being alpha.

    Raises:
        PictureError: of another shape or type, or empty.
    """
    if samples.dtype not in (np.uint8, np.uint16):
        raise PictureError(f"samples must be uint8 (0 to 255) or uint16 (0 to 65535), got {samples.dtype}")
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.ndim != 3 or not 1 <= samples.shape[2] <= 4 or 0 in samples.shape:
        raise PictureError(f"samples must have the shape (H, W) or (H, W, 1 to 4), got {samples.shape}")
    if samples.shape[2] in (2, 4):
        return Picture(np.ascontiguousarray(samples[..., :-1]), np.ascontiguousarray(samples[..., -1]))
    return Picture(samples)


def of_opened(opened: reading.Opened, how: Preparation = AS_IT_IS) -> Picture:
    """A picture of a file that was opened, upright; arguments and errors as of :func:`prepare`."""
    image = opened.image
    metadata = Metadata(*map(_kept, (exif_of(image), xmp_of(image)), ("EXIF", "XMP")))
    profile = _usable(image.info.get("icc_profile") or b"", image.mode if opened.deep is None else "RGB")
    if opened.deep is not None:
        picture = of_samples(opened.deep)
    else:
        picture, profile = _of_image(image, profile)
    picture = _turned(picture, opened.orientation)
    if profile and picture.mode == "RGB" and colour.profile_mode(profile) == "L":
        profile = b""
    if profile and picture.mode == "L" and colour.profile_mode(profile) == "RGB":  # gray only by its samples
        picture = replace(picture, pixels=picture.pixels.repeat(3, 2))
    if profile and colour.is_srgb(profile, picture.mode):
        profile = b""
    if profile and (how.to_srgb or how.strip):
        picture, profile = _in_srgb(picture, profile), b""
    return replace(picture, metadata=replace(metadata, icc=_kept(profile, "the ICC profile")))


def _kept(data: bytes, name: str) -> bytes:
    if len(data) <= MAX_OPTIONAL:
        return data
    warnings.warn(f"{name} of {len(data)} bytes is not kept, the limit is {MAX_OPTIONAL}", PictureWarning, stacklevel=3)
    return b""


def _usable(profile: bytes, mode: str) -> bytes:
    """The profile, unless it is damaged or of colours that the picture does not have."""
    if not profile:
        return b""
    found = colour.profile_mode(profile)
    cmyk = mode == "CMYK"
    if found is None or (found == "CMYK") != cmyk:
        why = "damaged" if found is None else f"of {found}"
        warnings.warn(f"the ICC profile is {why} and not used", PictureWarning, stacklevel=3)
        return b""
    return profile


def _of_image(image: Image.Image, profile: bytes) -> tuple[Picture, bytes]:
    """A picture of Pillow's, as its file has it, and the profile that its samples have then."""
    mode = image.mode
    if mode.startswith(("I", "F")):
        return of_samples(_whole_numbers(image)), profile
    if mode == "CMYK":
        converted = colour.to_srgb(image, profile) if profile else image.convert("RGB")
        if not profile:
            warnings.warn(f"CMYK without a profile is taken for {colour.CMYK_DEFAULT!r}", PictureWarning, stacklevel=3)
        return Picture(_samples(converted)), b""
    if mode in ("LAB", "HSV", "YCbCr"):
        try:
            return Picture(_samples(image.convert("RGB"))), b"" if mode == "LAB" else profile
        except ValueError as error:
            raise PictureError(f"pictures of mode {mode} are not coded; convert it to RGB ({error})") from error
    gray = mode in ("1", "L", "LA", "La")
    if not gray and mode not in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX"):
        raise PictureError(f"pictures of mode {mode} are not coded; convert it to RGB")
    if image.has_transparency_data:
        image = image.convert("LA" if gray else "RGBA")
        return of_samples(np.asarray(image)), profile
    return Picture(_samples(image.convert("L" if gray else "RGB"))), profile


def _whole_numbers(image: Image.Image) -> NDArray[np.uint16]:
    """Gray samples of more than 8 bits, (H, W)."""
    samples = np.asarray(image)
    if samples.dtype.kind == "f" or (samples.size and not 0 <= samples.min() <= samples.max() <= 65535):
        kind = "fractions" if samples.dtype.kind == "f" else "numbers outside of 0 to 65535"
        raise PictureError(f"the samples are {kind} (mode {image.mode}); scale them to 16 bits")
    bits = getattr(image, "tag_v2", {}).get(BITS, (16,))[0]
    if 8 < bits < 16:  # which Pillow leaves as they are
        samples = np.rint(samples.clip(max=2**bits - 1) * (65535 / (2**bits - 1)))
    return samples.astype(np.uint16)


def _samples(image: Image.Image) -> Samples:
    samples: NDArray[np.uint8] = np.asarray(image)
    return samples if samples.ndim == 3 else samples[..., None]


def _turned(picture: Picture, orientation: int) -> Picture:
    """A picture whose pixels lie as EXIF's `orientation` says, upright."""
    if orientation == 1:
        return picture

    def turn(samples: NDArray[Any]) -> NDArray[Any]:
        if orientation >= 5:
            samples = samples.swapaxes(0, 1)
        if orientation in (3, 4, 7, 8):
            samples = samples[::-1]
        if orientation in (2, 3, 6, 7):
            samples = samples[:, ::-1]
        return np.ascontiguousarray(samples)

    alpha = None if picture.alpha is None else turn(picture.alpha)
    return replace(picture, pixels=turn(picture.pixels), alpha=alpha)


def flattened(picture: Picture, background: str) -> Picture:
    """The picture on a colour that CSS names, without alpha, mixed as the samples are.

    Raises:
        OptionError: no such colour.
    """
    colours = colour_named(background)
    if picture.alpha is None:
        return picture
    if picture.mode == "L":
        if len(set(colours)) == 1:
            colours = colours[:1]
        else:
            picture = _in_colour(picture)
    assert picture.alpha is not None
    flat = np.empty_like(picture.pixels)
    limit = np.float32(np.iinfo(flat.dtype).max)
    behind = np.array(colours, np.float32) * (limit / 255)
    for row in range(0, picture.height, _ROWS):  # fractions take more memory than samples
        rows = slice(row, row + _ROWS)
        share = (picture.alpha[rows] / limit)[..., None]
        flat[rows] = np.rint(picture.pixels[rows] * share + behind * (1 - share))
    return replace(picture, pixels=flat, alpha=None)


def colour_named(name: str) -> tuple[int, ...]:
    """Red, green and blue, 0 to 255, of a colour that CSS names.

    Raises:
        OptionError: no such colour.
    """
    try:
        return ImageColor.getrgb(name)[:3]
    except (TypeError, ValueError, AttributeError) as error:
        raise OptionError(f"{name!r:.60} is no colour; name one as CSS does, like white or #ffcc00") from error


def _in_colour(picture: Picture) -> Picture:
    """A gray picture as one of red, green and blue, without its profile, which is for gray."""
    if colour.profile_mode(picture.metadata.icc) == "L":
        picture = _in_srgb(picture, picture.metadata.icc)
    return replace(picture, pixels=picture.pixels.repeat(3, 2), metadata=replace(picture.metadata, icc=b""))


def _in_srgb(picture: Picture, profile: bytes) -> Picture:
    if picture.depth > 8:
        warnings.warn("converted to sRGB, and to 8 bits for that", PictureWarning, stacklevel=3)
    picture = picture.at_depth(8)
    return replace(picture, pixels=_samples(colour.to_srgb(Picture(picture.pixels).image(), profile)))
