"""Brightness corrected by the encoder: it decodes what it coded, adds the mean error of every block of
64x64 pixels to the picture, and codes that instead where it lowers λ·D + R. Decoder and format know nothing of it.

Errors are counted in whole levels of 255, so that the sums do not depend on the order in which parts come.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcae.codec.pictures.picture import Samples
from dcae.networks.config import METRICS
from dcae.networks.ms_ssim import ms_ssim
from dcae.runtime.protocol import Array

BLOCK = 64
"""Side of a block in pixels. Blocks of 32 gain as much at high rates and less at low ones."""
_ROWS = 16
"""Rows whose errors are squared at once."""
WORTH = 0.002
"""Smallest share of λ·D + R that perfect block means would save for which a second coding is tried."""


def rounded(x_hat: Array, depth: int = 8) -> Samples:
    """x̂ (1, 3, rows, columns) as its picture shows it, (rows, columns, 3), with `depth` bits a sample."""
    levels = np.ascontiguousarray(x_hat[0].transpose(1, 2, 0))
    levels = np.clip(levels, 0, 1, out=levels if levels.base is None else None)
    levels *= np.float32(2**depth - 1)
    with np.errstate(invalid="ignore"):  # NaN, which damaged weights may give, becomes some level
        np.rint(levels, out=levels)
        return levels.astype(np.uint8) if depth == 8 else levels.astype(np.uint16)


class Errors:
    """What is wrong with a decoded picture, summed up part by part.

    Args:
        height, width: of the padded picture, multiples of 64.
        rows, columns: of the picture itself, whose squared errors count.
        weights: (rows, columns) uint8, how much each of them counts, 255 for once; None for that everywhere.
    """

    def __init__(
        self, height: int, width: int, rows: int, columns: int, weights: NDArray[np.uint8] | None = None
    ) -> None:
        self._inside, self._weights, self._weighted = (rows, columns), weights, 0
        self._sums = np.zeros((height // BLOCK, width // BLOCK, 3), np.int64)
        self.squared = 0
        """Sum of squares in levels of 255, over all colours, by their weights."""

    def add(self, row: int, column: int, original: NDArray[np.uint8], shown: Samples) -> None:
        """Add a part (rows, columns, 3), beginning at a row and at a column that is a multiple of 64."""
        error = original.astype(np.int16)
        error -= shown
        height, width = self._inside
        inside = error[: max(height - row, 0), : max(width - column, 0)]
        for k in range(0, len(inside), _ROWS):
            squares = np.square(inside[k : k + _ROWS], dtype=np.int32)
            if self._weights is None:
                self.squared += int(squares.sum(dtype=np.int64))
            else:
                weights = self._weights[row + k :, column:][: len(squares), : squares.shape[1]]
                self._weighted += int((squares.sum(2, dtype=np.int64) * weights).sum())
                self.squared = self._weighted // 255
        begins = np.flatnonzero(np.diff((row + np.arange(len(error))) // BLOCK, prepend=-1))
        top, left = row // BLOCK, column // BLOCK
        down = np.add.reduceat(error, begins, 0, dtype=np.int32)  # first, since rows are contiguous
        sums = down.reshape(len(begins), -1, BLOCK, 3).sum(2, dtype=np.int64)
        self._sums[top : top + len(sums), left : left + sums.shape[1]] += sums

    @property
    def distortion(self) -> float:
        """D, of which λ of MSE training makes bits."""
        return self.squared / 3

    @property
    def means(self) -> Array:
        """Mean of x - x̂ over each block, (1, 3, H/64, W/64)."""
        return (self._sums / (255 * BLOCK**2)).astype(np.float32).transpose(2, 0, 1)[None]


class Dissimilarity(Errors):
    """The same, with the distortion that MS-SSIM sees."""

    def __init__(self, height: int, width: int, rows: int, columns: int) -> None:
        super().__init__(height, width, rows, columns)
        sides = (-(-side // 16) * 16 for side in (rows, columns))  # as far as the search counts, see `similarity`
        self._pictures = np.empty((2, *sides, 3), np.uint8)

    def add(self, row: int, column: int, original: NDArray[np.uint8], shown: Samples) -> None:
        super().add(row, column, original, shown)
        height, width = self._pictures.shape[1:3]
        for whole, part in zip(self._pictures, (original, shown), strict=True):
            part = part[: max(height - row, 0), : max(width - column, 0)]
            whole[row : row + len(part), column : column + part.shape[1]] = part

    @property
    def distortion(self) -> float:
        rows, columns = self._inside
        return METRICS["ms-ssim"] * rows * columns * (1 - ms_ssim(*self._pictures.transpose(0, 3, 1, 2)))


def spread(error: Array, rows: slice, columns: slice) -> Array:
    """Every mean over its block, (1, 3, H/64, W/64) -> rows and columns of (1, 3, H, W)."""
    down, right = (np.arange(part.start, part.stop) // BLOCK for part in (rows, columns))
    # Colours innermost, as pictures lie in memory; rows last, which are then copied as a whole.
    return error.transpose(0, 2, 3, 1).take(right, 2).take(down, 1).transpose(0, 3, 1, 2)


def corrected(x: Array, error: Array) -> Array:
    """x with the error of its blocks added; may leave [0, 1]."""
    return x + error


def possible_gain(error: Array, weight: float) -> float:
    """Bits of λ·D that would be saved if all block means became right, for :attr:`Errors.means`."""
    return float(weight * 255**2 * np.mean(error**2, dtype=np.float64) * error.shape[-1] * error.shape[-2] * BLOCK**2)
