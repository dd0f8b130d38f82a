"""MS-SSIM in NumPy: what the package pytorch_msssim computes, without PyTorch and in little memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WEIGHTS = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333
"""Of the scales, the finest first (Wang, Simoncelli, Bovik 2003)."""
_TAPS = np.exp(-np.square(np.arange(-5, 6)) / (2 * 1.5**2))
_WINDOW = (_TAPS / _TAPS.sum()).astype(np.float32)
_CONTRAST, _BRIGHTNESS = np.float32((0.03 * 255) ** 2), np.float32((0.01 * 255) ** 2)
_ROWS = 64
"""Rows that are filtered at a time, so that what is kept for them stays in the processor's caches."""
_MIDDLE = np.float32(128)
Plane = NDArray[np.float32]


def similarity(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """MS-SSIM of two (H, W, 3) uint8 pictures with sides of at least 161, mean of the channels."""
    return float(np.mean([_of_planes(a[..., c].astype(np.float32), b[..., c].astype(np.float32)) for c in range(3)]))


def _of_planes(x: Plane, y: Plane) -> float:
    value = 1.0
    for scale, weight in enumerate(_WEIGHTS, 1):
        structure, both = _means(x, y)
        value *= max(both if scale == len(_WEIGHTS) else structure, 0.0) ** weight
        x, y = _halved(x), _halved(y)
    return value


def _means(x: Plane, y: Plane) -> tuple[float, float]:
    """Means over a plane of contrast and structure, and of SSIM."""
    height, width = (side - len(_WINDOW) + 1 for side in x.shape)
    totals = np.zeros(2)
    for top in range(0, height, _ROWS):
        rows = slice(top, min(top + _ROWS, height) + len(_WINDOW) - 1)
        a, b = x[rows] - _MIDDLE, y[rows] - _MIDDLE  # of smaller numbers the squares are more precise
        mean_a, mean_b, square_a, square_b, product = _filtered(np.stack([a, b, a * a, b * b, a * b]))
        variances = square_a - mean_a * mean_a + square_b - mean_b * mean_b
        structure = (2 * (product - mean_a * mean_b) + _CONTRAST) / (variances + _CONTRAST)
        mean_a, mean_b = mean_a + _MIDDLE, mean_b + _MIDDLE
        brightness = (2 * mean_a * mean_b + _BRIGHTNESS) / (mean_a * mean_a + mean_b * mean_b + _BRIGHTNESS)
        totals += structure.sum(dtype=float), (structure * brightness).sum(dtype=float)
    structure_mean, both_mean = totals / (height * width)
    return float(structure_mean), float(both_mean)


def _filtered(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, H, W) -> (N, H - 10, W - 10): by the window, where all of it lies inside."""
    for axis in (1, 2):
        count = planes.shape[axis] - len(_WINDOW) + 1
        total: Any = 0
        for at, weight in enumerate(_WINDOW):
            part = slice(at, at + count)
            total = total + weight * (planes[:, part] if axis == 1 else planes[:, :, part])
        planes = total
    return planes


def _halved(plane: Plane) -> Plane:
    """Means of 2x2 pixels; sides that are odd get a zero on either end first, as pytorch_msssim has it."""
    plane = np.pad(plane, [(side % 2, side % 2) for side in plane.shape])
    height, width = (side // 2 for side in plane.shape)
    return plane[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3))
