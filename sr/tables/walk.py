"""Walk through a table network's stages, the same for look-up and training, and the geometry of rotations."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dcae.sr.tables.config import TableConfig

M = TypeVar("M")
"""Map: one number for each pixel and colour channel."""
S = TypeVar("S")
"""Sums: as many numbers for each pixel as a stage's entries have."""


class Steps(Protocol[M, S]):
    """What a walk is made of; integers or tensors with gradients."""

    def added(self, sums: S | None, stage: int, channel: int, current: M, previous: M | None) -> S:
        """Sums with those of a stage's units over their four rotations added; None stands for zeros.

        Args:
            current: map that is looked at.
            previous: map of an earlier stage that is mixed in (AdaRL), if any.
        """

    def maps(self, sums: S, divisor: int) -> list[M]:
        """Maps of 0...255: sums / divisor + 127, rounded half to even and clipped."""

    def mixed(self, stage: int, maps: list[M]) -> list[M]:
        """As many maps of 0...255, from the values of all at the same pixel."""

    def enlarged(self, sums: S, divisor: int) -> M:
        """The enlarged map: sums / divisor, rounded half to even and clipped to 0...255, in cells of scale x scale."""


def walk(config: TableConfig, picture: M, steps: Steps[M, S]) -> M:
    """Enlarge a picture, all of whose colour channels are treated alike."""
    current = picture
    inputs: list[M] = []
    kept: list[M] = []
    units = len(config.units)
    for stage, kind in enumerate(config.stages, 1):
        if kind == "mix":
            kept = steps.mixed(stage, kept)
            continue
        if kind == "up":
            break
        previous = inputs[-1] if config.residual and inputs else None
        inputs.append(current)
        found = steps.maps(steps.added(None, stage, 0, current, previous), 4 * units)
        if kind != "pass":
            kept.append(found[0])
        current = found[-1]
    sources = kept or [current]
    sums = None
    for channel, source in enumerate(sources):
        previous = None
        if config.residual and inputs:  # a kept map is mixed with the input of the stage that it came from
            previous = inputs[len(inputs) - len(sources) + channel]
        sums = steps.added(sums, len(config.stages), channel, source, previous)
    assert sums is not None
    return steps.enlarged(sums, units * len(sources))


def rotated(offset: tuple[int, int], turns: int) -> tuple[int, int]:
    """(row, column) in the picture of an offset in the picture rotated by `turns` quarter turns, as numpy's rot90."""
    row, column = offset
    for _ in range(turns):
        row, column = column, -row
    return row, column


def cell_order(outputs: int, turns: int) -> NDArray[np.intp]:
    """Order in which numbers of a look-up in the rotated picture fill the cell of the unrotated one, row by row.

    Args:
        outputs: numbers of an entry: a square in the last stage; as many maps, which do not turn, in others.
        turns: quarter turns of the picture.
    """
    side = int(outputs**0.5)
    return np.rot90(np.arange(outputs).reshape(side, side), -turns).ravel()
