"""Enlarging by look-up, in integers: the same pixels on every machine, in tiles so that memory is bounded."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcae.errors import OptionError
from dcae.sr.tables.config import INPUTS, PATTERNS, Slot, TableConfig
from dcae.sr.tables.layout import WEIGHT_BITS, near_diagonal, table_set
from dcae.sr.tables.lookup import Integers, Lookup
from dcae.sr.tables.simplex import SAMPLE_BITS, fraction_bits, simplex_of
from dcae.sr.tables.walk import cell_order, rotated, walk

TILE = 1 << 18
"""Pixels of the small picture that are enlarged at once."""
_BLOCK = 1 << 14
"""Pixels that are looked up at once: what they need stays in a processor's cache."""

Map = NDArray[np.uint8]
"""(channels, height, width)."""


class Sums(NamedTuple):
    """Sums of a stage's look-ups."""

    values: Integers
    """(outputs, channels, height, width), divided by `divisor`."""
    divisor: int


class TableEngine:
    """A table network as a function of pictures.

    Args:
        config: of the network.
        tensors: as :func:`dcae.sr.tables.layout.tensor_layouts` lists them; types and shapes are taken for granted.
    """

    def __init__(self, config: TableConfig, tensors: dict[str, NDArray[Any]]) -> None:
        self.config = config
        near = near_diagonal(config) if config.diagonal else None
        self._lookups: dict[Slot, Lookup] = {}
        self._weights: dict[Slot, NDArray[np.float64]] = {}
        self._shares: dict[Slot, list[int]] = {}
        for slot in config.slots():
            alone = config.stages[slot.stage - 1] == "mix" or config.rounding == "each"
            additions = 1 if alone else len(config.units)
            self._lookups[slot] = Lookup(table_set(tensors, slot), near, simplex_of(config, slot), additions)
            if (name := f"samplers.{slot.name}") in tensors:
                self._weights[slot] = tensors[name].astype(np.float64)
            if (name := f"residuals.{slot.name}") in tensors:
                self._shares[slot] = tensors[name].tolist()

    def __call__(self, picture: NDArray[np.uint8], tile: int = TILE) -> NDArray[np.uint8]:
        """Enlarge a picture.

        Args:
            picture: (height, width) or (height, width, channels) uint8, any number of channels, none of size 0.
            tile: pixels that are enlarged at once; the result is the same for all.

        Returns:
            the same with `scale` times the height and width.

        Raises:
            OptionError: an array of another kind, or a tile without pixels.
        """
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or not picture.size:
            shape = "x".join(map(str, picture.shape))
            raise OptionError(f"a picture to enlarge must be HxW or HxWxC bytes, got {shape} {picture.dtype}")
        if tile < 1:
            raise OptionError(f"tile must be at least 1 pixel, got {tile}")
        planes = np.ascontiguousarray(np.moveaxis(np.atleast_3d(picture), 2, 0))
        channels, height, width = planes.shape
        scale, halo = self.config.scale, self.config.halo
        found = np.empty((height * scale, width * scale, channels), np.uint8)
        columns = min(width, max(int(tile**0.5), 1) if width > tile else width)
        rows = max(min(height, tile // columns), 1)
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                bottom, right = min(top + rows, height), min(left + columns, width)
                first_row, first_column = max(top - halo, 0), max(left - halo, 0)
                seen = planes[:, first_row : bottom + halo, first_column : right + halo]
                large = walk(self.config, seen, _Steps(self))
                row, column = (top - first_row) * scale, (left - first_column) * scale
                large = large[:, row : row + (bottom - top) * scale, column : column + (right - left) * scale]
                found[top * scale : bottom * scale, left * scale : right * scale] = np.moveaxis(large, 0, 2)
        return found.reshape(height * scale, width * scale, *picture.shape[2:])

    def inputs(self, slot: Slot, turns: int, current: Map, previous: Map | None, rows: slice) -> list[Integers]:
        """The unit's inputs at every pixel of some rows, each (channels, rows, width).

        Args:
            current: map with a border of `reach` pixels, already padded; `previous` alike.
        """
        reach = self.config.reaches[slot.unit]
        height, width = rows.stop - rows.start, current.shape[2] - 2 * reach
        dtype = self._lookups[slot].dtype

        def shifted(padded: Map, offset: tuple[int, int]) -> Map:
            row, column = rotated(offset, turns)
            row, column = row + reach + rows.start, column + reach
            return padded[:, row : row + height, column : column + width]

        def sampled(padded: Map) -> list[Integers]:
            """Inputs in units of 2 to the power of -WEIGHT_BITS, or whole ones."""
            if slot not in self._weights:
                return [shifted(padded, offset).astype(dtype) for offset in PATTERNS[self.config.units[slot.unit]]]
            side = self.config.sampler
            window = np.stack([shifted(padded, (k // side, k % side)) for k in range(side**2)]).reshape(side**2, -1)
            # Sums of integers below 2^53 are exact, in any order.
            means = self._weights[slot].reshape(INPUTS, -1) @ window.astype(np.float64)
            return list(means.reshape(INPUTS, -1, height, width).astype(np.int64))

        found = sampled(current)
        if not fraction_bits(self.config):
            return found
        bits = WEIGHT_BITS if slot in self._weights else 0
        if slot in self._shares:
            assert previous is not None
            earlier = sampled(previous)
            one = 1 << WEIGHT_BITS
            found = [
                now.astype(np.int64) * (one - share) + before.astype(np.int64) * share
                for now, before, share in zip(found, earlier, self._shares[slot], strict=True)
            ]
            bits += WEIGHT_BITS
        shift = bits - SAMPLE_BITS
        if shift > 0:
            return [((value + (1 << (shift - 1))) >> shift).astype(dtype) for value in found]
        return [(value << -shift).astype(dtype) for value in found]


class _Steps:
    """Steps of a walk, in integers."""

    def __init__(self, network: TableEngine) -> None:
        self._network, self._config = network, network.config

    def added(self, sums: Sums | None, stage: int, channel: int, current: Map, previous: Map | None) -> Sums:
        config, lookups = self._config, self._network._lookups
        slots = [Slot(stage, channel, unit) for unit in range(len(config.units))]
        divisor = 1 if config.rounding == "each" else lookups[slots[0]].simplex.divisor
        if sums is None:
            sums = Sums(
                np.zeros((config.outputs(stage), *current.shape), np.int32 if divisor < 1 << 16 else np.int64), divisor
            )
        padded = [self._padded(current, reach) for reach in config.reaches]
        earlier = [None if previous is None else self._padded(previous, reach) for reach in config.reaches]
        channels, height, width = current.shape
        step = max(_BLOCK // (channels * width), 1)
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            total = sums.values[:, :, rows]
            if config.rounding == "each":
                for slot in slots:
                    for turns in range(4):
                        found = self._found([slot], turns, padded, earlier, rows)
                        # As wide as what was found, which is wide where the divisor is large.
                        scaled = total.astype(found.dtype) * lookups[slot].simplex.divisor + found
                        total[:] = rounded_quotient(scaled, lookups[slot].simplex.divisor)
            else:
                for turns in range(4):
                    total += self._found(slots, turns, padded, earlier, rows)
        return sums

    def _found(
        self, slots: list[Slot], turns: int, padded: list[Map], earlier: list[Map | None], rows: slice
    ) -> Integers:
        """Sums of some units' look-ups at one rotation, (outputs, channels, rows, width)."""
        words = None
        for slot in slots:
            lookup = self._network._lookups[slot]
            values = self._network.inputs(slot, turns, padded[slot.unit], earlier[slot.unit], rows)
            words = words or lookup.zeros(values[0].shape)
            lookup(values, words)
        assert words is not None
        found = lookup.unpacked(words, len(slots))
        return found[cell_order(len(found), turns)] if self._config.stages[slot.stage - 1] == "up" else found

    def maps(self, sums: Sums, divisor: int) -> list[Map]:
        divisor *= sums.divisor
        return list(clipped(rounded_quotient(sums.values + 127 * divisor, divisor)))

    def mixed(self, stage: int, maps: list[Map]) -> list[Map]:
        lookup = self._network._lookups[Slot(stage, 0, 0)]
        divisor = lookup.simplex.divisor
        height = maps[0].shape[1]
        step = max(_BLOCK // (maps[0].shape[0] * maps[0].shape[2]), 1)
        found = [np.empty_like(each) for each in maps]
        for top in range(0, height, step):
            values: list[Integers] = [each[:, top : top + step].astype(lookup.dtype) for each in maps]
            words = lookup.zeros(values[0].shape)
            lookup(values, words)
            sums = lookup.unpacked(words, 1)
            for own, value in zip(found, rounded_quotient(sums + 127 * divisor, divisor), strict=True):
                own[:, top : top + step] = clipped(value)
        return found

    def enlarged(self, sums: Sums, divisor: int) -> Map:
        values = clipped(rounded_quotient(sums.values, divisor * sums.divisor))
        scale, (_, channels, height, width) = self._config.scale, values.shape
        cells = values.reshape(scale, scale, channels, height, width).transpose(2, 3, 0, 4, 1)
        return cells.reshape(channels, height * scale, width * scale)

    def _padded(self, values: Map, reach: int) -> Map:
        mode = "edge" if self._config.padding == "edge" else "reflect"
        return np.pad(values, ((0, 0), (reach, reach), (reach, reach)), mode)  # type: ignore[call-overload]


def rounded_quotient(numerator: Integers, divisor: int) -> Integers:
    """Quotients rounded to the nearest integer, halves to the even one."""
    quotient = numerator // divisor
    twice = 2 * (numerator - quotient * divisor) + (quotient & 1)
    return quotient + (twice > divisor)


def clipped(values: Integers) -> NDArray[np.uint8]:
    """Values clipped to 0...255."""
    return values.clip(0, 255).astype(np.uint8)
