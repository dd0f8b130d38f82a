"""Folders of a video's frames: pictures of one size whose names are numbered."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from dcae.codec.batch import PICTURES, work_list
from dcae.errors import DCAEError, OptionError

_NAME = re.compile(r"(.*?)(\d+)(\D*)")


class _Frame(NamedTuple):
    number: int
    path: str


def frames_of(folder: str, say: Callable[[str], None]) -> tuple[str, ...]:
    """The frames in a folder, by the last number in their names.

    Args:
        say: told how many there are, and which numbers are missing between the first and the last.

    Raises:
        OptionError: no folder, a name without a number or with another text around it than the first's, two frames of
            one number, or of different sizes.
        DCAEError: no picture in it.
    """
    if not os.path.isdir(folder):
        raise OptionError(f"{folder}: --frames takes a folder of numbered pictures")
    paths = [source.path for source in work_list((folder,), PICTURES, False).sources]
    if not paths:
        raise DCAEError(f"{folder}: no picture in it")
    found = sorted(_numbered(paths))
    for before, after in pairwise(found):
        if before.number == after.number:
            raise OptionError(f"{before.path} and {after.path} have the same number; remove one")
    size = _same_size(found)
    missing = found[-1].number - found[0].number + 1 - len(found)
    first, last = (Path(each.path).name for each in (found[0], found[-1]))
    say(f"{len(found)} frames{size}, {first} to {last}")
    if missing:
        after = next(a for a, b in pairwise(found) if b.number > a.number + 1)
        say(f"{missing} numbers are missing, the first after {Path(after.path).name}; ffmpeg takes none with gaps")
    return tuple(each.path for each in found)


def _numbered(paths: list[str]) -> list[_Frame]:
    found: list[_Frame] = []
    texts: dict[tuple[str, str], str] = {}
    for path in paths:
        matched = _NAME.fullmatch(Path(path).stem)
        if matched is None:
            raise OptionError(f"{path}: no number in its name, which frames are ordered by; move it elsewhere")
        found.append(_Frame(int(matched[2]), path))
        texts.setdefault((matched[1], matched[3]), path)
    if len(texts) > 1:
        one, other, *_ = texts.values()
        raise OptionError(f"{one} and {other} differ in more than their number; give each video a folder of its own")
    return found


def _same_size(frames: list[_Frame]) -> str:
    """Text of the size that all of them have; what cannot be read will be named when its turn comes."""
    sizes: dict[tuple[int, int], str] = {}
    for frame in frames:
        try:
            with Image.open(frame.path) as image:
                sizes.setdefault(image.size, frame.path)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    if len(sizes) > 1:
        (one, first), (other, second), *_ = ((f"{w}x{h}", path) for (w, h), path in sizes.items())
        raise OptionError(
            f"{second}: {other} pixels, and {first} has {one}; frames of a video have one size (without --frames any "
            "pictures are taken)"
        )
    return "".join(f" of {width}x{height} pixels" for width, height in sizes)
