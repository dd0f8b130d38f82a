"""Scores of an enlarged picture as the field computes them: PSNR and SSIM, above all of brightness (Y)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcae.errors import OptionError

WINDOW, SIGMA = 11, 1.5
"""Side in pixels and standard deviation of SSIM's Gaussian window."""
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_LUMA = np.array([65.481, 128.553, 24.966]) / 255


class Scores(NamedTuple):
    """Scores of one picture, higher is better."""

    psnr_y: float
    """PSNR of Y in dB; inf if both are the same."""
    ssim_y: float | None
    """SSIM of Y, at most 1; None for pictures without room for its window."""
    psnr_rgb: float
    """PSNR of red, green and blue together in dB."""


def luma(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Y of BT.601 in the studio range, 16 to 235 and not rounded: (H, W, 3) red, green, blue -> (H, W)."""
    return 16 + np.dot(pixels, _LUMA)


def psnr(a: NDArray, b: NDArray) -> float:
    """PSNR in dB of samples on the scale of 8 bits; inf where all are the same."""
    mse = float(np.square(a.astype(np.float64) - b).mean())
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def ssim(a: NDArray, b: NDArray) -> float | None:
    """SSIM on the scale of 8 bits: mean over all places of the window that lie within the picture, and over channels.

    Args:
        a, b: (H, W) or (H, W, C).

    Returns:
        None where a side is shorter than the window.
    """
    if min(a.shape[:2]) < WINDOW:
        return None
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x, var_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    return float((top / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))).mean())


def _windowed(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means under the Gaussian window."""
    window = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    window /= window.sum()
    for axis in (0, 1):
        x = np.moveaxis(x, axis, 0)
        kept = len(x) - WINDOW + 1
        x = np.moveaxis(sum((w * x[k : k + kept] for k, w in enumerate(window)), np.zeros(())), 0, axis)
    return x


def scores(reference: NDArray[np.uint8], enlarged: NDArray[np.uint8], border: int) -> Scores:
    """Scores of an enlarged picture.

    Args:
        reference, enlarged: (H, W, 3) red, green, blue.
        border: pixels at each side that do not count; the protocol's number is the scale.

    Raises:
        OptionError: pictures of different shapes, of another type, or with nothing inside the border.
    """
    if reference.shape != enlarged.shape or reference.shape[2:] != (3,):
        raise OptionError(f"pictures of shape {reference.shape} and {enlarged.shape} cannot be compared")
    if reference.dtype != np.uint8 or enlarged.dtype != np.uint8:
        raise OptionError(f"scores are of uint8, not of {reference.dtype} and {enlarged.dtype}")
    height, width = reference.shape[:2]
    if min(height, width) <= 2 * border:
        raise OptionError(f"a picture of {width}x{height} pixels has nothing inside a border of {border}")
    inside = slice(border, height - border), slice(border, width - border)
    a, b = reference[inside], enlarged[inside]
    return Scores(psnr(luma(a), luma(b)), ssim(luma(a), luma(b)), psnr(a, b))
