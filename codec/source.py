"""A picture as the networks see it: padded, in [0, 1], any part of it when it is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcae.codec import feedback
from dcae.runtime.protocol import Array


class Source:
    """A picture whose right column and bottom row are repeated until both sides are multiples of a stride.

    Args:
        pixels: (rows, columns, 3) uint8.
        stride: in pixels.
        error: (1, 3, H/64, W/64) of the padded picture, what is added to each block, see `feedback`.
    """

    def __init__(self, pixels: NDArray[np.uint8], stride: int, error: Array | None = None) -> None:
        self.pixels, self._stride, self._error = pixels, stride, error
        self.height, self.width = (-(-side // stride) * stride for side in pixels.shape[:2])

    def corrected(self, error: Array) -> Source:
        """The same with another error."""
        return Source(self.pixels, self._stride, error)

    def levels(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """(rows, columns, 3) of the padded picture."""
        height, width = self.pixels.shape[:2]
        part = self.pixels[min(rows.start, height - 1) : rows.stop, min(columns.start, width - 1) : columns.stop]
        below, beside = rows.stop - rows.start - len(part), columns.stop - columns.start - part.shape[1]
        return np.pad(part, ((0, below), (0, beside), (0, 0)), mode="edge") if below or beside else part

    def __call__(self, rows: slice, columns: slice) -> Array:
        """(1, 3, rows, columns) float32."""
        x = self.levels(rows, columns).astype(np.float32)
        x /= np.float32(255)
        x = x.transpose(2, 0, 1)[None]  # in the order in which it lies in memory, colours innermost
        return x if self._error is None else feedback.corrected(x, feedback.spread(self._error, rows, columns))
