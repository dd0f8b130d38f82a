"""Prediction of a symbol of z from its neighbours: what is coded of plain areas is how they differ from each other.

A symbol z of a channel is predicted as p = clip(⌊(a·left + b·above + c·above-left + 32) / 64⌋, ±2^16) of the symbols
around it, those outside the picture being 0, with three integers a, b, c per channel; z - p is what is coded. In
integers, so that the same comes out everywhere. Channels that gain nothing have zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcae.errors import ModelFileError

ONE = 64
"""A weight of 1."""
MAX_WEIGHT = 4 * ONE
MAX_SYMBOL = 1 << 16
"""Largest magnitude of a prediction, and of a symbol that is made with one: a hostile stream would make them grow
without end."""
NEIGHBOURS = 3

Weights = NDArray[np.int32]
"""(N, 3) for each channel of z: left, above, above and to the left, in 1/64."""


def no_prediction(channels: int) -> Weights:
    """Weights of a model that codes z as it is."""
    return np.zeros((channels, NEIGHBOURS), np.int32)


def checked_weights(weights: NDArray[np.generic], channels: int) -> Weights:
    """Weights as a model file brings them.

    Raises:
        ModelFileError: of another shape or type, or out of range.
    """
    if weights.shape != (channels, NEIGHBOURS) or weights.dtype != np.int32:
        raise ModelFileError("the prediction of z is malformed; get the model file again")
    found: Weights = weights.astype(np.int32)
    if found.min() < -MAX_WEIGHT or found.max() > MAX_WEIGHT:
        raise ModelFileError("the prediction of z is out of range; get the model file again")
    return found


def prediction(weights: Weights, left: NDArray, above: NDArray, corner: NDArray) -> NDArray[np.int64]:
    """What neighbours (channels, n) each say of n symbols of every channel."""
    a, b, c = weights.astype(np.int64).T[..., None]
    return ((a * left + b * above + c * corner + ONE // 2) >> 6).clip(-MAX_SYMBOL, MAX_SYMBOL)


def neighbours(symbols: NDArray[np.int32]) -> tuple[NDArray[np.int64], ...]:
    """Symbols to the left of those of z, above, and above to the left, all (N, h, w); 0 outside."""
    padded = np.pad(symbols.astype(np.int64), ((0, 0), (1, 0), (1, 0)))
    return padded[:, 1:, :-1], padded[:, :-1, 1:], padded[:, :-1, :-1]


def differences(symbols: NDArray[np.int32], weights: Weights) -> NDArray[np.int32]:
    """What is to be coded for symbols of z, (N, h, w) both."""
    found = symbols.copy()
    if used := _used(weights):
        said = prediction(weights[used], *(part.reshape(len(used), -1) for part in neighbours(symbols[used])))
        found[used] -= said.reshape(found[used].shape).astype(np.int32)
    return found


def restored(coded: NDArray[np.int32], weights: Weights) -> NDArray[np.int32]:
    """Symbols of z from what was coded for them, (N, h, w) both.

    The inverse of :func:`differences` for symbols of at most 2^16 in magnitude; larger ones become that.
    """
    used = _used(weights)
    if not used:
        return coded
    found = coded.copy()
    height, width = coded.shape[1:]
    some, left_over = weights[used], coded[used].astype(np.int64)
    padded = np.zeros((len(used), height + 1, width + 1), np.int64)
    # Along a diagonal from lower left to upper right no symbol is another's neighbour.
    for diagonal in range(height + width - 1):
        i = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        j = diagonal - i
        said = prediction(some, padded[:, i + 1, j], padded[:, i, j + 1], padded[:, i, j])
        padded[:, i + 1, j + 1] = (left_over[:, i, j] + said).clip(-MAX_SYMBOL, MAX_SYMBOL)
    found[used] = padded[:, 1:, 1:]
    return found


def _used(weights: Weights) -> list[int]:
    return [int(channel) for channel in np.flatnonzero(weights.any(1))]
