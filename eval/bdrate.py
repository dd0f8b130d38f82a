"""Bjontegaard delta rate: how many percent more or fewer bytes one codec needs than another at equal quality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from dcae.errors import OptionError
from dcae.extras import require


class BDRate(NamedTuple):
    """Percent, negative when fewer bytes are needed than by the anchor, and the qualities it was measured between."""

    percent: float
    low: float
    high: float


def bd_rate(
    anchor: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]], method: str = "akima"
) -> BDRate:
    """BD-rate of `test` over `anchor` (Bjontegaard, VCEG-M33; computed by the package `bjontegaard`).

    The logarithm of the rate is interpolated over the distortion and integrated over the whole range that both
    curves cover.

    Args:
        anchor, test: (rate, quality) of each point, in any order; higher quality is better, decibels for example.
        method: "akima", "pchip" or "cubic".

    Raises:
        OptionError: fewer than four points, a value that is not finite, a curve that does not rise, or curves that do
            not overlap.
        MissingDependencyError: the package `bjontegaard` is not installed.
    """
    require("BD-rates need", "eval", "bjontegaard")
    import bjontegaard

    curves = []
    for name, points in (("anchor", anchor), ("test", test)):
        curve = sorted(points)
        if len(curve) < 4:
            raise OptionError(f"the {name} curve has {len(curve)} points, a BD-rate needs four")
        if not all(rate > 0 and math.isfinite(rate) and math.isfinite(quality) for rate, quality in curve):
            raise OptionError(f"the {name} curve has a rate or a quality that is not a finite number")
        for a, b in pairwise(curve):
            if not (a[0] < b[0] and a[1] < b[1]):
                raise OptionError(
                    f"the {name} curve does not rise everywhere, so that it has no BD-rate: "
                    f"quality {a[1]:.4g} at rate {a[0]:.4g}, then {b[1]:.4g} at {b[0]:.4g}"
                )
        curves.append(([p[0] for p in curve], [p[1] for p in curve]))
    (anchor_rate, anchor_db), (test_rate, test_db) = curves
    low, high = max(anchor_db[0], test_db[0]), min(anchor_db[-1], test_db[-1])
    if low >= high:
        raise OptionError(f"the curves do not overlap: one ends at quality {high:.2f}, the other begins at {low:.2f}")
    percent = bjontegaard.bd_rate(
        anchor_rate, anchor_db, test_rate, test_db, method, require_matching_points=False, min_overlap=0
    )
    return BDRate(float(percent), low, high)
