"""Typefaces to draw with: what the machine has, matplotlib's, and Pillow's own.

They are read into memory once per process, so that fonts that come or go during a run change nothing.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import sys
from pathlib import Path
from typing import NamedTuple

from PIL import ImageFont

_MOST = 48
_MOST_BYTES = 2_000_000

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Face(NamedTuple):
    """A typeface, with its file's name in lower case; `data` is the file's content, none for Pillow's own."""

    name: str
    data: bytes | None

    @property
    def fixed_width(self) -> bool:
        return any(part in self.name for part in ("mono", "cour", "consola", "cmtt", "code"))

    @property
    def regular(self) -> bool:
        """Whether it is neither bold nor slanted, as most text is."""
        return not any(part in self.name for part in ("bold", "bol", "italic", "oblique", "light", "cmb", "cmti"))


def _folders(installed: bool) -> list[Path]:
    """Where font files are looked for: in matplotlib and, if `installed`, where the machine keeps its own."""
    spec = importlib.util.find_spec("matplotlib")
    found = [Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"] if spec and spec.origin else []
    if not installed:
        return found
    if sys.platform == "win32":
        return [*found, Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts"]
    if sys.platform == "darwin":
        return [*found, Path("/System/Library/Fonts"), Path("/Library/Fonts")]
    return [*found, Path("/usr/share/fonts"), Path("/usr/local/share/fonts")]


@functools.cache
def faces(installed: bool) -> tuple[Face, ...]:
    """Typefaces with Latin letters, Pillow's own first, then by the names of their files; at least one.

    Args:
        installed: whether those of the machine are among them; without, they are the same everywhere.
    """
    files: dict[str, Path] = {}
    for folder in _folders(installed):
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.suffix.lower() in (".ttf", ".otf"):
                files.setdefault(path.stem.lower(), path)
    names = sorted(files)
    found = [Face("pillow", None)]
    for name in names[:: max(1, len(names) // _MOST)]:
        try:
            if files[name].stat().st_size <= _MOST_BYTES:
                face = Face(name, files[name].read_bytes())
                if _has_letters(face):
                    found.append(face)
        except OSError:  # unreadable, or no font
            continue
    return tuple(found)


def _has_letters(face: Face) -> bool:
    """Whether it draws letters: fonts of symbols have other shapes in their places, or one box in all of them."""
    opened = ImageFont.truetype(io.BytesIO(face.data or b""), 24)
    (_, dot), (narrow, low), (wide, high) = (opened.getmask(letter).size for letter in ".xW")
    return dot < low < high and narrow <= wide and bytes(opened.getmask("l")) != bytes(opened.getmask("g"))


@functools.lru_cache(1024)
def font(face: Face, size: int) -> Font:
    """A typeface at a size in pixels."""
    if face.data is None:
        return ImageFont.load_default(size)
    # The simple layout is the same wherever Pillow was built.
    return ImageFont.truetype(io.BytesIO(face.data), size, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(1024)
def tripled(letters: ImageFont.FreeTypeFont) -> ImageFont.FreeTypeFont:
    """The same typeface at three times the size."""
    return letters.font_variant(size=3 * letters.size)
