"""Patches for a GPU: everything of :class:`dcae.train.data.Patches`, cut and changed there, a whole batch at a time.

One sample at a time, a thread of Python makes some hundred patches a second; a GPU trains on thousands. So the pictures
lie on the device one behind the other, each batch is gathered from them by one index, and every kind of change is one
operation for all samples that get it. Pictures drawn by code are drawn beforehand.

What a sample is follows from (seed, step, place in the global batch), as there, but it is another sample than there.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dcae.train import batched_augment as augment
from dcae.train.data import BEFORE_PLAIN, NATIVE, WITH_PHOTOGRAPH, Batch, Picture
from dcae.train.drawn import drawn_picture
from dcae.train.machine import cores

_DRAWN_SIDE = 512
"""Greatest side of the pictures drawn beforehand, from which patches are cut."""
_STEPS = 8
"""Sizes that a cut to be shrunk or enlarged may have: samples of one size are resized together."""
_LARGEST = 2.5
"""Factor of enlargement, 1 to this; shrinking goes to half the size."""
_NUMBERS = 64
"""Random numbers of one sample."""


class Store:
    """Pictures of any sizes on a device, one behind the other, chosen by their areas.

    Args:
        pictures: (H, W, 3) uint8 each, at least one.
    """

    def __init__(self, pictures: list[np.ndarray], device: torch.device) -> None:
        areas = np.array([p.shape[0] * p.shape[1] for p in pictures])
        self.sizes = np.array([p.shape[:2] for p in pictures])
        self.starts = np.cumsum(areas) - areas
        self.share = np.cumsum(areas) / areas.sum()
        self.pixels = torch.empty(int(areas.sum()), 3, dtype=torch.uint8, device=device)
        for picture, start, area in zip(pictures, self.starts, areas, strict=True):
            self.pixels[start : start + area] = (
                torch.from_numpy(np.ascontiguousarray(picture)).reshape(-1, 3).to(device)
            )

    def cut(self, u: np.ndarray, side: int, mirrored: bool = True) -> Tensor:
        """Random squares of `side` pixels, (n, 3, side, side) uint8; smaller pictures are repeated by reflection.

        Args:
            u: (n, 5) uniform in [0, 1): which picture, where, whether mirrored and transposed.
            mirrored: whether they may be.
        """
        chosen = np.minimum(np.searchsorted(self.share, u[:, 0], "right"), len(self.share) - 1)
        sizes = self.sizes[chosen]
        corner = (u[:, 1:3] * np.maximum(sizes - side + 1, 1)).astype(np.int64)
        flip, turn = (u[:, 3] < 0.5) & mirrored, (u[:, 4] < 0.5) & mirrored
        numbers = np.stack([self.starts[chosen], *sizes.T, *corner.T, flip, turn]).astype(np.int64)
        start, height, width, top, left, flips, turns = torch.from_numpy(numbers).to(self.pixels.device)[
            :, :, None, None
        ]
        place = torch.arange(side, device=self.pixels.device)
        first, second = place[None, :, None], place[None, None, :]
        row, column = torch.where(turns.bool(), second, first), torch.where(turns.bool(), first, second)
        rows = _reflected(top + row, height)
        columns = _reflected(left + torch.where(flips.bool(), side - 1 - column, column), width)
        return self.pixels[start + rows * width + columns].permute(0, 3, 1, 2)


def _reflected(index: Tensor, count: Tensor) -> Tensor:
    """Index into `count` samples that go back and forth at both ends; an index in 0..count - 1 stays as it is."""
    index = index % (2 * count)
    return torch.minimum(index, 2 * count - 1 - index)


class BatchedPatches:
    """See the module's docstring; arguments and shares are those of :class:`dcae.train.data.Patches`.

    Args:
        pool: how many pictures are drawn beforehand.
    """

    def __init__(
        self, pictures: list[Picture], downscale: float, seed: int, device: str, *, smooth: float = 0.0,
        drawn: float = 0.0, colour: float = 0.0, pool: int = 4096,
    ) -> None:  # fmt: skip
        self.downscale, self.smooth, self.drawn, self.colour = downscale, smooth, drawn, colour
        self.seed = seed
        self.device = torch.device(device)
        large = [p.pixels for p in pictures if p.large]
        small = [p.pixels for p in pictures if not p.large]
        # One copy of the pixels: the stores of small and of large pictures together are the store of all.
        self._stores = [Store(part, self.device) for part in (small, large) if part]
        areas = [len(store.pixels) for store in self._stores]
        self._share_of_first = areas[0] / sum(areas)
        self._large = self._stores[-1] if large else None
        self._rest = self._stores[0] if small and smooth else None
        self._drawn = Store(list(drawn_pool(pictures, seed, pool)), self.device) if drawn else None
        self._noise = augment.noise_field(seed, self.device)
        # Small copies to the device wait for what is queued in their stream: not behind the steps of training.
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def batch(self, step: int, patch: int, first: int, count: int) -> Batch:
        """Samples `first` to `first + count - 1` of this step's global batch; whole when it returns."""
        if self._stream is None:
            return self._batch(step, patch, first, count)
        with torch.cuda.stream(self._stream):
            batch = self._batch(step, patch, first, count)
        self._stream.synchronize()
        return batch

    def _batch(self, step: int, patch: int, first: int, count: int) -> Batch:
        u = np.random.Generator(np.random.Philox(key=[self.seed, step])).random((first + count, _NUMBERS))[first:]
        out = torch.empty(count, 3, patch, patch, dtype=torch.uint8, device=self.device)
        kind = u[:, 1]
        drawn, smooth = kind < self.drawn, (kind >= self.drawn) & (kind < self.drawn + self.smooth)
        for chosen, make in ((drawn, self._of_drawn), (smooth, self._of_smooth), (~drawn & ~smooth, self._of_plain)):
            if chosen.any():
                out[_places(chosen, self.device)] = make(u[chosen, 2:], patch)
        photographs = np.flatnonzero(~drawn & (u[:, 2] < self.colour))
        if len(photographs):
            where = torch.from_numpy(photographs).to(self.device)
            out[where] = _to_bytes(augment.recoloured(u[photographs, 44:], out[where].float()))
        return Batch(out.contiguous(memory_format=torch.channels_last), u[:, 0].copy())

    def _of_drawn(self, u: np.ndarray, patch: int) -> Tensor:
        assert self._drawn is not None
        return self._drawn.cut(u[:, 1:6], patch, mirrored=False)  # letters are read one way

    def _of_plain(self, u: np.ndarray, patch: int) -> Tensor:
        def make(u: np.ndarray, side: int) -> Tensor:
            cut = self._cut(u[:, 3:], side)
            if side == patch:
                return cut
            return _to_bytes(F.interpolate(cut.float(), (patch, patch), mode="bicubic", antialias=True))

        more = np.where(u[:, 1] < self.downscale, np.floor(u[:, 2] * _STEPS) + 1, 0)
        return self._grouped(u, patch, (patch * (1 + more / _STEPS)).astype(int), make)

    def _of_smooth(self, u: np.ndarray, patch: int) -> Tensor:
        out = torch.empty(len(u), 3, patch, patch, dtype=torch.uint8, device=self.device)
        before = u[:, 1] < BEFORE_PLAIN
        native = ~before & (u[:, 1] < BEFORE_PLAIN + NATIVE) & (self._large is not None)
        if before.any():
            cut = self._cut(u[before, 3:], patch, of_all=True).float()
            out[_places(before, self.device)] = _to_bytes(
                augment.before_plain_background(u[before, 9:], cut, self._noise)
            )
        if self._large is not None and native.any():
            out[_places(native, self.device)] = self._large.cut(u[native, 3:8], patch)
        magnified = ~before & ~native
        if magnified.any():
            out[_places(magnified, self.device)] = self._magnified(u[magnified], patch)
        return out

    def _magnified(self, u: np.ndarray, patch: int) -> Tensor:
        def make(u: np.ndarray, side: int) -> Tensor:
            x = F.interpolate(self._cut(u[:, 3:], side).float(), (patch, patch), mode="bicubic")
            return _to_bytes(augment.blurred_and_noisy(u[:, 9:], x, self._noise))

        factors = 1 + (_LARGEST - 1) * (np.floor(u[:, 2] * _STEPS) + 0.5) / _STEPS
        return self._grouped(u, patch, np.maximum(patch / factors, 16).astype(int), make)

    def _grouped(self, u: np.ndarray, patch: int, sides: np.ndarray, make: augment.Maker) -> Tensor:
        """`make` for all samples of one side at a time, in the order of the samples."""
        out = torch.empty(len(u), 3, patch, patch, dtype=torch.uint8, device=self.device)
        for side in np.unique(sides):
            chosen = sides == side
            out[_places(chosen, self.device)] = make(u[chosen], int(side))
        return out

    def _cut(self, u: np.ndarray, side: int, of_all: bool = False) -> Tensor:
        """Cuts of the small pictures where large ones have a share of their own, else of all; u (n, 6)."""
        if len(self._stores) == 1:
            return self._stores[0].cut(u[:, 1:6], side)
        if self._rest is not None and not of_all:
            return self._rest.cut(u[:, 1:6], side)
        out = torch.empty(len(u), 3, side, side, dtype=torch.uint8, device=self.device)
        of_first = u[:, 0] < self._share_of_first
        for store, chosen in zip(self._stores, (of_first, ~of_first), strict=True):
            if chosen.any():
                out[_places(chosen, self.device)] = store.cut(u[chosen, 1:6], side)
        return out


def _places(chosen: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.flatnonzero(chosen)).to(device)


def _to_bytes(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)


def drawn_pool(pictures: list[Picture], seed: int, count: int) -> Iterator[np.ndarray]:
    """Pictures drawn by code, (S, S, 3) uint8 each, by as many processes as there are cores.

    Args:
        pictures: photographs that may be shown in some of them.
        count: how many; which they are follows from `seed` and their number.
    """
    workers = min(cores(), -(-count // 16))
    tasks = ((seed, k, _shown(pictures, seed, k)) for k in range(count))
    if workers == 1:
        yield from map(_draw, tasks)
        return
    # Threads of torch that are there already do not survive a fork.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_draw, tasks, chunksize=16)


def _shown(pictures: list[Picture], seed: int, k: int) -> np.ndarray | None:
    rng = np.random.default_rng((seed, k, 2))
    if rng.random() >= WITH_PHOTOGRAPH:
        return None
    pixels = pictures[int(rng.integers(len(pictures)))].pixels
    top, left = (int(rng.integers(0, max(n - _DRAWN_SIDE, 0) + 1)) for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + _DRAWN_SIDE, left : left + _DRAWN_SIDE])


def _draw(task: tuple[int, int, np.ndarray | None]) -> np.ndarray:
    seed, k, cut = task
    return drawn_picture(np.random.default_rng((seed, k, 3)), _DRAWN_SIDE, _DRAWN_SIDE, cut)
