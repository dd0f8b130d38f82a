"""Colour of 16 bits in PNG and TIFF files, which Pillow reads as 8 bits: read and written by pypng and tifffile."""

from __future__ import annotations

import io
import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dcae.codec.pictures.metadata import XMP_TAG
from dcae.codec.pictures.picture import Picture
from dcae.errors import PictureError

BITS, _COLOURS = 258, 262
"""TIFF's tags BitsPerSample and PhotometricInterpretation."""
_GRAY, _RGB = (0, 1), 2
"""TIFF's photometric interpretations: white is zero, black is zero; red, green, blue."""
_DEFLATE = (8, 32946)
_COMPRESSIONS = (1, 5, *_DEFLATE, 32773)
"""TIFF's numbers of Deflate; and of none, LZW, Deflate and PackBits."""
_ROWS = 64
"""Rows that are converted at a time."""
_PIECE = 1 << 20
"""Bytes that are expanded at a time."""


def is_deep(image: Image.Image) -> bool:
    """Whether a file that Pillow has opened, and not yet decoded, has samples of 16 bits that Pillow would not keep."""
    kept = image.mode.startswith("I") and "transparency" not in image.info
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        return 16 in tags.get(BITS, ()) and (not kept or tags.get(_COLOURS) == _GRAY[0])  # Pillow does not invert it
    return not kept and any(";16" in str(tile[3]) for tile in getattr(image, "tile", []))


def read_deep(data: bytes, kind: str, frame: int) -> NDArray[np.uint16]:
    """Samples (H, W, C) uint16 of a file: gray, gray and alpha, red green blue, or these and alpha.

    Args:
        kind: "PNG" or "TIFF".
        frame: page of a TIFF file, from 0.

    Raises:
        PictureError: damaged, or of a kind that is not read.
    """
    try:
        samples = _read_png(data) if kind == "PNG" else _read_tiff(data, frame)
    except (MemoryError, PictureError):
        raise
    except Exception as error:  # a damaged file can make readers raise almost anything
        raise PictureError(f"16-bit {kind} that cannot be read ({error})") from error
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.dtype != np.uint16 or samples.ndim != 3 or not 1 <= samples.shape[2] <= 4:
        raise PictureError(f"{kind} with samples of {samples.dtype} in the shape {samples.shape}, which is not coded")
    return samples


def _read_png(data: bytes) -> NDArray[np.uint16]:
    import png

    reader = png.Reader(bytes=data)
    reader.preamble()
    reader.sbit = None  # by which pypng would make less of the samples, and the picture dark
    _check_expansion(data, reader.width, reader.height, reader.planes)
    width, height, rows, info = reader.asDirect()
    samples = np.empty((height, width * info["planes"]), np.uint16)
    for target, row in zip(samples, rows, strict=True):
        target[:] = row
    return samples.reshape(height, width, info["planes"])


def _check_expansion(data: bytes, width: int, height: int, planes: int) -> None:
    """Refuse a PNG file whose samples expand to more than its picture: pypng expands all that there is, at once.

    Raises:
        PictureError: it does.
    """
    import png

    left = 2 * width * height * planes + 2 * height + 8  # interlaced rows are at most twice as many, and begin with one
    stream = zlib.decompressobj()
    for kind, contents in png.Reader(bytes=data).chunks():
        while kind == b"IDAT" and contents and not stream.eof:
            left -= len(stream.decompress(contents, _PIECE))
            contents = stream.unconsumed_tail
            if left < 0:
                raise PictureError("the PNG expands to more than its picture; it is damaged")


def _read_tiff(data: bytes, frame: int) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[frame]
        photometric = int(page.photometric)
        if photometric not in (*_GRAY, _RGB):
            raise PictureError(f"16-bit TIFF of the colours {page.photometric.name}; convert it to RGB")
        _check_page(file, page)
        try:
            samples: NDArray[Any] = page.asarray()
        except ValueError as error:
            if "imagecodecs" in str(error):
                needs = f"16-bit TIFF that needs another library ({error})"
                raise PictureError(needs, "pip install imagecodecs") from error
            raise
        if samples.ndim == 3 and int(getattr(page, "planarconfig", 1)) == 2:
            samples = np.moveaxis(samples, 0, -1)  # colour by colour
        if samples.ndim == 3 and samples.shape[2] in (2, 4):
            samples = _with_alpha(samples, int(page.extrasamples[0]) if page.extrasamples else 0)
        return ~samples if photometric == 0 else samples


def _with_alpha(samples: NDArray[Any], meaning: int) -> NDArray[Any]:
    """Colours and straight alpha (H, W, C), or colours alone, of samples whose last channel is what TIFF's tag
    ExtraSamples says: 1 alpha that the colours have been multiplied with, 2 alpha, else none."""
    if meaning == 2:
        return samples
    if meaning != 1:
        return samples[..., :-1]
    found = np.empty_like(samples)
    for row in range(0, len(samples), _ROWS):
        part = samples[row : row + _ROWS].astype(np.float32)
        colours = part[..., :-1] * (65535 / np.maximum(part[..., -1:], 1))
        found[row : row + _ROWS, :, :-1] = np.rint(colours.clip(0, 65535))
    found[..., -1] = samples[..., -1]
    return found


def _check_page(file: Any, page: Any) -> None:
    """Refuse a page of TIFF that expands to more than its picture: tifffile expands all that there is, at once.

    Raises:
        PictureError: it does, or is compressed as nothing that is read.
    """
    compression = int(page.compression)
    if page.imagedepth != 1 or page.samplesperpixel > 4 or compression not in _COMPRESSIONS:
        raise PictureError("16-bit TIFF with several layers, or compressed otherwise than by LZW or Deflate")
    if compression not in _DEFLATE:
        return
    most = math.prod(page.chunks) * page.dtype.itemsize
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.filehandle.seek(offset)
        stream = zlib.decompressobj()
        if len(stream.decompress(file.filehandle.read(count), most + 1)) > most:
            raise PictureError("the TIFF expands to more than its picture; it is damaged")


def write_deep(picture: Picture, kind: str, like: bytes = b"") -> bytes:
    """A picture of 16 bits as a "PNG" or "TIFF" file; the latter without its EXIF.

    Args:
        like: a PNG file with the metadata that the PNG shall have.
    """
    layers = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    buffer = io.BytesIO()
    if kind == "PNG":
        _write_png(buffer, picture, layers)
        return _with_metadata(buffer.getvalue(), like) if like else buffer.getvalue()
    import tifffile

    xmp = picture.metadata.xmp
    tifffile.imwrite(
        buffer,
        layers if layers.shape[2] > 1 else layers[..., 0],
        photometric="rgb" if picture.mode == "RGB" else "minisblack",
        planarconfig="contig" if layers.shape[2] > 1 else None,
        extrasamples=None if picture.alpha is None else ["unassalpha"],
        compression="zlib",
        metadata=None,
        software=False,
        iccprofile=picture.metadata.icc or None,
        extratags=[(XMP_TAG, 1, len(xmp), xmp, True)] if xmp else [],
    )
    return buffer.getvalue()


def _write_png(buffer: io.BytesIO, picture: Picture, layers: NDArray[Any]) -> None:
    import png

    writer = png.Writer(
        picture.width,
        picture.height,
        greyscale=picture.mode == "L",
        alpha=picture.alpha is not None,
        bitdepth=16,
        compression=1,
    )
    rows = layers.reshape(picture.height, -1)
    writer.write_packed(buffer, (row.astype(">u2").tobytes() for row in rows))  # what `write` does number by number


def _with_metadata(file: bytes, like: bytes) -> bytes:
    """A PNG file with the metadata of another."""
    import png

    told = [(kind, data) for kind, data in png.Reader(bytes=like).chunks() if kind in (b"iCCP", b"eXIf", b"iTXt")]
    header, *rest = png.Reader(bytes=file).chunks()
    buffer = io.BytesIO()
    png.write_chunks(buffer, [header, *told, *rest])
    return buffer.getvalue()
