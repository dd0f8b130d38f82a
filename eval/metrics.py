"""Fidelity of a decoded picture, on 8-bit RGB."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcae.errors import OptionError
from dcae.networks import ms_ssim as similarity

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
    """
    _check(a, b)
    if min(a.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    return similarity.ms_ssim(a.transpose(2, 0, 1), b.transpose(2, 0, 1), least=0)


def ms_ssim_db(value: float) -> float:
    """-10 log10(1 - MS-SSIM), as curves are usually drawn; inf for identical pictures, nan for nan."""
    return math.inf if value >= 1 else -10 * math.log10(1 - value)


def _check(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> None:
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise OptionError(f"pictures of type {a.dtype} and {b.dtype} cannot be compared, only uint8")
    if a.shape != b.shape or a.ndim != 3:
        raise OptionError(f"pictures of shape {a.shape} and {b.shape} cannot be compared")


@dataclass(frozen=True)
class Metric:
    """A measure of fidelity, by whose name `--metrics` asks for it."""

    name: str
    """Name on the command line."""
    field: str
    """Column in the table of rows."""
    label: str
    """Label of an axis, with the unit of `curve`."""
    measure: Callable[[NDArray[np.uint8], NDArray[np.uint8]], float]
    """The value of two (H, W, 3) uint8 pictures of the same size; nan where it has none."""
    curve: Callable[[float], float]
    """Function from a value to the scale that curves are drawn and BD-rates computed on; higher is better."""
    text: Callable[[float], str]
    """A value for people."""
    min_side: int = 1
    """Shortest side in pixels of pictures that it has a value for."""

    def applies(self, width: int, height: int) -> bool:
        """Whether pictures of this size have a value."""
        return min(width, height) >= self.min_side


def _ms_ssim_or_nan(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    value = ms_ssim(a, b)
    return math.nan if value is None else value


def _psnr_text(value: float) -> str:
    return "inf (identical)" if math.isinf(value) else f"{value:.4f} dB"


def _ms_ssim_text(value: float) -> str:
    if math.isnan(value):
        return f"none (a side is below {MS_SSIM_MIN_SIDE} pixels)"
    return f"{value:.6f} ({ms_ssim_db(value):.4f} dB)"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("psnr", "psnr", "PSNR (dB)", psnr, float, _psnr_text),
        Metric(
            "ms-ssim", "ms_ssim", "MS-SSIM (dB)", _ms_ssim_or_nan, ms_ssim_db, _ms_ssim_text,
            min_side=MS_SSIM_MIN_SIDE,
        ),
    )
}  # fmt: skip


def metrics_named(names: str) -> list[Metric]:
    """Metrics of a comma-separated list, each once, in its order.

    Raises:
        OptionError: an unknown name, or none at all.
    """
    found = []
    for name in dict.fromkeys(filter(None, (n.strip() for n in names.split(",")))):
        if name not in METRICS:
            raise OptionError(f"unknown metric {name!r}; known: {', '.join(METRICS)}")
        found.append(METRICS[name])
    if not found:
        raise OptionError(f"no metric named; known: {', '.join(METRICS)}")
    return found
