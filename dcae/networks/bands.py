"""Bands of rows that a picture goes through the transforms in, from the top down; without torch.

A layer that looks beyond a row keeps the last rows of a band and joins them to the next one: nothing is computed
twice, and what comes out lags behind what went in. Only at the borders of the picture does it pad.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Band:
    """Where a band lies in its picture, and what the layers of one transform have kept of the bands above it."""

    first: bool = True
    """Nothing is above it."""
    last: bool = True
    """Nothing is below it."""
    kept: dict[Any, Any] = field(default_factory=dict)
    """What layers, or graphs, keep, each under a key of its own."""

    @property
    def whole(self) -> bool:
        """Whether it is the whole picture."""
        return self.first and self.last

    def next(self, last: bool) -> Band:
        """The band below, which goes on with what was kept."""
        return Band(False, last, self.kept)


WHOLE = Band()
"""A whole picture; nothing is ever kept in it."""
