"""Types of picture files that are written: which one is asked for, and whether it has a quality."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from dcae.codec.pictures import heif
from dcae.errors import OptionError

PICTURE_QUALITY = 95
"""Quality of lossy types unless the caller says otherwise: high, since the picture was compressed once already."""
LOSSY = ("JPEG", "WEBP", "AVIF", "HEIF")
"""Types whose quality is a number up to 100."""
DEEP = ("PNG", "TIFF")
"""Types that are written with 16 bits a sample."""
FULL_COLOUR_FROM = 90
"""JPEG quality from which colours are stored at the full resolution."""


def picture_type(name: str, output: str) -> str:
    """Pillow's name of a picture type.

    Args:
        name: suffix of a file, with or without its dot.
        output: what is written, for the message.

    Raises:
        OptionError: Pillow writes no such type.
    """
    suffix = f".{name.lower().lstrip('.')}"
    if suffix in heif.SUFFIXES and not heif.register_heif():
        raise OptionError(f"{output}: {heif.NEEDED[0]}", heif.NEEDED[1])
    Image.preinit()  # the usual types; all others take as long to import as NumPy
    kind = Image.EXTENSION.get(suffix) or Image.registered_extensions().get(suffix)
    if kind is None or kind not in Image.SAVE:
        raise OptionError(f"{output}: no picture type that Pillow writes; use .png")
    return kind


def type_of(output: str, wanted: str | None = None) -> str:
    """Pillow's name of the type that an output is written as: the one that is wanted, else that of its suffix, and PNG
    for `-`.

    Raises:
        OptionError: Pillow writes no such type, or the suffix is another type's.
    """
    if wanted is None:
        return picture_type(".png" if output == "-" else Path(output).suffix, output)
    kind, suffix = picture_type(wanted, f"--format {wanted}"), Path(output).suffix.lower()
    if Image.registered_extensions().get(suffix, kind) != kind:
        raise OptionError(f"{output}: a name of another type than {wanted}", "leave out --format")
    return kind


def check_quality(kind: str, quality: int | None) -> None:
    """Refuse a quality for a type that has none.

    Raises:
        OptionError: it has none.
    """
    if quality is not None and kind not in LOSSY:
        raise OptionError(f"{kind} has no quality; JPEG, WebP, AVIF and HEIC have", "leave out --picture-quality")


def check_depth(kind: str, depth: int | None) -> None:
    """Refuse 16 bits a sample for a type that has 8.

    Raises:
        OptionError: it has.
    """
    if depth == 16 and kind not in DEEP:
        raise OptionError(f"{kind} files are not written with 16 bits; use PNG or TIFF, or a depth of 8")
