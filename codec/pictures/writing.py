"""Pictures to picture files, with what they know; what a kind of file cannot hold is said."""

from __future__ import annotations

import io
import warnings
import zlib
from dataclasses import replace
from typing import Any

from PIL import Image, PngImagePlugin

from dcae.codec.output import DEEP, FULL_COLOUR_FROM, LOSSY, PICTURE_QUALITY, check_depth
from dcae.codec.pictures.deep import write_deep
from dcae.codec.pictures.metadata import XMP_TAG
from dcae.codec.pictures.picture import Metadata, Picture
from dcae.errors import OptionError, PictureWarning

METADATA = {
    "PNG": {"EXIF", "XMP", "ICC profile"},
    "TIFF": {"EXIF", "XMP", "ICC profile"},
    "JPEG": {"EXIF", "XMP", "ICC profile"},
    "WEBP": {"EXIF", "XMP", "ICC profile"},
    "AVIF": {"EXIF", "XMP", "ICC profile"},
    "HEIF": {"EXIF", "XMP", "ICC profile"},
}
"""What kinds of files can hold beside pixels."""
ALPHA = {"PNG", "TIFF", "WEBP", "AVIF", "HEIF", "TGA", "JPEG2000", "ICO", "ICNS", "SGI", "DDS", "QOI"}
_LARGEST_ICON = 256
_ICNS_SIDES = (16, 32, 64, 128, 256, 512, 1024)
_JPEG_SEGMENT = 65533 - len(b"http://ns.adobe.com/xap/1.0/\0")
"""Bytes of EXIF or XMP that fit into a JPEG file."""


def picture_file(picture: Picture, kind: str, depth: int | None = None, quality: int | None = None) -> bytes:
    """A picture as the bytes of a picture file.

    Args:
        kind: Pillow's name, like "PNG".
        depth: bits of a sample, 8 or 16; by default those of the picture as far as the kind can hold them.
        quality: of kinds with loss, 1 to 100 as Pillow has it; by default `PICTURE_QUALITY`.

    Raises:
        OptionError: a picture that this kind of file cannot hold.

    Warns:
        PictureWarning: metadata that it cannot hold.
    """
    check_depth(kind, depth)
    if depth is None and picture.depth > 8 and kind not in DEEP:
        warnings.warn(
            f"written with 8 bits of {picture.depth}, {kind} holds no more; PNG does", PictureWarning, stacklevel=2
        )
    if kind == "TIFF" and (depth or picture.depth) == 16 and picture.mode == "L" and picture.alpha is not None:
        raise OptionError("TIFF is not written with gray and alpha of 16 bits; use PNG, or a depth of 8")
    picture = picture.at_depth((depth or picture.depth) if kind in DEEP else 8)
    if picture.alpha is not None and kind not in ALPHA:
        raise OptionError(f"{kind} holds no transparency; use PNG, or name a background")
    deep = picture.depth == 16 and (picture.mode == "RGB" or picture.alpha is not None)
    picture = _holdable(picture, kind, deep)
    if not deep:
        return _saved(picture.image(), kind, _metadata_options(picture, kind), quality)
    chunks = {}
    if kind == "PNG" and picture.metadata.named():  # as Pillow writes them
        chunks = {"like": _saved(Image.new("L", (1, 1)), "PNG", _metadata_options(picture, kind), None)}
    return write_deep(picture, kind, **chunks)


def _holdable(picture: Picture, kind: str, deep: bool) -> Picture:
    """The picture without the metadata that the kind cannot hold."""
    held, metadata = METADATA.get(kind, set()), picture.metadata
    if deep and kind == "TIFF":  # tifffile writes no directories within a directory
        held = held - {"EXIF"}
    lost = [name for name in metadata.named() if name not in held]
    if kind == "JPEG":
        lost += [name for name in ("EXIF", "XMP") if len(metadata.named().get(name, b"")) > _JPEG_SEGMENT]
    if lost:
        warnings.warn(f"{kind} cannot hold the picture's {' and '.join(lost)}; PNG does", PictureWarning, stacklevel=3)
        fields = {"EXIF": "exif", "XMP": "xmp", "ICC profile": "icc"}
        metadata = replace(metadata, **{fields[name]: b"" for name in lost})
    return replace(picture, metadata=metadata)


def _saved(image: Image.Image, kind: str, options: dict[str, Any], quality: int | None) -> bytes:
    if kind == "QOI" and image.mode in ("L", "LA"):  # which it does not have
        image = image.convert("RGBA" if image.mode == "LA" else "RGB")
    if kind == "ICO":  # Pillow makes them smaller, without a word
        if max(image.size) > _LARGEST_ICON:
            raise OptionError(f"ICO holds at most {_LARGEST_ICON} pixels a side", f"shrink it: --fit {_LARGEST_ICON}")
        options["sizes"] = [image.size]
    if kind == "ICNS" and (image.width != image.height or image.width not in _ICNS_SIDES):
        sides = ", ".join(map(str, _ICNS_SIDES))
        raise OptionError(f"ICNS holds squares of {sides} pixels alone, the picture has {image.width}x{image.height}")
    if kind == "PNG":
        # Decoded pictures repeat little but single bytes: to look for nothing else is faster and leaves fewer bytes.
        options["compress_level"], options["compress_type"] = 1, zlib.Z_RLE
    elif kind in LOSSY:
        options["quality"] = PICTURE_QUALITY if quality is None else quality
        if kind in ("JPEG", "AVIF") and options["quality"] >= FULL_COLOUR_FROM:
            options["subsampling"] = "4:4:4"
        elif kind == "HEIF" and options["quality"] >= FULL_COLOUR_FROM:
            options["chroma"] = 444
    for key in ("exif", "xmp", "icc_profile"):
        image.info.pop(key, None)  # Pillow would write what it finds there
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **options)
    except MemoryError:
        raise
    except Exception as error:  # a picture too large for the format makes Pillow's writers raise almost anything
        raise OptionError(f"Pillow cannot write this picture as {kind} ({error})") from error
    return buffer.getvalue()


def _metadata_options(picture: Picture, kind: str) -> dict[str, Any]:
    metadata = picture.metadata
    options: dict[str, Any] = {}
    if kind == "TIFF":  # where the directories of EXIF are the file's
        options["exif"] = _directories(metadata)
    elif metadata.exif:
        options["exif"] = b"Exif\0\0" + metadata.exif
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    if metadata.xmp and kind == "PNG":
        options["pnginfo"] = text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    elif metadata.xmp and kind != "TIFF":
        options["xmp"] = metadata.xmp
    return options


def _directories(metadata: Metadata) -> Image.Exif:
    exif = Image.Exif()
    try:
        exif.load(metadata.exif)
        exif.tobytes()
    except Exception:  # the EXIF of a stranger's file may be anything
        warnings.warn("the picture's EXIF is damaged and not written", PictureWarning, stacklevel=4)
        exif = Image.Exif()
    if metadata.xmp:
        exif[XMP_TAG] = metadata.xmp
    return exif
