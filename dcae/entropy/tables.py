"""Frozen integer probability tables: what the range coder sees, written at export and never recomputed.

A table has one row per distribution: per scale level for y, per channel for z. Row r gives the symbols
`offset[r] ... offset[r] + length[r] - 1` integer frequencies of at least 1 that add up to 2**24; its first and
last symbol stand for everything beyond as well and are followed by an escape (see `docs/format.md`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcae.errors import ModelFileError
from dcae.networks.scales import scale_table

PRECISION = 24
MAX_ROW = 1 << 14
"""Longest row that a model file may bring."""


@dataclass(frozen=True)
class Tables:
    """Rows of frequencies, concatenated.

    `frequencies` (sum of lengths,) int32, `lengths` and `offsets` (rows,) int32.
    """

    frequencies: NDArray[np.int32]
    lengths: NDArray[np.int32]
    offsets: NDArray[np.int32]

    def __post_init__(self) -> None:
        lengths = self.lengths.astype(np.int64)
        if (
            any(a.dtype != np.int32 or a.ndim != 1 for a in (self.frequencies, self.lengths, self.offsets))
            or len(lengths) < 1
            or len(self.offsets) != len(lengths)
            or lengths.min() < 3
            or lengths.max() > MAX_ROW
            or lengths.sum() != len(self.frequencies)
            or abs(self.offsets.astype(np.int64)).max() > MAX_ROW
        ):
            raise ModelFileError("the probability tables are malformed; get the model file again")
        starts = self.starts
        totals = np.add.reduceat(self.frequencies.astype(np.int64), starts[:-1])
        if self.frequencies.min() < 1 or np.any(totals != 1 << PRECISION):
            raise ModelFileError(f"a probability table does not add up to 2**{PRECISION}; get the model file again")

    @property
    def starts(self) -> NDArray[np.int64]:
        """(rows + 1,) where each row begins in `frequencies`."""
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])

    @classmethod
    def from_pmfs(cls, pmfs: list[NDArray[np.float64]], offsets: list[int]) -> Tables:
        """Integer rows from probabilities, each row already holding its tails in the first and last entry."""
        rows = [_to_frequencies(p) for p in pmfs]
        return cls(
            np.concatenate(rows).astype(np.int32),
            np.array([len(r) for r in rows], np.int32),
            np.array(offsets, np.int32),
        )


def _to_frequencies(pmf: NDArray[np.float64]) -> NDArray[np.int64]:
    total = 1 << PRECISION
    frequencies = np.maximum(np.floor(pmf / pmf.sum() * (total - len(pmf))).astype(np.int64), 0) + 1
    frequencies[int(np.argmax(frequencies))] += total - frequencies.sum()
    return frequencies


def gaussian_tables() -> Tables:
    """One row per level of `scale_table()`: a Gaussian of that deviation integrated over unit bins around integers."""
    radii = [gaussian_radius(sigma) for sigma in scale_table()]
    pmfs = [gaussian_pmf(sigma, radius) for sigma, radius in zip(scale_table(), radii, strict=True)]
    return Tables.from_pmfs(pmfs, [-radius for radius in radii])


def gaussian_radius(sigma: float) -> int:
    """Largest symbol with an entry of its own: beyond 5.5 sigma lies less than one part in 2**24; escapes take it."""
    return math.ceil(5.5 * sigma) + 1


def gaussian_pmf(sigma: float, radius: int) -> NDArray[np.float64]:
    """Probabilities of -radius ... radius, (2·radius + 1,), of a rounded Gaussian around 0; ends have all beyond."""
    edges = [0.5 * math.erfc(-(k - 0.5) / (sigma * math.sqrt(2))) for k in range(-radius, 1)]
    half = np.diff([0.0, *edges[1:]])
    return np.concatenate([half, [1 - 2 * half.sum()], half[::-1]])
