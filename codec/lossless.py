"""What lies in a file without loss: alpha and metadata beside the coded picture, or in its place the whole picture."""

from __future__ import annotations

import warnings
import zlib
from dataclasses import replace

import numpy as np

from dcae.codec.container import COLOURS, DEPTHS, Container, Header
from dcae.codec.limits import check_size
from dcae.codec.pictures.alpha import packed, unpacked
from dcae.codec.pictures.picture import Metadata, Picture, Samples
from dcae.errors import FileFormatError, PictureWarning

NO_MODEL = bytes(8)
"""What a lossless file has in place of the first bytes of a model id."""
_FAR = 4
"""How many times larger than the coded streams a first, hasty lossless file is at least where the best one could not
be worth it unless the decoded picture is wrong."""


def with_companions(container: Container, picture: Picture) -> Container:
    """A container with the picture's alpha and metadata."""
    metadata = picture.metadata
    alpha = b"" if picture.alpha is None else packed(picture.alpha)
    return replace(container, alpha=alpha, exif=metadata.exif, xmp=metadata.xmp, icc=metadata.icc)


def with_pixels(container: Container, pixels: Samples) -> Picture:
    """The picture of a container whose pixels (H, W, C) are decoded, with its alpha and metadata.

    Raises:
        FileFormatError: alpha that cannot be read or is of another size.
    """
    height, width, _ = pixels.shape
    alpha = None
    if container.alpha:
        depth = 8 * pixels.dtype.itemsize
        alpha = unpacked(container.alpha, width, height, 1, depth, "section A (alpha)")[..., 0]
    return Picture(pixels, alpha, Metadata(container.exif, container.xmp, container.icc))


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


def better_lossless(picture: Picture, size: int, distortion: float, psnr: float) -> bytes | None:
    """The picture's pixels as a lossless file, if that is no larger than what was coded of them; else None, with a
    warning where the coded file is that much worse that the lossless one has less λ·D + R.

    Args:
        size: bytes of the coded streams.
        distortion: λ·D of the decoded picture, in bits.
        psnr: of the decoded picture, in dB.
    """
    hasty = len(packed(picture.pixels, effort=0))
    if hasty > _FAR * size and 8 * hasty > _FAR * distortion:
        return None
    file = packed(picture.pixels)
    if len(file) <= size:
        return file
    if 8 * len(file) < distortion + 8 * size:
        warnings.warn(
            f"the model does badly on this picture: {psnr:.1f} dB in {size} bytes, and without loss it takes "
            f"{len(file)} bytes",
            PictureWarning,
            stacklevel=2,
        )
    return None
