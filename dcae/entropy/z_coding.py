"""What is coded for a symbol of z, and by which table: both follow from its neighbours.

Prediction: a symbol z of a channel is predicted as p = clip(⌊(a·left + b·above + c·above-left + 32) / 64⌋, ±2^16) of
the symbols around it, those outside the picture being 0, with three integers a, b, c per channel; z - p is what is
coded. Channels that gain nothing have zeros.

Activity: what is coded at a position, as Σ weight·min(|z - p|, 3) over all channels. Of each row of positions the one
above tells by its activity which of several sets of tables are taken: where nothing happens, little is to be expected
below. So z is coded row by row.

All of it in integers, so that the same comes out everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcae.errors import ModelFileError

ONE = 64
"""A weight of 1 in a prediction."""
MAX_WEIGHT = 4 * ONE
MAX_SYMBOL = 1 << 16
"""Largest magnitude of a prediction, and of a symbol that is made with one: a hostile stream would make them grow
without end."""
NEIGHBOURS = 3
MAX_ACTIVITY = 255
"""Largest weight of a channel's activity."""
MAX_LIMITS = 15
_CAP = 3
NAMES = ("prediction", "activity", "limits")
"""Fields of :class:`ZCoding`, in a model file with `z_` before them."""

Integers = NDArray[np.int32]


@dataclass(frozen=True)
class ZCoding:
    """How a model's z is coded.

    Raises:
        ModelFileError: numbers of a wrong shape or type, or out of range.
    """

    prediction: Integers
    """(N, 3) weights of the symbols to the left, above, and above to the left, in 1/64."""
    activity: Integers
    """(N,) weights of the channels' activity."""
    limits: Integers
    """(L,) increasing limits between the sets of tables of a position that has a row above; set 0 is for those of the
    first row, set k + 1 for those with k limits at or below what is above. Empty where there is but one set."""

    def __post_init__(self) -> None:
        channels = len(self.activity)
        fits = (
            all(getattr(self, name).dtype == np.int32 for name in NAMES)
            and self.prediction.shape == (channels, NEIGHBOURS)
            and self.activity.shape == (channels,)
            and self.limits.ndim == 1
            and len(self.limits) <= MAX_LIMITS
        )
        if not fits:
            raise ModelFileError("the coding of z is malformed; get the model file again")
        if (
            abs(self.prediction.astype(np.int64)).max(initial=0) > MAX_WEIGHT
            or self.activity.min(initial=0) < 0
            or self.activity.max(initial=0) > MAX_ACTIVITY
            or (np.diff(self.limits.astype(np.int64)) <= 0).any()
        ):
            raise ModelFileError("the coding of z is out of range; get the model file again")

    @property
    def sets(self) -> int:
        """Number of sets of tables."""
        return len(self.limits) + 2 if len(self.limits) else 1

    def differences(self, symbols: Integers) -> Integers:
        """What is to be coded for symbols of z, (N, h, w) both."""
        found = symbols.copy()
        if used := self._predicted():
            around = (part.reshape(len(used), -1) for part in neighbours(symbols[used]))
            found[used] -= said_by(self.prediction[used], *around).reshape(found[used].shape).astype(np.int32)
        return found

    def restored(self, coded: Integers) -> Integers:
        """Symbols of z from what was coded for them, (N, h, w) both.

        The inverse of :meth:`differences` for symbols of at most 2^16 in magnitude; larger ones become that.
        """
        used = self._predicted()
        if not used:
            return coded
        found = coded.copy()
        height, width = coded.shape[1:]
        weights, left_over = self.prediction[used], coded[used].astype(np.int64)
        padded = np.zeros((len(used), height + 1, width + 1), np.int64)
        # Along a diagonal from lower left to upper right no symbol is another's neighbour.
        for diagonal in range(height + width - 1):
            i = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
            j = diagonal - i
            said = said_by(weights, padded[:, i + 1, j], padded[:, i, j + 1], padded[:, i, j])
            padded[:, i + 1, j + 1] = (left_over[:, i, j] + said).clip(-MAX_SYMBOL, MAX_SYMBOL)
        found[used] = padded[:, 1:, 1:]
        return found

    def table_rows(self, above: Integers | None, width: int) -> NDArray[np.uint16]:
        """Table row of every symbol of a row of positions, (N * width,).

        Args:
            above: what is coded in the row above, (N, width); None for the first row.
        """
        channels = len(self.activity)
        chosen = np.zeros(width, np.int64)
        if above is not None and len(self.limits):
            chosen = 1 + np.searchsorted(self.limits, self.seen_from_below(above), side="right")
        return (np.arange(channels)[:, None] + channels * chosen).astype(np.uint16).reshape(-1)

    def seen_from_below(self, coded: Integers) -> NDArray[np.int64]:
        """Activity of a row of positions as the row below sees it, (width,): that above twice, and to both sides of it.

        Args:
            coded: (N, width).
        """
        here = self.activity.astype(np.int64) @ np.minimum(abs(coded.astype(np.int64)), _CAP)
        padded = np.pad(here, 1, mode="edge")
        found: NDArray[np.int64] = padded[:-2] + 2 * here + padded[2:]
        return found

    def arrays(self, height: int) -> Iterator[slice]:
        """Rows of positions that are coded as one array each, one after the other."""
        step = 1 if len(self.limits) else max(height, 1)
        for begin in range(0, height, step):
            yield slice(begin, begin + step)

    def _predicted(self) -> list[int]:
        return [int(channel) for channel in np.flatnonzero(self.prediction.any(1))]


def plain_coding(channels: int) -> ZCoding:
    """Coding of a model that knows nothing of neighbours."""
    return ZCoding(np.zeros((channels, NEIGHBOURS), np.int32), np.zeros(channels, np.int32), np.zeros(0, np.int32))


def neighbours(symbols: Integers) -> tuple[NDArray[np.int64], ...]:
    """Symbols to the left of those of z, above, and above to the left, all (N, h, w); 0 outside."""
    padded = np.pad(symbols.astype(np.int64), ((0, 0), (1, 0), (1, 0)))
    return padded[:, 1:, :-1], padded[:, :-1, 1:], padded[:, :-1, :-1]


def said_by(
    weights: Integers, left: NDArray[np.int64], above: NDArray[np.int64], corner: NDArray[np.int64]
) -> NDArray[np.int64]:
    """What neighbours (channels, n) each predict for n symbols of every channel, with weights (channels, 3)."""
    a, b, c = weights.astype(np.int64).T[..., None]
    return ((a * left + b * above + c * corner + ONE // 2) >> 6).clip(-MAX_SYMBOL, MAX_SYMBOL)
