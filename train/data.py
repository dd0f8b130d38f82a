"""Training pictures: a folder decoded once into memory, random patches cut from it.

Every sample is drawn by a random generator of its own, seeded with (seed, step, place in the global batch): what
is drawn depends neither on how many processes share a batch nor on when a run was interrupted.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

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

    def read(path: Path) -> np.ndarray | None:
        try:
            with Image.open(path) as image:
                pixels = np.array(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            log.warning("%s: skipped, unreadable (%s)", path, error)
            return None
        if min(pixels.shape[:2]) < smallest:
            log.warning("%s: skipped, smaller than %d pixels", path, smallest)
            return None
        return pixels

    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = [p for p in pool.map(read, paths) if p is not None]
    if not pictures:
        raise OptionError(f"{folder}: no picture of at least {smallest}x{smallest} pixels in it")
    return pictures


def split(pictures: list[np.ndarray], every: int = 60) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Training and validation pictures: every `every`-th is held out, of a smaller set the last.

    They are disjoint unless there is only one picture.
    """
    if len(pictures) < every:
        return (pictures[:-1] or pictures), pictures[-1:]
    return [p for k, p in enumerate(pictures) if k % every != every - 1], pictures[every - 1 :: every]


class Batch(NamedTuple):
    """One process's part of a step's samples."""

    pixels: Tensor
    """(B, 3, P, P) uint8, on the device of training."""
    draws: np.ndarray
    """(B,) uniform in [0, 1), for what else is random per sample (the quality)."""


class Patches:
    """Random square patches: pictures are drawn by their area, then a place, a flip, and sometimes a shrinking.

    Args:
        pictures: (H, W, 3) uint8 each.
        downscale: share of patches that are shrunk by a random factor up to 2.
        device: where patches are wanted; the pictures are kept there when they take at most a third of its free
            memory.
    """

    def __init__(self, pictures: list[np.ndarray], downscale: float, seed: int, device: str = "cpu") -> None:
        self.downscale = downscale
        self.seed = seed
        self.device = torch.device(device)
        store = self.device
        if store.type == "cuda" and sum(p.nbytes for p in pictures) > torch.cuda.mem_get_info(store)[0] / 3:
            store = torch.device("cpu")
        self.pictures = [torch.from_numpy(p).to(store).permute(2, 0, 1) for p in pictures]
        area = np.array([p.shape[1] * p.shape[2] for p in self.pictures], float)
        self.share = np.cumsum(area / area.sum())

    def _one(self, rng: np.random.Generator, patch: int) -> Tensor:
        picture = self.pictures[min(int(np.searchsorted(self.share, rng.random())), len(self.pictures) - 1)]
        shrink, factor, flip, turn = rng.random(4)
        side = patch
        if shrink < self.downscale:
            side = min(int(patch * (1 + factor)), *picture.shape[1:])
        top, left = (int(rng.integers(0, n - side + 1)) for n in picture.shape[1:])
        cut = picture[:, top : top + side, left : left + side]
        if side != patch:
            cut = F.interpolate(cut[None].float(), (patch, patch), mode="bicubic", antialias=True)[0]
            cut = cut.round().clamp(0, 255).to(torch.uint8)
        if flip < 0.5:
            cut = cut.flip(2)
        return cut.transpose(1, 2) if turn < 0.5 else cut

    def batch(self, step: int, patch: int, first: int, count: int) -> Batch:
        """Samples `first` to `first + count - 1` of this step's global batch."""
        cuts, draws = [], []
        for place in range(first, first + count):
            rng = np.random.default_rng((self.seed, step, place))
            draws.append(rng.random())
            cuts.append(self._one(rng, patch))
        pixels = torch.stack(cuts).contiguous(memory_format=torch.channels_last)
        return Batch(pixels.to(self.device, non_blocking=True), np.array(draws))


class Loader:
    """Patches of consecutive steps, the next step's being cut in a thread while this one's are trained on."""

    def __init__(self, patches: Patches, rank: int) -> None:
        self.patches = patches
        self.rank = rank
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[tuple[int, int, int], Future[Batch]] | None = None

    def batch(self, step: int, patch: int, count: int) -> Batch:
        """This process's `count` samples of `step`."""
        asked = (step, patch, count)
        ready = self._next[1] if self._next and self._next[0] == asked else self._submit(asked)
        following = (step + 1, patch, count)
        self._next = following, self._submit(following)
        return ready.result()

    def _submit(self, asked: tuple[int, int, int]) -> Future[Batch]:
        step, patch, count = asked
        return self._pool.submit(self.patches.batch, step, patch, self.rank * count, count)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def to_float(pixels: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return pixels.float() / 255
