"""Degradations by name: what makes the small pictures that a network learns to enlarge."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from dcae.resize import taps


@lru_cache(maxsize=16)
def _matrix(length: int, scale: int, kernel: str, device: torch.device) -> Tensor:
    """(length / scale, length), the reduction of one dimension."""
    places, weights = taps(length, 1 / scale, kernel)
    matrix = np.zeros((len(places), length), np.float32)
    np.add.at(matrix, (np.arange(len(places))[:, None], places), weights.astype(np.float32))
    return torch.from_numpy(matrix).to(device)


def reduced(pictures: Tensor, scale: int, kernel: str) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1] reduced as :func:`dcae.sr.protocol.resize.reduced` does it, float on the levels
    of 8 bits.

    Args:
        pictures: their sides are multiples of `scale`.
        kernel: name of a kernel.
    """
    rows = _matrix(pictures.shape[2], scale, kernel, pictures.device)
    columns = _matrix(pictures.shape[3], scale, kernel, pictures.device)
    small = rows @ pictures @ columns.T
    return (small.clamp(0, 1) * 255).round() / 255
