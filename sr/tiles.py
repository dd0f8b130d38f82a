"""Pictures enlarged tile by tile, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def in_tiles(
    enlarge: Callable[[Samples], Samples], x: Samples, scale: int, tile: int, halo: int | None, grid: int = 1
) -> Samples:
    """A picture (H, W, C) enlarged to (scale · H, scale · W, C).

    Every tile is enlarged with a halo around it, which is cut off, so that the result is that of the whole picture.

    Args:
        enlarge: enlarges a part of the picture.
        tile: side of a tile in pixels, rounded up to a multiple of `grid`; 0: the picture as a whole.
        halo: pixels around a pixel that decide its enlargement; None where all of them do: the picture as a whole.
        grid: parts must begin at multiples of so many pixels.
    """
    height, width = x.shape[:2]
    if not tile or halo is None or max(height, width) <= tile:
        return enlarge(x)
    tile, halo = (-(-n // grid) * grid for n in (tile, halo))
    out = np.empty((scale * height, scale * width, x.shape[2]), np.float32)
    for top, bottom in _pieces(height, tile):
        for left, right in _pieces(width, tile):
            first_row, first_column = max(top - halo, 0), max(left - halo, 0)
            part = enlarge(x[first_row : bottom + halo, first_column : right + halo])
            rows, columns = scale * (top - first_row), scale * (left - first_column)
            out[scale * top : scale * bottom, scale * left : scale * right] = part[
                rows : rows + scale * (bottom - top), columns : columns + scale * (right - left)
            ]
    return out


def _pieces(length: int, tile: int) -> Iterator[tuple[int, int]]:
    for first in range(0, length, tile):
        yield first, min(first + tile, length)
