"""What lies in a file without loss: alpha and metadata beside the coded picture, or in its place the whole picture."""

from __future__ import annotations

import math
import warnings
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dcae.codec.container import Container
from dcae.codec.fields import COLOURS, DEPTHS, Header
from dcae.codec.limits import check_size
from dcae.codec.pictures.alpha import packed, unpacked
from dcae.codec.pictures.picture import Metadata, Picture, Samples
from dcae.errors import FileFormatError, PictureWarning

if TYPE_CHECKING:
    from dcae.codec.encoder import Encoded

NO_MODEL = bytes(8)
"""What a lossless file has in place of the first bytes of a model id."""
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


def lossless_container(picture: Picture, quality: int, file: bytes) -> Container:
    """A container that holds a picture without loss; alpha and metadata are to be added.

    Args:
        quality: what was asked for, in 1/256; tells nothing here.
        file: the pixels as `packed` gives them.
    """
    header = Header(
        width=picture.width,
        height=picture.height,
        colour=COLOURS.index(picture.mode),
        numerics=0,
        quality=quality,
        model=NO_MODEL,
        check=_check(picture.pixels),
        depth=DEPTHS.index(picture.depth),
    )
    return Container(header, lossless=file)


def _check(pixels: Samples) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes())


def lossless_picture(container: Container, max_pixels: int) -> Picture:
    """The picture of a lossless container.

    Raises:
        FileFormatError: damaged, or more pixels than the limit.
    """
    header = container.header
    check_size(header.width, header.height, 1, max_pixels, FileFormatError)
    channels = {"RGB": 3, "L": 1}[COLOURS[header.colour]]
    depth = DEPTHS[header.depth]
    pixels = unpacked(container.lossless, header.width, header.height, channels, depth, "section P (picture)")
    if _check(pixels) != header.check:
        raise FileFormatError("the lossless picture fails its check value; the file is damaged")
    return with_pixels(container, pixels)


def better_lossless(picture: Picture, coded: Encoded) -> bytes | None:
    """The picture's pixels as a lossless file, if that is no larger than what was coded of them; else None, with a
    warning where the coded file is that much worse that the lossless one has less λ·D + R.

    Args:
        coded: whose errors were measured.
    """
    cost, hasty = coded.cost, len(packed(picture.pixels, effort=0))
    if 8 * hasty > _FAR * cost:
        return None
    file = packed(picture.pixels)
    if len(file) <= coded.size:
        return file
    if 8 * len(file) < cost:
        mse = coded.squared / (3 * picture.width * picture.height)
        warnings.warn(
            f"the model does badly on this picture: {10 * math.log10(255**2 / max(mse, 1e-9)):.1f} dB in {coded.size} "
            f"bytes, and without loss it takes {len(file)} bytes",
            PictureWarning,
            stacklevel=2,
        )
    return None
