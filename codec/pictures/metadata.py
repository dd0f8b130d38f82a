"""EXIF and XMP of picture files: found, and made to say that the picture is upright."""

from __future__ import annotations

import re
import struct
from contextlib import suppress

from PIL import ExifTags, Image

_ORIENTATION = int(ExifTags.Base.Orientation)
_DESCRIPTIVE = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
)
"""What is taken from the directory of a TIFF file, most of which describes how that file lies."""
XMP_TAG = 700
"""Where TIFF files have XMP."""
_PREFIX = b"Exif\0\0"
_WHOLE = {3: "H", 4: "I"}
"""EXIF's types SHORT, which is the usual one of an orientation, and LONG."""


def orientation_of(image: Image.Image) -> int:
    """How the pixels of an opened file lie, 1 (upright) to 8 as EXIF has it; 1 where it says nothing sensible."""
    with suppress(Exception):  # a damaged EXIF block makes Pillow raise almost anything, and says nothing of the pixels
        value = image.getexif().get(_ORIENTATION, 1)
        return value if value in range(1, 9) else 1
    return 1


def exif_of(image: Image.Image) -> bytes:
    """EXIF of an opened file as a TIFF stream whose orientation is 1; empty where there is none or it is damaged."""
    with suppress(Exception):
        if image.format == "TIFF":
            return _exif_of_tiff(image)
        data = image.info.get("exif", b"")
        if not data and (text := image.info.get("Raw profile type exif")):  # of PNGs before they had a chunk for it
            data = bytes.fromhex("".join(text.split("\n")[3:]))
        if isinstance(data, bytes):
            return upright(data.removeprefix(_PREFIX))
    return b""


def _exif_of_tiff(image: Image.Image) -> bytes:
    found, kept = image.getexif(), Image.Exif()
    for tag in _DESCRIPTIVE:
        if tag in found:
            kept[tag] = found[tag]
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if entries := found.get_ifd(directory):
            kept[directory] = entries
    return kept.tobytes().removeprefix(_PREFIX) if len(kept) else b""


def upright(exif: bytes) -> bytes:
    """An EXIF block with the orientation of its picture (not of its thumbnail) set to 1; all other bytes stay where
    they are, since makers' notes refer to positions. Empty if it is no EXIF block."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return b""
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(order + "HHI", exif, entry)
            if tag == _ORIENTATION and number == 1 and kind in _WHOLE:  # which lie in the entry itself
                struct.pack_into(order + _WHOLE[kind], changed := bytearray(exif), entry + 8, 1)
                exif = bytes(changed)
    except struct.error:
        return b""
    return exif


def xmp_of(image: Image.Image) -> bytes:
    """XMP packet of an opened file, its orientation taken out; empty where there is none."""
    data = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if image.format == "TIFF":
        data = getattr(image, "tag_v2", {}).get(XMP_TAG, data)
    if isinstance(data, str):
        data = data.encode()
    if not isinstance(data, bytes):
        return b""
    for pattern in (rb'tiff:Orientation\s*=\s*["\'][0-9]["\']', rb"<tiff:Orientation>[0-9]</tiff:Orientation>"):
        data = re.sub(pattern, b"", data)
    return data.rstrip(b"\0")
