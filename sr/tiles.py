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
    Where there is no such halo tiles overlap, and one fades into the other.

    Args:
        enlarge: enlarges a part of the picture.
        tile: side of a tile in pixels, rounded up to a multiple of `grid`; 0: the picture as a whole.
        halo: pixels around a pixel that decide its enlargement; None where all of them do.
        grid: parts must begin at multiples of so many pixels.
    """
    height, width = x.shape[:2]
    if not tile or max(height, width) <= tile:
        return enlarge(x)
    if halo is None:
        return _blended(enlarge, x, scale, tile, grid)
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


def _blended(enlarge: Callable[[Samples], Samples], x: Samples, scale: int, tile: int, grid: int) -> Samples:
    """The picture of tiles that overlap by an eighth of their side, at least by `grid`; arguments as above."""
    tile = max(-(-tile // grid), 4) * grid
    overlap = max(tile // 8 // grid, 1) * grid
    height, width, colours = x.shape
    out = np.zeros((scale * height, scale * width, colours), np.float32)
    for rows, down in _fading(height, tile, overlap, scale):
        for columns, across in _fading(width, tile, overlap, scale):
            weight = (down[:, None] * across)[..., None]
            part = enlarge(x[rows, columns])
            out[_times(rows, scale), _times(columns, scale)] += weight * part
    return out


def _fading(length: int, tile: int, overlap: int, scale: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Places of overlapping tiles along a dimension, and the weights of their enlarged samples, which sum to 1."""
    ramp = (np.arange(scale * overlap, dtype=np.float32) + 0.5) / (scale * overlap)
    first = 0
    while True:
        last = min(first + tile, length)
        weights = np.ones(scale * (last - first), np.float32)
        if first:
            weights[: len(ramp)] = ramp
        if last < length:
            weights[-len(ramp) :] = ramp[::-1]
        yield slice(first, last), weights
        if last == length:
            return
        first += tile - overlap


def _times(part: slice, scale: int) -> slice:
    return slice(scale * part.start, scale * part.stop)


def _pieces(length: int, tile: int) -> Iterator[tuple[int, int]]:
    for first in range(0, length, tile):
        yield first, min(first + tile, length)
