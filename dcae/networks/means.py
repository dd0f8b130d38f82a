"""Block means such that, once the decoder has spread them, every block has the mean it should have.

The decoder interpolates bilinearly between the blocks' centres, so that along an axis three quarters of what is coded
for a block arrive there, and an eighth at each neighbour. Of all blocks' means m that is A m, with A symmetric: beyond
the border the means are mirrored. A⁻¹ m would undo it, but takes more bits, above all for what alternates from block
to block; (A² + 2 μ (1 - A))⁻¹ A m has the least squared errors plus μ/4 times the squared differences of neighbours
(Tikhonov), and leaves constants alone. Only encoders and training compute it: what decoders do is the same.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Means = TypeVar("Means")
"""A NumPy array or a tensor; what is done here to one can be done to the other."""

DAMPING = 0.05
"""μ: at quality 1 blocks' means are then 0.23 levels wrong (rms), where without all this it is 0.49, for 0.5 % of the
bytes; without damping 0.20 for 0.7 % (at quality 3 0.18 for 0.2 %). docs/training-log.md has what was measured."""
_REACH = 6
"""Blocks to each side that count; those farther away have weights below 0.0001."""
_FREQUENCIES = 256
"""Places at which the response is averaged to find the weights."""


def unspread(means: Means, damping: float = DAMPING) -> Means:
    """Block means (..., h, w) to code so that about `means` (..., h, w), in any unit, are added to the blocks.

    Args:
        damping: μ, at least 0; 0 inverts the spreading.
    """
    found: Means = _along_rows(_along_rows(means, damping).swapaxes(-1, -2), damping).swapaxes(-1, -2)
    return found


def _along_rows(means: Any, damping: float) -> Any:
    count = means.shape[-1]
    weights = _weights(damping)
    found = means * weights[0]
    for distance, weight in enumerate(weights[1:], 1):
        found = found + (means[..., _mirrored(count, distance)] + means[..., _mirrored(count, -distance)]) * weight
    return found


@lru_cache(8)
def _weights(damping: float) -> tuple[float, ...]:
    """Of a block itself, and of those at each distance."""
    frequency = 2 * np.pi * np.arange(_FREQUENCIES) / _FREQUENCIES
    spreading = 0.75 + 0.25 * np.cos(frequency)
    response = spreading / (spreading**2 + 2 * damping * (1 - spreading))
    return tuple(float((response * np.cos(k * frequency)).mean()) for k in range(_REACH + 1))


def _mirrored(count: int, shift: int) -> NDArray[np.int64]:
    """Indices of the neighbours at a distance, with a border that repeats (half-sample symmetric)."""
    place = (np.arange(count) + shift) % (2 * count)
    return np.where(place < count, place, 2 * count - 1 - place)
