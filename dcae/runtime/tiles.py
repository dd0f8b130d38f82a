"""Division of pictures: bands of rows and strips of columns for the transforms, tiles for the entropy model.

Lengths are in samples of H/16 unless said otherwise. A strip is computed with as many columns to both sides as its own
depend on; bands of a strip follow each other, and their layers keep the rows that they still need.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pkgutil import resolve_name
from typing import Any, NamedTuple

from dcae.networks.bands import Band
from dcae.networks.config import DCAEConfig
from dcae.networks.registry import preset_of

POSITIONS = 1024
"""Samples in a band of the transforms, about: few enough for the processor's caches and an allocator's free lists."""
COLUMNS = 512
"""Most columns of a strip, without those that it only depends on."""
TILE = 2048
"""Samples in a tile of the entropy model, about."""
_SCALES = {
    "analysis": (16, 1, 1),
    "hyper_analysis": (1, 1, 4),
    "base_synthesis": (1, 16, 1),
    "skip_latents": (1, 1, 1),
    "add_skip": (1, 16, 1),
}
"""Inputs per sample of H/16, and outputs per sample as a fraction."""


class Strip(NamedTuple):
    """Columns that are wanted, and those that are computed for their sake."""

    begin: int
    end: int
    low: int
    high: int


class Tile(NamedTuple):
    """Rows and columns that are wanted, and those of the input that they depend on."""

    rows: slice
    columns: slice
    from_rows: slice
    from_columns: slice


class Divider:
    """How pictures are divided for the networks of a configuration.

    Args:
        positions, columns, tile: as the constants above; results do not depend on them.
    """

    def __init__(
        self, config: DCAEConfig, positions: int = POSITIONS, columns: int = COLUMNS, tile: int = TILE
    ) -> None:
        self.positions, self.columns, self.tile = positions, columns, tile
        self._config = config
        module = preset_of(config).reach
        self._reach: Any = resolve_name(module) if module else None

    @property
    def whole(self) -> bool:
        """Whether pictures of this network are taken whole."""
        return self._reach is None

    @property
    def unit(self) -> int:
        """Samples that bands and strips are multiples of, where pictures are divided."""
        found: int = self._reach.unit(self._config)
        return found

    def strips(self, transform: str, width: int) -> Iterator[Strip]:
        """Strips of a picture for a transform, named as in `dcae.runtime.protocol`."""
        if self.whole:
            yield Strip(0, width, 0, width)
            return
        layers, unit = self._reach.layers_of(self._config, transform), self.unit
        inputs, outputs, per = _SCALES[transform]
        step = _up(-(-width // -(-width // self.columns)), unit)
        for begin in range(0, width, step):
            end = min(begin + step, width)
            low, high = self._reach.needed(layers, begin * outputs // per, end * outputs // per)
            low, high = low // inputs // unit * unit, _up(-(-high // inputs), unit)
            yield Strip(begin, end, max(low, 0), min(high, width))

    def bands(self, transform: str, height: int, width: int) -> Iterator[tuple[int, int, Band]]:
        """Rows of each band of a strip that is computed `width` wide. The last has at least half as many as the
        others, so that no library has reason to take another path for it."""
        size = height
        if not self.whole:
            unit, inputs = self.unit, _SCALES[transform][0]
            layers = self._reach.layers_of(self._config, transform)
            size = max(self.positions // width // unit, 1) * unit
            while not self._reach.ready(layers, size * inputs):  # a band that some layer made nothing of
                size += unit
        count = max((height + size // 2) // size, 1)
        band = Band(last=count == 1)
        for k in range(count):
            yield k * size, height if band.last else (k + 1) * size, band
            band = band.next(k == count - 2)

    def tiles(self, step: str, height: int, width: int) -> Iterator[Tile]:
        """Tiles of a picture for a step of the entropy model, row by row: "hyper_synthesis", whose inputs are samples
        of H/64, "slice_prior", or "" for one that looks at a sample alone."""
        columns = _up(-(-width // -(-width // math.isqrt(self.tile))), 4)
        rows = _up(max(self.tile // columns, 1), 4)
        layers = self._reach.layers_of(self._config, step) if step else []
        scale = 4 if step == "hyper_synthesis" else 1
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                ends = min(top + rows, height), min(left + columns, width)
                down, right = (
                    slice(max(low, 0), min(high, length // scale))
                    for (low, high), length in (
                        (self._reach.needed(layers, top, ends[0]), height),
                        (self._reach.needed(layers, left, ends[1]), width),
                    )
                )
                yield Tile(slice(top, ends[0]), slice(left, ends[1]), down, right)


def outputs(transform: str, samples: int) -> int:
    """Samples of a transform's output, per so many of H/16."""
    _, times, per = _SCALES[transform]
    return samples * times // per


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
