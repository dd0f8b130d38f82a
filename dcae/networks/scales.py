"""The table of Gaussian scales: 64 standard deviations, log-spaced from 0.11 to 256, as in CompressAI.

A level is coded by its index; `lite` predicts the index itself, `paper` a scale that is rounded up to a level.
"""

from __future__ import annotations

import math

SCALE_LEVELS = 64
SCALE_MIN = 0.11
SCALE_MAX = 256.0
SCALE_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_LEVELS - 1)
"""Natural logarithm of the ratio of two neighbouring levels."""


def scale_table() -> tuple[float, ...]:
    """The 64 standard deviations, in units of the quantisation step, increasing."""
    return tuple(math.exp(math.log(SCALE_MIN) + k * SCALE_STEP) for k in range(SCALE_LEVELS))
