"""Training pictures for a bundle: which there are, which of them are held out, and shards of them."""

from __future__ import annotations

import csv
import hashlib
import io
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from kit.pieces import KitError

_ROUNDED_UP = 2048
"""Bytes that an archive adds to a file at most."""


class Listed(NamedTuple):
    """A picture file that will travel."""

    path: Path
    part: str
    """Name of the folder that it lies in, here and there."""
    source: str
    held_out: bool

    @property
    def size(self) -> int:
        return self.path.stat().st_size + _ROUNDED_UP


def listed_pictures(folder: Path, smallest: int) -> list[Listed]:
    """Pictures below `folder`, those that `dcae train` holds out first, then the others in a mixed order.

    Only headers are read; which are held out is decided from all of them, as training at home decides it, so that they
    stay held out wherever only a part of the pictures arrives.

    Raises:
        KitError: no pictures, or two of one name in folders of one name.
    """
    from dcae.files import PICTURE_SUFFIXES
    from dcae.train.data import LARGE_FOLDER, LARGE_PIXELS, Picture, manifest, source_of, split_usable

    rows, found = manifest(folder), []
    nothing = np.zeros((1, 1, 3), np.uint8)
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES):
        try:
            with Image.open(path) as image:
                width, height = image.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
        row = rows.get((path.parent.name, path.name), {})
        large = path.parent.name == LARGE_FOLDER or width * height >= LARGE_PIXELS
        pixels = np.broadcast_to(nothing, (height, width, 3))
        found.append((path, Picture(pixels, source_of(row, path.relative_to(folder)), large)))
    used, held_out = split_usable([picture for _, picture in found], smallest) if found else ([], [])
    found = [(path, p) for path, p in found if min(p.pixels.shape[:2]) >= smallest]
    if not used:
        raise KitError(f"{folder}: no picture of at least {smallest}x{smallest} pixels in it")
    if len({(path.parent.name, path.name) for path, _ in found}) < len(found):
        raise KitError(f"{folder}: two pictures of one name in folders of one name; rename one of the folders")
    held = {p.source for p in held_out}
    pictures = [Listed(path, path.parent.name, p.source, p.source in held) for path, p in found]
    return sorted(pictures, key=lambda p: (not p.held_out, hashlib.sha256(f"{p.part}/{p.path.name}".encode()).digest()))


def manifest_of(pictures: list[Listed]) -> str:
    """The list to lie beside the pictures, as `dcae train` reads it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["part", "file", "source_repo", "source_path", "held_out"])
    for p in pictures:
        repo, _, path = p.source.partition("/")
        writer.writerow([p.part, p.path.name, repo, path, "yes" if p.held_out else "no"])
    return text.getvalue()


def write_shard(path: Path, pictures: list[Listed]) -> None:
    """An archive of the files as they are, PART/FILE each."""
    with tarfile.open(path, "w") as archive:
        for p in pictures:
            archive.add(p.path, f"{p.part}/{p.path.name}", recursive=False)
