"""A picture as the networks see it: padded, in [0, 1], any part of it when it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcae.codec import feedback
from dcae.codec.pictures.picture import Samples, shallow
from dcae.runtime.protocol import Array


class Source:
    """A picture whose right column and bottom row are repeated until both sides are multiples of a stride.

    Args:
        pixels: (rows, columns, 3) RGB or (rows, columns, 1) gray, uint8 or uint16.
        stride: in pixels.
        error: (1, 3, H/64, W/64) of the padded picture, what is added to each block, see `feedback`.
        weights: (rows, columns) uint8, how much the squared error of each pixel counts, 255 for once; None for that
            everywhere.
    """

    def __init__(
        self, pixels: Samples, stride: int, error: Array | None = None, weights: NDArray[np.uint8] | None = None
    ) -> None:
        self.pixels, self.weights, self._stride, self._error = pixels, weights, stride, error
        self.height, self.width = (-(-side // stride) * stride for side in pixels.shape[:2])

    def corrected(self, error: Array | None) -> Source:
        """The same with another error."""
        return Source(self.pixels, self._stride, error, self.weights)

    def levels(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """(rows, columns, 3) of the padded picture, rounded to 8 bits."""
        return shallow(self._part(rows, columns))

    def _part(self, rows: slice, columns: slice) -> NDArray[Any]:
        height, width = self.pixels.shape[:2]
        part = self.pixels[min(rows.start, height - 1) : rows.stop, min(columns.start, width - 1) : columns.stop]
        below, beside = rows.stop - rows.start - len(part), columns.stop - columns.start - part.shape[1]
        if below or beside:
            part = np.pad(part, ((0, below), (0, beside), (0, 0)), mode="edge")
        return np.broadcast_to(part, (*part.shape[:2], 3))

    def __call__(self, rows: slice, columns: slice) -> Array:
        """(1, 3, rows, columns) float32."""
        x = self._part(rows, columns).astype(np.float32, order="C")
        x /= np.float32(np.iinfo(self.pixels.dtype).max)
        x = x.transpose(2, 0, 1)[None]  # in the order in which it lies in memory, colours innermost
        return x if self._error is None else feedback.corrected(x, feedback.spread(self._error, rows, columns))
