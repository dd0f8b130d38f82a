"""By which tables the symbols of a slice of y are coded: neighbours that are there already tell how wrong scales are.

The networks see the slices before, not this one. So a slice is coded in three stages: every second symbol of every
second row; those in the middle of four such; then all others, each between four of the first two stages. Where the four
are larger than their scales say, more is to be expected of the one between them, and another set of tables is taken.

All of it in integers, so that the same comes out everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcae.errors import ModelFileError
from dcae.networks.scales import SCALE_LEVELS

MAX_LIMITS = 15
LARGEST = 8
"""Larger symbols count as this."""
UNIT, LIMIT_UNIT = 256, 64
"""What 1 is in expected magnitudes, and in limits."""
_EVEN = 77
"""Added to both sides of a comparison, in 1/UNIT: of four symbols that are nearly certain little can be told."""
NAMES = ("expected", "limits")
"""Fields of :class:`YCoding`, in a model file with `y_` before them."""
_DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))
_BESIDE = ((-1, 0), (1, 0), (0, -1), (0, 1))

Integers = NDArray[np.int32]
Rows = NDArray[np.uint8]
Part = tuple[slice, slice]
"""Rows and columns of positions."""
Around = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class YCoding:
    """How a model's slices are coded.

    Raises:
        ModelFileError: numbers of a wrong shape or type, or out of range.
    """

    expected: Integers
    """(64,) magnitude that a symbol of each table row has on average, in 1/256; larger ones than 8 taken as 8."""
    limits: Integers
    """(L,) increasing limits between the sets of tables, in 1/64, for what four neighbours are to what they were
    expected to be. Set 0 is for symbols of the first stage, set k + 1 for those that reach k limits. Empty where there
    is but one set, and slices are coded at once."""

    def __post_init__(self) -> None:
        fits = (
            all(getattr(self, name).dtype == np.int32 for name in NAMES)
            and self.expected.shape == (SCALE_LEVELS,)
            and self.limits.ndim == 1
            and len(self.limits) <= MAX_LIMITS
        )
        if not fits:
            raise ModelFileError("the coding of y is malformed; get the model file again")
        if (
            self.expected.min() < 0
            or self.expected.max() > LARGEST * UNIT
            or self.limits.min(initial=0) < 0
            or (np.diff(self.limits.astype(np.int64)) <= 0).any()
        ):
            raise ModelFileError("the coding of y is out of range; get the model file again")

    @property
    def sets(self) -> int:
        """Number of sets of tables."""
        return len(self.limits) + 2 if len(self.limits) else 1

    def stages(self, symbols: Integers, rows: Rows) -> Iterator[tuple[list[Part], NDArray[np.uint16]]]:
        """Stages of a slice, each coded as one array: the parts of the slice that it is made of, one after the other,
        and the table rows of its symbols (n,).

        Args:
            symbols: (C, h, w); read between one part and the next, so that a decoder may fill in what it has got.
            rows: (C, h, w) table rows of the first set.
        """
        every, even, odd = slice(0, None), slice(0, None, 2), slice(1, None, 2)
        if not len(self.limits):
            yield [(every, every)], rows.astype(np.uint16).reshape(-1)
            return
        yield [(even, even)], rows[:, even, even].astype(np.uint16).reshape(-1)
        later: list[tuple[list[Part], Around]] = [([(odd, odd)], _DIAGONAL), ([(even, odd), (odd, even)], _BESIDE)]
        for parts, around in later:
            chosen = [
                rows[:, part[0], part[1]] + SCALE_LEVELS * self._sets(symbols, rows, part, around) for part in parts
            ]  # fmt: skip
            yield parts, np.concatenate([each.astype(np.uint16).reshape(-1) for each in chosen])

    def _sets(self, symbols: Integers, rows: Rows, part: Part, around: Around) -> NDArray[np.int64]:
        """Set of tables of each symbol of a part, by those around it."""
        found = np.minimum(abs(symbols), LARGEST).astype(np.uint8)
        seen = UNIT * _sums(found, part, around) + _EVEN
        expected = _sums(self.expected[rows], part, around) + _EVEN
        chosen = np.ones(seen.shape, np.int64)
        for limit in self.limits.tolist():
            chosen += LIMIT_UNIT * seen >= limit * expected
        return chosen


def _sums(values: NDArray[np.integer], part: Part, around: Around) -> NDArray[np.int64]:
    """Sum of what is around each place of a part, (C, h', w'); outside is 0."""
    padded = np.pad(values, ((0, 0), (1, 2), (1, 2)))
    height, width = values[:, part[0], part[1]].shape[1:]
    total = np.zeros((len(values), height, width), np.int64)
    for down, right in around:
        top, left = part[0].start + 1 + down, part[1].start + 1 + right
        total += padded[:, top : top + 2 * height : 2, left : left + 2 * width : 2]
    return total


def plain_coding() -> YCoding:
    """Coding of a model whose slices are coded at once."""
    return YCoding(np.zeros(SCALE_LEVELS, np.int32), np.zeros(0, np.int32))
