"""MS-SSIM (Wang, Simoncelli and Bovik, 2003), as it is measured and as the encoder's search takes it.

It is the mean of the three colours, of windows of 11x11 pixels (a Gaussian of 1.5 pixels) that lie within the picture,
on as many scales, each half as large as the one before, as such windows fit into. From sides of 161 on these are five,
and values are those that the field reports (with the package pytorch_msssim); of fewer, the weights of those that are
left are scaled to add up to 1. The search has sides that are multiples of 16, so that halves are whole.

How much the structure of a window is wrong is, exactly, the variance of the error in it divided by the variances of
both pictures there: errors count less where a picture is rough. `sensitivity` says how much, of each pixel.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Samples = NDArray[np.float32] | NDArray[np.uint8]

TAPS = 11
"""Side of a window in pixels."""
LUMINANCE, CONTRAST = 0.01**2, 0.03**2
"""What keeps quotients of means and of variances finite."""
LEAST = 1e-3
"""Least similarity of a scale that is told apart: the power of 0 has no gradient, that of less no value."""
_SCALES = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333
_MIDDLE = np.float32(0.5)
_TILE = 64
"""Side of the parts that windows are taken of at once, in pixels."""


def scales_of(height: int, width: int) -> int:
    """Number of scales of a picture with sides of at least 11 pixels."""
    scales, side = 0, min(height, width)
    while side >= TAPS and scales < len(_SCALES):
        scales, side = scales + 1, (side + 1) // 2
    return scales


def scale_weights(scales: int) -> tuple[float, ...]:
    """Weights of so many scales, the finest first; their sum is 1, of all five 1.0001, as it was published."""
    total = sum(_SCALES[:scales]) if scales < len(_SCALES) else 1.0
    return tuple(weight / total for weight in _SCALES[:scales])


@cache
def window() -> tuple[float, ...]:
    """The window's taps along one axis; their sum is 1."""
    taps = [math.exp(-((k - TAPS // 2) ** 2) / (2 * 1.5**2)) for k in range(TAPS)]
    return tuple(tap / sum(taps) for tap in taps)


def ms_ssim(x: Samples, y: Samples, least: float = LEAST) -> float:
    """MS-SSIM of two pictures (3, H, W) in [0, 1] or of 8 bits, H and W at least 11; 1 for equal ones.

    Args:
        least: similarity that a scale has at least.
    """
    weights = scale_weights(scales_of(*x.shape[1:]))
    found = np.ones(3)
    for scale, weight in enumerate(weights):
        if scale:
            x, y = _halved(x), _halved(y)
        found *= np.maximum(_similarity(x, y, last=scale == len(weights) - 1), least) ** weight
    return float(found.mean())


def _halved(x: Samples) -> Array:
    """(3, H, W) -> means of 2x2 pixels, (3, ⌈H / 2⌉, ⌈W / 2⌉); odd sides begin with a zero, as the field has it."""
    row, column = (side % 2 for side in x.shape[1:])
    if row or column:
        x = np.pad(_unit(x), [(0, 0), (row, 0), (column, 0)])
    found = sum(_unit(x[:, row::2, column::2]) for row in (0, 1) for column in (0, 1))
    return np.asarray(found * np.float32(0.25))


def _unit(x: Samples) -> Array:
    """Samples in [0, 1]; of pictures that are whole as they are given, for the sake of memory."""
    return np.asarray(x / np.float32(255) if x.dtype == np.uint8 else x, np.float32)


def _similarity(x: Samples, y: Samples, last: bool) -> NDArray[np.float64]:
    """(3,) mean over all windows of how alike their structures are, of the last scale their means as well."""
    rows, columns = (side - TAPS + 1 for side in x.shape[1:])
    total = np.zeros(3)
    for top in range(0, rows, _TILE):
        for left in range(0, columns, _TILE):
            part = slice(None), slice(top, top + _TILE + TAPS - 1), slice(left, left + _TILE + TAPS - 1)
            total += _alike(_unit(x[part]), _unit(y[part]), last).sum((1, 2), dtype=np.float64)
    return total / (rows * columns)


def _alike(x: Array, y: Array, last: bool) -> Array:
    """How alike each window is, (3, H - 10, W - 10)."""
    x, y = x - _MIDDLE, y - _MIDDLE  # squares of smaller numbers are more precise
    mean_x, mean_y, squares, products = _windowed(np.stack([x, y, x * x + y * y, x * y]))
    both, across = mean_x * mean_x + mean_y * mean_y, mean_x * mean_y
    alike: Array = (2 * (products - across) + np.float32(CONTRAST)) / (squares - both + np.float32(CONTRAST))
    if last:
        mean_x, mean_y = mean_x + _MIDDLE, mean_y + _MIDDLE
        both, across = mean_x * mean_x + mean_y * mean_y, mean_x * mean_y
        alike *= (2 * across + np.float32(LUMINANCE)) / (both + np.float32(LUMINANCE))
    return alike


def _windowed(maps: Array) -> Array:
    """Weighted means over all windows, (..., H, W) -> (..., H - 10, W - 10)."""
    rows, columns = (_band(side) for side in maps.shape[-2:])
    return rows @ maps @ columns.T


@cache
def _band(side: int) -> Array:
    """(side - 10, side): each row a window."""
    band = np.zeros((side - TAPS + 1, side), np.float32)
    for k, tap in enumerate(window()):
        np.fill_diagonal(band[:, k:], tap)
    return band


def sensitivity(x: Array) -> Array:
    """About how much 1 - MS-SSIM grows with the mean of each pixel's squared error, over colours and pixels.

    Args:
        x: (3, H, W) in [0, 1], H and W multiples of 16.

    Returns:
        (H, W), the same in blocks of 16x16.
    """
    height, width = x.shape[1:]
    found = np.zeros((height // 16, width // 16), np.float32)
    for scale, weight in enumerate(scale_weights(scales_of(height, width))):
        if scale:
            x = _halved(x)
        side = 16 >> scale
        per_window = np.pad(_harshness(x), TAPS // 2, "edge")
        # Half of what smooth errors would lose: coarse scales see less of rough ones.
        found += np.float32(weight / 2) * per_window.reshape(len(found), side, -1, side).mean((1, 3))
    return found.repeat(16, 0).repeat(16, 1)


def _harshness(x: Array) -> Array:
    """What the variance of an error is divided by in each window, inverted; mean of the colours, (H - 10, W - 10)."""
    rows, columns = (side - TAPS + 1 for side in x.shape[1:])
    found = np.empty((rows, columns), np.float32)
    for top in range(0, rows, _TILE):
        for left in range(0, columns, _TILE):
            tile = slice(top, top + _TILE + TAPS - 1), slice(left, left + _TILE + TAPS - 1)
            mean, squares = _windowed(np.stack([x[:, tile[0], tile[1]], np.square(x[:, tile[0], tile[1]])]))
            per_window = 1 / (2 * np.maximum(squares - mean * mean, 0) + np.float32(CONTRAST))
            found[top : top + _TILE, left : left + _TILE] = per_window.mean(0)
    return found
