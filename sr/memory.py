"""How much memory enlarging may take: tiles that fit, and smaller ones when it runs out all the same."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcae.codec.limits import free_memory
from dcae.errors import PictureWarning, lacks_memory
from dcae.sr.upscalers import Upscaler

SMALLEST = 32
"""Side in pixels of the smallest tile that is tried."""


@dataclass(frozen=True)
class Limits:
    """What tiles may take."""

    memory: int | None = None
    """Bytes; None: half of what is free when a model is loaded, shared by `sharing` processes."""
    sharing: int = 1

    def side(self, per_pixel: float, halo: int, most: int, free: int | None = None) -> int:
        """Side in pixels of the largest tile that fits.

        Args:
            per_pixel: bytes that a pixel of a tile with its halo takes.
            halo: pixels around a tile.
            most: the largest side.
            free: bytes that are free, of a device's own memory; None: what the machine says.
        """
        memory = self.memory
        if memory is None:
            free = free_memory() if free is None else free
            if free is None:
                return most
            memory = free // 2 // self.sharing
        return min(max(int((memory / per_pixel) ** 0.5) - 2 * halo, SMALLEST), most)


class TiledUpscaler(Upscaler):
    """What enlarges tile by tile, in smaller ones from the moment when memory has run out.

    Args:
        tile: side in pixels of a tile of the small picture; 0: the picture as a whole.
    """

    def __init__(self, tile: int) -> None:
        self.tile = tile

    @abstractmethod
    def in_tiles_of(self, x: NDArray[np.float32], tile: int) -> NDArray[np.float32]:
        """Enlarged samples, as of a call."""

    def release(self) -> None:
        """Give memory back that is only kept for later; nothing by default."""

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        while True:
            try:
                return self.in_tiles_of(x, self.tile)
            except (MemoryError, RuntimeError) as error:
                longest = max(x.shape[:2])
                side = min(self.tile or longest, longest) // 2
                if side < SMALLEST or not lacks_memory(error):
                    raise
            # Outside of the handler, whose traceback holds what filled the memory.
            self.release()
            warnings.warn(f"memory ran out, gone on in tiles of {side} pixels", PictureWarning, stacklevel=2)
            self.tile = side
