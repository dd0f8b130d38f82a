"""Training pictures: a folder decoded once into memory, random patches cut from it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from PIL import Image

from dcae.errors import OptionError
from dcae.files import PICTURE_SUFFIXES

log = logging.getLogger(__name__)


def load_folder(folder: Path, smallest: int) -> list[np.ndarray]:
    """All pictures below `folder`, in the order of their paths, as (H, W, 3) uint8.

    Unreadable files and pictures with a side below `smallest` pixels are logged and skipped.

    Raises:
        OptionError: no folder, or no usable picture in it.
    """
    if not folder.is_dir():
        raise OptionError(f"{folder}: no such folder of training pictures")
    pictures = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES):
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            log.warning("%s: skipped, unreadable (%s)", path, error)
            continue
        if min(pixels.shape[:2]) < smallest:
            log.warning("%s: skipped, smaller than %d pixels", path, smallest)
            continue
        pictures.append(pixels)
    if not pictures:
        raise OptionError(f"{folder}: no picture of at least {smallest}x{smallest} pixels in it")
    return pictures


def split(pictures: list[np.ndarray], every: int = 60) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Training and validation pictures: every `every`-th is held out (one of a tiny set)."""
    held = pictures[every - 1 :: every] or pictures[-1:]
    rest = [p for k, p in enumerate(pictures) if k % every != every - 1]
    return (rest or pictures), held


class Patches:
    """Random square patches: pictures are drawn by their area, then a place, a flip, and sometimes a shrinking."""

    def __init__(self, pictures: list[np.ndarray], patch: int, downscale: float, rng: np.random.Generator) -> None:
        self.pictures = pictures
        self.patch = patch
        self.downscale = downscale
        self.rng = rng
        area = np.array([p.shape[0] * p.shape[1] for p in pictures], float)
        self.share = np.cumsum(area / area.sum())

    def _one(self) -> np.ndarray:
        rng, patch = self.rng, self.patch
        index = min(int(np.searchsorted(self.share, rng.random())), len(self.pictures) - 1)
        picture = self.pictures[index]
        side = patch
        if rng.random() < self.downscale:
            side = min(int(patch * rng.uniform(1, 2)), *picture.shape[:2])
        top, left = (int(rng.integers(0, n - side + 1)) for n in picture.shape[:2])
        cut = picture[top : top + side, left : left + side]
        if side != patch:
            cut = np.asarray(Image.fromarray(cut).resize((patch, patch), Image.Resampling.BICUBIC))
        if rng.random() < 0.5:
            cut = cut[:, ::-1]
        if rng.random() < 0.5:
            cut = cut.swapaxes(0, 1)
        return cut

    def batch(self, size: int) -> np.ndarray:
        """(size, patch, patch, 3) uint8."""
        return np.stack([self._one() for _ in range(size)])
