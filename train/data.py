"""Training pictures: a folder decoded once into memory, random patches cut from it.

Every sample is drawn by a random generator of its own, seeded with (seed, step, place in the global batch): what
is drawn depends neither on how many processes share a batch nor on when a run was interrupted.
"""

from __future__ import annotations

import csv
import logging
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dcae.codec.pictures.preparing import prepare
from dcae.errors import OptionError, PictureError
from dcae.files import PICTURE_SUFFIXES
from dcae.train.augment import before_plain_background, magnified, recoloured
from dcae.train.drawn import drawn_picture

log = logging.getLogger(__name__)
WITH_PHOTOGRAPH = 0.35
"""Share of the drawn patches that may show a photograph."""
NATIVE, BEFORE_PLAIN = 0.55, 0.2
"""Shares of the smooth patches that are cut from large pictures and put before a plain background; the others are
magnified."""


class Picture(NamedTuple):
    """A training picture in memory."""

    pixels: np.ndarray
    """(H, W, 3) uint8."""
    source: str
    """The photograph it was made from: pictures of one source are held out together."""
    large: bool
    """Whether it has the smoothness of a photograph at a camera's size: from a folder `part-large`, or large itself."""
    held_out: bool | None = None
    """Whether the list beside the pictures says that training must not see it; None where it says nothing."""


LARGE_FOLDER = "part-large"
LARGE_PIXELS = 1_500_000
MANIFEST = "MANIFEST.csv"
"""List of pictures in their folder or beside it, see :func:`load_folder`."""


def load_folder(folder: Path) -> list[Picture]:
    """Pictures below `folder`, in the order of their paths.

    A file MANIFEST.csv in it or beside it (columns part, file, source_repo and source_path) says which of them come
    from one photograph; without it each is a source of its own. A further column held_out (yes or no) says which of
    them :func:`split` shall hold out. Unreadable files are logged and skipped.

    Raises:
        OptionError: no folder, or no readable picture in it.
    """
    if not folder.is_dir():
        raise OptionError(f"{folder}: no such folder of training pictures")
    listed = manifest(folder)

    def read(path: Path) -> Picture | None:
        try:
            with Image.open(path) as image:
                deep = image.mode.startswith(("I", "F"))  # which Pillow would clip
                pixels = _of_16_bits(path) if deep else np.array(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, PictureError) as error:
            log.warning("%s: skipped, unreadable (%s)", path, error)
            return None
        large = path.parent.name == LARGE_FOLDER or pixels.size >= 3 * LARGE_PIXELS
        row = listed.get((path.parent.name, path.name), {})
        marked = {"yes": True, "no": False}.get(row.get("held_out", ""))
        return Picture(pixels, source_of(row, path), large, marked)

    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = [p for p in pool.map(read, paths) if p is not None]
    if not pictures:
        raise OptionError(f"{folder}: no picture in it that can be read")
    return pictures


def _of_16_bits(path: Path) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) of a gray picture with more than 8 bits."""
    return prepare(path).at_depth(8).pixels.astype(np.uint8).repeat(3, 2)


def manifest(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Rows of the list of pictures by (folder's name, file's name); nothing where there is no list."""
    for path in (folder / MANIFEST, folder.resolve().parent / MANIFEST):
        if path.is_file():
            try:
                rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
                return {(r["part"], r["file"]): r for r in rows if source_of(r, path)}
            except (OSError, ValueError, KeyError, csv.Error) as error:
                log.warning("%s: not a list of pictures' sources (%r); each picture counts as its own", path, error)
    return {}


def source_of(row: dict[str, str], path: Path) -> str:
    """The photograph that the picture at `path` was made from, by its row of the list (which may be empty)."""
    return f"{row['source_repo']}/{row['source_path']}" if row else str(path)


def read_split(folder: Path, smallest: int) -> tuple[list[Picture], list[Picture]]:
    """Training and held-out pictures below `folder` whose sides have `smallest` pixels or more.

    Which are held out does not depend on `smallest`, unless none of them would be left: a run that goes on with larger
    patches is not validated on what it has seen.

    Raises:
        OptionError: as :func:`load_folder`, or all pictures are smaller.
    """
    pictures = load_folder(folder)
    training, held_out = split_usable(pictures, smallest)
    used = len(training) + len(held_out)
    if not used:
        raise OptionError(f"{folder}: no picture of at least {smallest}x{smallest} pixels in it")
    if used < len(pictures):
        left_out = len(pictures) - used
        log.warning("%s: not used, as a side is below %d pixels: %d of the pictures", folder, smallest, left_out)
    return training, held_out


def split_usable(pictures: list[Picture], smallest: int) -> tuple[list[Picture], list[Picture]]:
    """Those of :func:`split` whose sides have `smallest` pixels or more; both empty if there are none."""

    def usable(pictures: list[Picture]) -> list[Picture]:
        return [p for p in pictures if min(p.pixels.shape[:2]) >= smallest]

    training, held_out = map(usable, split(pictures))
    if training and held_out:
        return training, held_out
    enough = usable(pictures)
    return split(enough) if enough else ([], [])


def split(pictures: list[Picture], every: int = 60) -> tuple[list[Picture], list[Picture]]:
    """Training and held-out pictures.

    Held out are every `every`-th picture (of a smaller set the last), of large ones more when there are few (up to 4
    sources and a fifth of them), and all other pictures of the same sources. Where the list beside the pictures marks
    some as held out, it is these instead. Disjoint unless all are of one source.
    """
    if marked := {p.source for p in pictures if p.held_out}:
        training = [p for p in pictures if p.source not in marked]
        return training or pictures, [p for p in pictures if p.source in marked]
    held = {p.source for p in pictures[every - 1 :: every]} or {pictures[-1].source}
    large = list(dict.fromkeys(p.source for p in pictures if p.large))
    wanted = min(4, len(large) // 5) if len(pictures) >= every else 0
    for source in large[3::5]:
        if len(held.intersection(large)) < wanted:
            held.add(source)
    training = [p for p in pictures if p.source not in held]
    if not training:
        return (pictures[:-1] or pictures), pictures[-1:]
    return training, [p for p in pictures if p.source in held]


class _Pool:
    """Pictures that are chosen by their area."""

    def __init__(self, pictures: list[Tensor]) -> None:
        self.pictures = pictures
        area = np.array([p.shape[1] * p.shape[2] for p in pictures], float)
        self.share = np.cumsum(area / area.sum()) if pictures else area

    def __len__(self) -> int:
        return len(self.pictures)

    def picture(self, rng: np.random.Generator) -> Tensor:
        return self.pictures[min(int(np.searchsorted(self.share, rng.random())), len(self) - 1)]


def _cut(rng: np.random.Generator, picture: Tensor, side: int) -> Tensor:
    """A square of a picture, (3, side, side)."""
    top, left = (int(rng.integers(0, n - side + 1)) for n in picture.shape[1:])
    return picture[:, top : top + side, left : left + side]


class Batch(NamedTuple):
    """One process's part of a step's samples."""

    pixels: Tensor
    """(B, 3, P, P) uint8, on the device of training."""
    draws: np.ndarray
    """(B,) uniform in [0, 1), for what else is random per sample (the quality)."""


class Patches:
    """Random square patches of pictures, mirrored and transposed at random.

    A share of them are as smooth as photographs at a camera's size: cut from large pictures at their own size, or made
    from others (:func:`magnified`, :func:`before_plain_background`). The rest come from the other pictures, each chosen
    by its area and sometimes shrunk.

    Args:
        downscale: share of the rest that is shrunk by a random factor up to 2.
        device: where patches are wanted; the pictures are kept there when they take at most a third of its free
            memory.
        smooth: share of the smooth ones; at 0 large pictures are chosen like all others.
        drawn: share of patches that are no photographs but drawn by code (:mod:`dcae.train.drawn`).
        colour: share of the photographs' patches that get other colours, brightness and contrast.
    """

    def __init__(
        self, pictures: list[Picture], downscale: float, seed: int, device: str = "cpu", *, smooth: float = 0.0,
        drawn: float = 0.0, colour: float = 0.0,
    ) -> None:  # fmt: skip
        self.downscale, self.smooth, self.drawn, self.colour = downscale, smooth, drawn, colour
        self.seed = seed
        self.device = torch.device(device)
        store = self.device
        if store.type == "cuda" and sum(p.pixels.nbytes for p in pictures) > torch.cuda.mem_get_info(store)[0] / 3:
            store = torch.device("cpu")
        tensors = [torch.from_numpy(p.pixels).to(store).permute(2, 0, 1) for p in pictures]
        self.all = _Pool(tensors)
        self.large = _Pool([t for t, p in zip(tensors, pictures, strict=True) if p.large])
        small = _Pool([t for t, p in zip(tensors, pictures, strict=True) if not p.large])
        self.rest = small if smooth and small else self.all

    def _one(self, rng: np.random.Generator, patch: int) -> Tensor:
        kind = rng.random()
        if kind < self.drawn:
            return self._drawn(rng, patch)
        cut = self._smooth(rng, patch) if kind < self.drawn + self.smooth else self._plain(rng, patch)
        if rng.random() < self.colour:
            cut = recoloured(rng, cut)
        if cut.is_floating_point():
            cut = cut.round().clamp(0, 255).to(torch.uint8)
        flip, turn = rng.random(2)
        if flip < 0.5:
            cut = cut.flip(2)
        return cut.transpose(1, 2) if turn < 0.5 else cut

    def _drawn(self, rng: np.random.Generator, patch: int) -> Tensor:
        """Patch drawn by code, not mirrored: letters are read one way."""
        cut = None
        if rng.random() < WITH_PHOTOGRAPH:
            cut = _cut(rng, self.all.picture(rng), patch).permute(1, 2, 0).cpu().contiguous().numpy()
        pixels = torch.from_numpy(drawn_picture(rng, patch, patch, cut))
        return pixels.to(self.all.pictures[0].device).permute(2, 0, 1)

    def _plain(self, rng: np.random.Generator, patch: int) -> Tensor:
        picture = self.rest.picture(rng)
        shrink, factor = rng.random(2)
        if shrink >= self.downscale:
            return _cut(rng, picture, patch)
        cut = _cut(rng, picture, min(int(patch * (1 + factor)), *picture.shape[1:]))
        return F.interpolate(cut[None].float(), (patch, patch), mode="bicubic", antialias=True)[0]

    def _smooth(self, rng: np.random.Generator, patch: int) -> Tensor:
        kind = rng.random()
        if kind < BEFORE_PLAIN:
            return before_plain_background(rng, _cut(rng, self.all.picture(rng), patch))
        if self.large and kind < BEFORE_PLAIN + NATIVE:
            return _cut(rng, self.large.picture(rng), patch)
        factor = rng.uniform(1.0, 2.5)
        return magnified(rng, _cut(rng, self.rest.picture(rng), max(int(patch / factor), 16)), patch)

    def batch(self, step: int, patch: int, first: int, count: int) -> Batch:
        """Samples `first` to `first + count - 1` of this step's global batch."""
        cuts, draws = [], []
        for place in range(first, first + count):
            rng = np.random.default_rng((self.seed, step, place))
            draws.append(rng.random())
            cuts.append(self._one(rng, patch))
        pixels = torch.stack(cuts).contiguous(memory_format=torch.channels_last)
        return Batch(pixels.to(self.device, non_blocking=True), np.array(draws))


class CutsPatches(Protocol):
    """Where a loader gets its batches: :class:`Patches` or :class:`dcae.train.batched.BatchedPatches`."""

    def batch(self, step: int, patch: int, first: int, count: int, /) -> Batch: ...


class Loader:
    """Patches of consecutive steps, the next step's being cut in a thread while this one's are trained on."""

    def __init__(self, patches: CutsPatches, rank: int) -> None:
        self.patches = patches
        self.rank = rank
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[tuple[int, int, int], Future[Batch]] | None = None

    def batch(self, step: int, patch: int, count: int) -> Batch:
        """Samples of `step` for this process, `count` of them."""
        asked = (step, patch, count)
        ready = self._next[1] if self._next and self._next[0] == asked else self._submit(asked)
        following = (step + 1, patch, count)
        self._next = following, self._submit(following)
        batch = ready.result()
        if batch.pixels.is_cuda:  # cut in a stream of its own, whose memory must not be reused while this one reads it
            batch.pixels.record_stream(torch.cuda.current_stream(batch.pixels.device))
        return batch

    def _submit(self, asked: tuple[int, int, int]) -> Future[Batch]:
        step, patch, count = asked
        return self._pool.submit(self.patches.batch, step, patch, self.rank * count, count)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def to_float(pixels: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return pixels.float() / 255
