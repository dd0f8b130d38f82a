"""Upscalers: what enlarges an array of samples, whether it interpolates or is a network or a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcae.errors import OptionError
from dcae.resize import resized, taps

SCALES = (2, 3, 4)
"""Scales that pictures are enlarged by."""


@dataclass(frozen=True)
class Cost:
    """What enlarging takes."""

    parameters: int
    """Numbers that were learned."""
    macs: float
    """Multiplications with addition per pixel of the enlarged picture, all colours together."""


class Upscaler(ABC):
    """What enlarges pictures by one scale."""

    name: str
    """Name in tables."""
    scale: int
    """Factor on both sides."""
    short_id = b""
    """First 8 bytes of the model's id; empty for what has no model."""

    @abstractmethod
    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Enlarged samples (scale · H, scale · W, C) of (H, W, C) in [0, 1], not clipped; C is 3, or 1 for gray."""

    @abstractmethod
    def cost(self) -> Cost:
        """What it takes for colour."""


class Interpolation(Upscaler):
    """Enlargement by a kernel of `KERNELS`, the baselines of tables.

    Raises:
        OptionError: an unknown kernel.
    """

    def __init__(self, kernel: str, scale: int) -> None:
        self.name, self.scale = kernel, scale
        self._taps = taps(16, scale, kernel).places.shape[1]

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return resized(x, self.scale, self.name)

    def cost(self) -> Cost:
        # Columns first have 1/scale of the enlarged picture's pixels.
        return Cost(0, 3 * self._taps * (1 + 1 / self.scale))


def check_scale(scale: int, scales: Collection[int] = SCALES) -> None:
    """Refuse a scale that is not one of several.

    Raises:
        OptionError: it is not.
    """
    if scale not in scales:
        raise OptionError(f"scale must be {' or '.join(map(str, sorted(scales)))}, got {scale}")
