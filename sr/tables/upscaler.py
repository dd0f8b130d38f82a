"""Tables as upscalers of arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcae.resize import resized, to_float, to_samples
from dcae.sr.memory import Limits, TiledUpscaler
from dcae.sr.tables.config import INPUTS
from dcae.sr.tables.engine import TILE, TableEngine
from dcae.sr.tables.layout import inputs_of
from dcae.sr.tables.tablefile import TableHeader
from dcae.sr.upscalers import Cost

_PER_OUTPUT = 65
"""Bytes that an output of a look-up takes at most per pixel of a tile: sums of three colours, and what their rounding
needs."""


class TableUpscaler(TiledUpscaler):
    """Tables, in integers of 8 bits; the same result on every machine. What samples of 16 bits have beyond that is
    enlarged by bicubic interpolation.

    Args:
        header: of the model.
        tensors: of the model.
        name: for tables of results.
        tile: side in pixels of what is enlarged at once; 0: the picture as a whole; None: the default, or less where
            memory has no room for it.
        limits: on memory, where no tile is given.
    """

    def __init__(
        self, header: TableHeader, tensors: dict[str, NDArray[Any]], name: str, tile: int | None = None,
        limits: Limits | None = None,
    ) -> None:  # fmt: skip
        self.name, self.scale, self._config = name, header.config.scale, header.config
        self._engine = TableEngine(header.config, tensors)
        self._parameters = sum(value.size for value in tensors.values())
        if tile is None:
            config = header.config
            outputs = max(config.outputs(stage) for stage in range(1, len(config.stages) + 1))
            tile = (limits or Limits()).side(_PER_OUTPUT * outputs, config.halo, math.isqrt(TILE))
        super().__init__(tile)

    def in_tiles_of(self, x: NDArray[np.float32], tile: int) -> NDArray[np.float32]:
        pixels = to_samples(x)
        found = to_float(self._engine(pixels, tile**2 or pixels.size))
        rest = x - to_float(pixels)
        return np.clip(found + resized(rest, self.scale), 0, 1) if rest.any() else found

    def cost(self) -> Cost:
        macs = 0
        for slot in self._config.slots():
            mixing = self._config.stages[slot.stage - 1] == "mix"
            lookups = 1 if mixing else 4
            macs += lookups * (inputs_of(self._config, slot) + 1) * self._config.outputs(slot.stage)
            if self._config.sampler and not mixing:
                macs += lookups * INPUTS * self._config.sampler**2
        return Cost(self._parameters, 3 * macs / self.scale**2)
