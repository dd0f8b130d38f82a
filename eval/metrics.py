"""Fidelity of a decoded picture, on 8-bit RGB."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dcae.errors import MissingDependencyError, OptionError

MS_SSIM_MIN_SIDE = 161
"""Shortest side in pixels on which five scales of an 11-tap window fit."""


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB over all samples of two (H, W, 3) uint8 pictures; inf when identical.

    Raises:
        OptionError: different shapes, or not 8 bits.
    """
    _check(a, b)
    # Squares of 8-bit differences fit int32, and their mean is accumulated in float64.
    difference = a.astype(np.int16) - b
    mse = float(np.square(difference, dtype=np.int32).mean())
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def ms_ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float | None:
    """MS-SSIM of two (H, W, 3) uint8 pictures, mean of the channels; None if a side is below 161 pixels.

    Raises:
        OptionError: different shapes, or not 8 bits.
        MissingDependencyError: pytorch_msssim is not installed.
    """
    _check(a, b)
    if min(a.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    try:
        from pytorch_msssim import ms_ssim as measure
    except ImportError as error:
        raise MissingDependencyError(f"MS-SSIM needs pytorch-msssim (pip install pytorch-msssim): {error}") from error
    import torch

    x, y = (torch.from_numpy(np.array(p)).permute(2, 0, 1)[None].float() for p in (a, b))
    with torch.inference_mode():
        return float(measure(x, y, data_range=255))


def ms_ssim_db(value: float) -> float:
    """-10 log10(1 - MS-SSIM), as curves are usually drawn; inf for identical pictures."""
    return -10 * math.log10(1 - value) if value < 1 else math.inf


def _check(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> None:
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise OptionError(f"pictures of type {a.dtype} and {b.dtype} cannot be compared, only uint8")
    if a.shape != b.shape or a.ndim != 3:
        raise OptionError(f"pictures of shape {a.shape} and {b.shape} cannot be compared")


from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    name: str
    field: str
    label: str
    measure: Callable
    curve: Callable


METRICS = {
    "psnr": Metric("psnr", "psnr", "PSNR (dB)", psnr, lambda v: v),
    "ms-ssim": Metric("ms-ssim", "ms_ssim", "MS-SSIM (dB)", ms_ssim, ms_ssim_db),
}
