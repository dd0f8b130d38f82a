"""What a run of super-resolution is judged by: PSNR of Y beside bicubic enlargement, on pictures it never sees."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dcae.resize import to_float, to_samples
from dcae.sr.protocol.resize import modcrop
from dcae.sr.protocol.scores import scores
from dcae.sr.training.degradation import Degradation
from dcae.sr.upscalers import Interpolation, Upscaler
from dcae.train.data import Picture
from dcae.train.held_out import centre
from dcae.train.processes import Group, agreed, sum_over
from dcae.train.task import Validation

SIDE = 384
"""Greatest side in pixels of what is seen of a picture: its centre."""
_MOST = 99.0
"""dB of a picture without error."""
_SHOWN = 4


def held_out_pictures(held_out: list[Picture], count: int) -> list[NDArray[np.uint8]]:
    """The centres of at most `count` pictures, (H, W, 3) each, one of each source first, spread over all of them."""
    first = {picture.source: k for k, picture in reversed(list(enumerate(held_out)))}
    order = sorted(range(len(held_out)), key=lambda k: (first[held_out[k].source] != k, k))
    sources = len(first)
    chosen = [order[k * sources // count] for k in range(count)] if sources > count else order[:count]
    return [centre(held_out[k].pixels, SIDE) for k in chosen]


class Validator:
    """Fixed pictures; `validator(network, stopping)` measures a network.

    Args:
        pictures: (H, W, 3) each, the same on every process; each process measures its share of them.
        degraded: makes the small pictures, with a codec at qualities from its lowest to its highest.
        upscaler: makes one of a network.
    """

    def __init__(
        self, pictures: list[NDArray[np.uint8]], degraded: Degradation, group: Group,
        upscaler: Callable[[Any], Upscaler],
    ) -> None:  # fmt: skip
        self.scale, self.group, self._upscaler = degraded.scale, group, upscaler
        self.large = [modcrop(picture, self.scale) for picture in pictures]
        draws = (np.arange(len(pictures)) + 0.5) / len(pictures)
        self.small = [to_float(degraded.picture(x, draw)) for x, draw in zip(self.large, draws, strict=True)]
        baseline = Interpolation("bicubic", self.scale)
        self.bicubic = [self._psnr(baseline, k) for k in range(len(pictures))]
        digest = 0
        for picture in pictures:
            digest = zlib.crc32(picture.tobytes(), zlib.crc32(repr(picture.shape).encode(), digest))
        self.measure = f"PSNR Y over bicubic, pictures {digest:08x}, scale {self.scale}, {degraded.name}"

    def _psnr(self, upscaler: Upscaler, k: int) -> float:
        # Plain pictures are enlarged without error, with whose infinite PSNR nothing could be compared.
        return min(scores(self.large[k], to_samples(upscaler(self.small[k])), self.scale).psnr_y, _MOST)

    def __call__(self, network: nn.Module, stopping: Callable[[], bool]) -> Validation | None:
        """Measure a network (its averaged weights loaded) in float32; None if `stopping` said so."""
        training = network.training
        network.eval()
        try:
            upscaler = self._upscaler(network)
            found = torch.zeros(len(self.large), dtype=torch.float64)
            for k in range(self.group.rank, len(self.large), self.group.world):
                if not stopping():
                    found[k] = self._psnr(upscaler, k)
            if agreed((float(stopping()),), self.group.world)[0]:
                return None
            shown = self._shown(upscaler) if self.group.rank == 0 else []
        finally:
            network.train(training)
        psnr = sum_over(found, self.group.world).numpy()
        gains = psnr - np.array(self.bicubic)
        row: dict[str, Any] = {
            "psnr_y": round(float(psnr.mean()), 4), "gain": round(float(gains.mean()), 4),
            "worst_gain": round(float(gains.min()), 4),
        }  # fmt: skip
        curves = {f"validation/{name}": value for name, value in row.items()}
        line = f"{row['psnr_y']:.3f} dB, {row['gain']:+.3f} over bicubic (worst {row['worst_gain']:+.3f})"
        return Validation(-float(gains.mean()), self.measure, row, curves, shown, line)

    def _shown(self, upscaler: Upscaler) -> list[NDArray[np.uint8]]:
        """Bicubic enlargement, the network's and the original side by side."""
        bicubic = Interpolation("bicubic", self.scale)
        pictures = zip(self.small[:_SHOWN], self.large[:_SHOWN], strict=True)
        return [np.concatenate([to_samples(bicubic(x)), to_samples(upscaler(x)), y], 1) for x, y in pictures]
