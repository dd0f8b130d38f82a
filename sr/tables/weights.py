"""Weights of samplers and shares of earlier maps as whole numbers, so that every machine computes with the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcae.sr.tables.layout import WEIGHT_BITS


def sampler_weights(raw: NDArray[np.float32]) -> NDArray[np.int32]:
    """(inputs, k, k) whole weights that sum to 2 to the power of WEIGHT_BITS, from (inputs, 1, k, k) before softmax."""
    flat = raw.astype(np.float64).reshape(len(raw), -1)
    shares = np.exp(flat - flat.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    whole = np.rint(shares * 2**WEIGHT_BITS).astype(np.int64)
    for row in whole:
        row[row.argmax()] += 2**WEIGHT_BITS - row.sum()
    return whole.astype(np.int32).reshape(len(raw), *raw.shape[2:])


def share_weights(shares: NDArray[np.float32]) -> NDArray[np.int32]:
    """(4,) whole shares of the earlier map, from shares in 0...1."""
    return np.rint(shares.astype(np.float64).clip(0, 1).reshape(-1) * 2**WEIGHT_BITS).astype(np.int32)
