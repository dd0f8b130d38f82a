"""Interpolation of a table between the vertices of a simplex: which entries are read, with which weights.

The same code serves NumPy's arrays and torch's tensors: of either, integers of any shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dcae.sr.tables.config import Slot, TableConfig
from dcae.sr.tables.layout import inputs_of, is_split, node_count

Integers = Any
"""NumPy array or torch tensor of integers."""

SAMPLE_BITS = 16
"""Bits after the point of weighted means of pixels."""
_EXCHANGES = {2: ((0, 1),), 3: ((0, 1), (1, 2), (0, 1)), 4: ((0, 1), (2, 3), (0, 2), (1, 3), (1, 2))}
"""Number of inputs -> pairs to compare and exchange, after which they are sorted."""


class Simplex:
    """Geometry of a unit's table.

    With a coarse part, entries count through the table at full sampling first and then through the coarse one; which
    part is read follows from the pixel's own values.

    Args:
        inputs: number of inputs.
        interval: of the table, or of the part near the diagonal.
        coarse: interval of the other part; 0 where there is none.
        reach: grey levels from the first input within which the part near the diagonal is read.
        fraction_bits: bits of the inputs after the point.
        wrong_order: take fractions c > d > a > b for c > a > d > b, as SR-LUT's published program does.
    """

    def __init__(
        self, inputs: int, interval: int, coarse: int = 0, reach: int = 0, fraction_bits: int = 0,
        wrong_order: bool = False,
    ) -> None:  # fmt: skip
        self.inputs, self.wrong_order = inputs, wrong_order
        self.entries = node_count(interval) ** inputs
        """Number of entries of the table at full sampling."""
        self._bits, self._coarse_bits = interval + fraction_bits, coarse + fraction_bits if coarse else 0
        self._reach = reach << fraction_bits
        self.divisor = 1 << max(self._bits, self._coarse_bits)
        """What weighted sums are to be divided by: the sum of all weights."""
        self._count, self._coarse_count = node_count(interval), node_count(coarse) if coarse else 0
        self._stride_bits = (self._count ** (inputs - 1)).bit_length()
        self.small = max(self._bits, self._coarse_bits, 8 + fraction_bits) + self._stride_bits < 31
        """Whether 32 bits are enough for everything."""

    def sorted_keys(self, values: Sequence[Integers], xp: Any) -> tuple[Integers, list[Integers], list[Integers]]:
        """Entry of the base vertex, and the keys of the inputs as they come and sorted, the largest fraction first.

        A key holds an input's fraction and, in its lower bits, the way to the next entry in that input's direction.

        Args:
            values: of each input, 0...255 with `fraction_bits` bits after the point.
            xp: the module numpy or torch.
        """
        base, keys = self._split_values(values, xp) if self._coarse_bits else self._values(values)
        ordered = list(keys)
        for i, j in _EXCHANGES[self.inputs]:
            ordered[i], ordered[j] = xp.maximum(ordered[i], ordered[j]), xp.minimum(ordered[i], ordered[j])
        if self.wrong_order:
            a, b, c, d = (key >> self._stride_bits for key in keys)
            wrong = (c > d) & (d > a) & (a > b)
            second, third = ordered[1], ordered[2]
            ordered[1], ordered[2] = xp.where(wrong, third, second), xp.where(wrong, second, third)
        return base, keys, ordered

    def vertices(self, base: Integers, ordered: list[Integers]) -> Iterator[tuple[Integers, Integers]]:
        """(entry, weight) of each vertex, of what :meth:`sorted_keys` found."""
        mask = (1 << self._stride_bits) - 1
        last = ordered[0] >> self._stride_bits
        yield base, self.divisor - last
        for k, key in enumerate(ordered):
            base = base + (key & mask)
            following = ordered[k + 1] >> self._stride_bits if k + 1 < self.inputs else None
            yield base, last if following is None else last - following
            last = following

    def steps(self, base: Integers, xp: Any) -> Integers:
        """Distance between the nodes that are read, in units of the values: one for all, or of each pixel's part."""
        if not self._coarse_bits:
            return 1 << self._bits
        return xp.where(base < self.entries, 1 << self._bits, 1 << self._coarse_bits)

    def _values(self, values: Sequence[Integers]) -> tuple[Integers, list[Integers]]:
        base = values[0] >> self._bits
        for value in values[1:]:
            base = base * self._count + (value >> self._bits)
        mask = (1 << self._bits) - 1
        return base, [((v & mask) << self._stride_bits) | self._stride(k) for k, v in enumerate(values)]

    def _split_values(self, values: Sequence[Integers], xp: Any) -> tuple[Integers, list[Integers]]:
        near = abs(values[1] - values[0]) <= self._reach
        for value in values[2:]:
            near = near & (abs(value - values[0]) <= self._reach)
        fine_base, fine_keys = self._values(values)
        coarse_base, mask = self.entries, (1 << self._coarse_bits) - 1
        keys = []
        for k, value in enumerate(values):
            stride = self._coarse_count ** (self.inputs - 1 - k)
            coarse_base = coarse_base + (value >> self._coarse_bits) * stride
            # Both kinds of fractions count in units of the coarse one.
            fine = ((fine_keys[k] ^ self._stride(k)) << (self._coarse_bits - self._bits)) | self._stride(k)
            keys.append(xp.where(near, fine, ((value & mask) << self._stride_bits) | stride))
        return xp.where(near, fine_base, coarse_base), keys

    def _stride(self, k: int) -> int:
        return self._count ** (self.inputs - 1 - k)


def fraction_bits(config: TableConfig) -> int:
    """Bits after the point of what units look up: none where it is pixels."""
    return SAMPLE_BITS if config.sampler or config.residual else 0


def simplex_of(config: TableConfig, slot: Slot) -> Simplex:
    """The geometry of a unit's table."""
    split = is_split(config, slot)
    return Simplex(
        inputs_of(config, slot), config.interval, config.coarse if split else 0,
        config.diagonal << config.interval if split else 0,
        0 if config.stages[slot.stage - 1] == "mix" else fraction_bits(config), config.order == "srlut",
    )  # fmt: skip
