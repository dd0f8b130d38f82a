"""Block means such that, once the decoder has spread them, every block has the mean it should have.

The decoder interpolates bilinearly between the blocks' centres, so that along an axis three quarters of what is coded
for a block arrive there, and an eighth at each neighbour (beyond the border the means are mirrored). The inverse of
that filter has weights √2·(2√2 - 3)^|k| at distance k. Only encoders and training compute it: what decoders do is the
same with models that do it and those that do not.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Means = TypeVar("Means")
"""A NumPy array or a tensor; what is done here to one can be done to the other."""

_REACH = 6
"""Blocks to each side that count; those farther away have weights below 0.00001."""
_WEIGHTS = [math.sqrt(2) * (2 * math.sqrt(2) - 3) ** k for k in range(_REACH + 1)]
"""Of a block itself, and of those at each distance."""


def unspread(means: Means) -> Means:
    """Block means (..., h, w) to code so that `means` (..., h, w), in any unit, are added to the blocks."""
    found: Means = _along_rows(_along_rows(means).swapaxes(-1, -2)).swapaxes(-1, -2)
    return found


def _along_rows(means: Any) -> Any:
    count = means.shape[-1]
    found = means * _WEIGHTS[0]
    for distance, weight in enumerate(_WEIGHTS[1:], 1):
        found = found + (means[..., _mirrored(count, distance)] + means[..., _mirrored(count, -distance)]) * weight
    return found


def _mirrored(count: int, shift: int) -> NDArray[np.int64]:
    """Indices of the neighbours at a distance, with a border that repeats (half-sample symmetric)."""
    place = (np.arange(count) + shift) % (2 * count)
    return np.where(place < count, place, 2 * count - 1 - place)
