"""Reduction and enlargement of pictures by a kernel, as MATLAB's `imresize` does it.

Other libraries have other kernels or another rule at the border, which moves results by up to 0.6 dB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcae.checks import check_choice

Floats = NDArray[np.floating]
_ROWS = 64
"""Rows of a picture that are made or rounded at once."""


class Kernel(NamedTuple):
    """A function of interpolation."""

    weight: Callable[[Floats], Floats]
    """Weight at a distance in pixels."""
    support: float
    """Distance from which on the weight is 0."""


def _bicubic(t: Floats) -> Floats:
    """Keys' kernel with a = -0.5."""
    t = np.abs(t)
    inner, outer = (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t <= 1, inner, np.where(t <= 2, outer, 0))


def _lanczos(t: Floats) -> Floats:
    """Sinc with three lobes."""
    return np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0)


def _bilinear(t: Floats) -> Floats:
    return np.maximum(1 - np.abs(t), 0)


def _box(t: Floats) -> Floats:
    return np.where((t >= -0.5) & (t < 0.5), 1.0, 0.0)


KERNELS = {
    "bicubic": Kernel(_bicubic, 2),
    "lanczos": Kernel(_lanczos, 3),
    "bilinear": Kernel(_bilinear, 1),
    "box": Kernel(_box, 0.5),
}
"""Kernels by name, the usual one first."""


class Taps(NamedTuple):
    """What each output sample of one dimension is made of."""

    places: NDArray[np.int64]
    """(out, taps), input samples; outside ones are reflected, the edge repeated."""
    weights: NDArray[np.float64]
    """(out, taps), which sum to 1."""


def taps(length: int, factor: float, kernel: str) -> Taps:
    """Taps of a dimension of `length` samples that becomes ceil(length · factor) samples.

    Args:
        factor: below 1 the kernel is widened, so that nothing aliases.
        kernel: a name of `KERNELS`.

    Raises:
        OptionError: an unknown kernel.
    """
    check_choice("kernel", kernel, KERNELS)
    weight, support = KERNELS[kernel]
    widened = min(factor, 1.0)
    out = np.arange(int(np.ceil(length * factor)))
    centre = (out + 0.5) / factor - 0.5
    first = np.floor(centre - support / widened)
    places = first[:, None] + np.arange(int(np.ceil(2 * support / widened)) + 2)
    weights = weight(widened * (centre[:, None] - places))
    weights /= weights.sum(1, keepdims=True)
    used = np.abs(weights).max(0) > 0
    period = places[:, used].astype(np.int64) % (2 * length)
    return Taps(np.where(period < length, period, 2 * length - 1 - period), weights[:, used])


def resized(x: NDArray[np.float32], factor: float, kernel: str = "bicubic") -> NDArray[np.float32]:
    """A picture (H, W, C) with sides ceil(H · factor) and ceil(W · factor), float32; nothing is clipped.

    Raises:
        OptionError: an unknown kernel.
    """
    rows, columns = (taps(side, factor, kernel) for side in x.shape[:2])
    found = np.empty((len(rows.places), len(columns.places), x.shape[2]), np.float32)
    for top in range(0, len(found), _ROWS):  # so that little is kept beside a large picture
        part = slice(top, top + _ROWS)
        between = _summed(x, Taps(rows.places[part], rows.weights[part]))
        found[part] = _summed(between.swapaxes(0, 1), columns).swapaxes(0, 1)
    return found


def _summed(x: NDArray[np.float32], along: Taps) -> NDArray[np.float32]:
    """Weighted sums along the first of three dimensions."""
    summed = np.zeros((len(along.places), *x.shape[1:]), np.float32)
    for places, weights in zip(along.places.T, along.weights.T, strict=True):
        tap = x[places]
        tap *= weights[:, None, None].astype(np.float32)
        summed += tap
    return summed


def to_float(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.float32]:
    """Samples of 8 or 16 bits as float32 in [0, 1]."""
    found = pixels.astype(np.float32)
    found /= np.float32(np.iinfo(pixels.dtype).max)
    return found


def to_samples(x: NDArray[np.float32], like: np.dtype | type = np.uint8) -> NDArray:
    """Float samples clipped to [0, 1] and rounded, halves to even, to all values of uint8 or uint16."""
    most = np.iinfo(like).max
    found = np.empty(x.shape, like)
    for k in range(0, len(x), _ROWS):  # of a large picture, float64 is kept of few rows
        part = np.clip(x[k : k + _ROWS], 0, 1).astype(np.float64)
        found[k : k + _ROWS] = np.rint(part * most)
    return found
