"""What lies in a file in another format: alpha and metadata beside the coded picture, or in its place all of the
picture, without loss or as AVIF."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dcae.codec.container import Container, write_container
from dcae.codec.fields import COLOURS, DEPTHS, Header
from dcae.codec.limits import check_size
from dcae.codec.pictures.alpha import packed, unpacked
from dcae.codec.pictures.avif import avif_pixels, avif_quality, avif_stream, can_write, is_drawn
from dcae.codec.pictures.picture import Metadata, Picture, Samples
from dcae.errors import FileFormatError, PictureWarning

if TYPE_CHECKING:
    from dcae.codec.encoder import Encoded

NO_MODEL = bytes(8)
"""What files that no model is needed for have in place of the first bytes of a model id."""
_FAR = 4
"""How many times λ·D + R of the coded picture a first, hasty lossless file takes where the best one is not made."""


def with_companions(container: Container, picture: Picture) -> Container:
    """A container with the picture's alpha and metadata."""
    metadata = picture.metadata
    alpha = b"" if picture.alpha is None else packed(picture.alpha)
    return replace(container, alpha=alpha, exif=metadata.exif, xmp=metadata.xmp, icc=metadata.icc)


def with_pixels(container: Container, pixels: Samples) -> Picture:
    """The picture of a container whose pixels (H, W, C) are decoded, with its metadata, and with its alpha of the size
    that is shown.

    Raises:
        FileFormatError: alpha that cannot be read or is of another size.
    """
    alpha = None
    if container.alpha:
        depth = 8 * pixels.dtype.itemsize
        alpha = unpacked(container.alpha, *container.size, 1, depth, "section A (alpha)")[..., 0]
    return Picture(pixels, alpha, metadata_of(container))


def metadata_of(container: Container) -> Metadata:
    """What a file says beside its pixels."""
    return Metadata(container.exif, container.xmp, container.icc)


def image_mode(container: Container) -> str:
    """Pillow's mode of the picture that `Picture.image` makes of a file."""
    mode = COLOURS[container.header.colour]
    if container.alpha:
        return {"RGB": "RGBA", "L": "LA"}[mode]
    return "I;16" if mode == "L" and DEPTHS[container.header.depth] == 16 else mode


def _container(picture: Picture, quality: int, check: int = 0) -> Container:
    """A container without the picture, for which no model is needed; all else is to be added."""
    header = Header(
        width=picture.width,
        height=picture.height,
        colour=COLOURS.index(picture.mode),
        numerics=0,
        quality=quality,
        model=NO_MODEL,
        check=check,
        depth=DEPTHS.index(picture.depth),
    )
    return Container(header)


def _check(pixels: Samples) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes())


def stored_picture(container: Container, max_pixels: int) -> Picture:
    """The picture of a container that holds it in another format.

    Raises:
        FileFormatError: damaged, or more pixels than the limit.
        MissingDependencyError: it is AVIF, which this build of Pillow does not read.
    """
    header = container.header
    check_size(header.width, header.height, 1, max_pixels, FileFormatError)
    channels = {"RGB": 3, "L": 1}[COLOURS[header.colour]]
    depth = DEPTHS[header.depth]
    if container.avif:
        pixels = avif_pixels(container.avif, header.width, header.height, channels, "section V (picture)")
        return with_pixels(container, pixels)
    pixels = unpacked(container.lossless, header.width, header.height, channels, depth, "section P (picture)")
    if _check(pixels) != header.check:
        raise FileFormatError("the lossless picture fails its check value; the file is damaged")
    return with_pixels(container, pixels)


class _Rated(NamedTuple):
    """A file of a picture that is a candidate, and what is wrong with what it shows."""

    size: int
    """Bytes of the picture's sections."""
    squared: int
    """Sum of squared errors over all colours, in levels of 255."""
    lost: float
    """λ·D in bits."""
    avif: bytes = b""
    """Empty where a model coded it."""

    @property
    def cost(self) -> float:
        """λ·D + R in bits."""
        return self.lost + 8 * self.size


_Look = Callable[[Samples], tuple[int, float]]


def better_stored(
    picture: Picture,
    quality: int,
    coded: Encoded,
    weight: float,
    tune: str,
    look: _Look,
) -> Container | None:
    """A container of the picture in another format, if that is better than what a model coded of it; else None.

    Of drawings it is one as AVIF if that has less λ·D + R, and one without loss if that has less than AVIF;
    of any picture one without loss if that is no larger than what the model coded. A warning tells where it is a little
    larger, and the coded one that bad that it still has more λ·D + R.

    Args:
        quality: what was asked for, in 1/256.
        coded: whose errors were measured.
        weight: λ of squared errors at that quality.
        tune: what D is.
        look: (squared, lost) of pixels (H, W, C) that are shown, as :class:`Encoded` has them.
    """
    drawn, best = is_drawn(picture.pixels), _Rated(coded.size, coded.squared, coded.lost)
    if drawn and can_write(picture.pixels):
        stream = avif_stream(picture.pixels, avif_quality(weight), tune)
        with suppress(FileFormatError):  # a libavif that writes in another way than the format has it
            shown = avif_pixels(stream, picture.width, picture.height, picture.pixels.shape[2], "the picture")
            best = min(best, _Rated(len(stream), *look(shown), stream), key=lambda rated: rated.cost)
    if drawn or 8 * len(packed(picture.pixels, effort=0)) <= _FAR * best.cost:
        file = packed(picture.pixels)
        cheaper = 8 * len(file) <= best.cost
        if len(file) <= best.size or (best.avif and cheaper):
            return replace(_container(picture, quality, _check(picture.pixels)), lossless=file)
        if cheaper:
            _warn(best, len(file), picture)
    return replace(_container(picture, quality), avif=best.avif) if best.avif else None


def lossless_file(picture: Picture, quality: int) -> bytes:
    """A `.dcae` file of a picture without loss; arguments as of :func:`better_stored`."""
    container = replace(_container(picture, quality, _check(picture.pixels)), lossless=packed(picture.pixels))
    return write_container(with_companions(container, picture))


def _warn(best: _Rated, lossless: int, picture: Picture) -> None:
    mse = best.squared / (3 * picture.width * picture.height)
    warnings.warn(
        f"the model does badly on this picture: {10 * math.log10(255**2 / max(mse, 1e-9)):.1f} dB in {best.size} "
        f"bytes, and without loss it takes {lossless} bytes",
        PictureWarning,
        stacklevel=4,
    )
