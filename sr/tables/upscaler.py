"""Tables as upscalers of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcae.resize import to_float, to_samples
from dcae.sr.tables.config import INPUTS
from dcae.sr.tables.engine import TILE, TableEngine
from dcae.sr.tables.layout import inputs_of
from dcae.sr.tables.tablefile import TableHeader
from dcae.sr.upscalers import Cost, Upscaler


class TableUpscaler(Upscaler):
    """Tables, in integers of 8 bits whatever the depth of the samples; the same result on every machine.

    Args:
        header: of the model.
        tensors: of the model.
        name: for tables of results.
        tile: side in pixels of what is enlarged at once; 0: the picture as a whole; None: the default.
    """

    def __init__(self, header: TableHeader, tensors: dict[str, NDArray[Any]], name: str, tile: int | None) -> None:
        self.name, self.scale, self._config = name, header.config.scale, header.config
        self._engine = TableEngine(header.config, tensors)
        self._parameters = sum(value.size for value in tensors.values())
        self._tile = TILE if tile is None else tile**2

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        pixels = to_samples(x)
        return to_float(self._engine(pixels, self._tile or pixels.size))

    def cost(self) -> Cost:
        macs = 0
        for slot in self._config.slots():
            mixing = self._config.stages[slot.stage - 1] == "mix"
            lookups = 1 if mixing else 4
            macs += lookups * (inputs_of(self._config, slot) + 1) * self._config.outputs(slot.stage)
            if self._config.sampler and not mixing:
                macs += lookups * INPUTS * self._config.sampler**2
        return Cost(self._parameters, 3 * macs / self.scale**2)
