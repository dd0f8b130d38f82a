"""Qualities of a training batch, drawn in strata so that every step sees the whole range of rates."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dcae.networks.config import DCAEConfig

ENDS = 0.08
"""Part of the range by which draws go beyond each end of it, where they are the end: what belongs to the first and the
last quality is otherwise never trained at more than a part of its weight, and the last cost 1 to 2 % of J (8 % of a
dark picture) more than its neighbours foretold."""


def in_strata(draws: np.ndarray, seed: int, step: int, first: int, total: int) -> np.ndarray:
    """Uniform draws of one step, moved so that each of `total` equal parts of [0, 1) holds exactly one of the batch.

    Which sample gets which part is a permutation that follows from (seed, step), so that every process finds its own.

    Args:
        draws: (B,) uniform in [0, 1), of the samples `first` to `first + B - 1` of the global batch.
        total: samples in the global batch.

    Returns:
        (B,) in [0, 1), each uniform by itself.
    """
    # A fourth number, since (seed, step) alone would seed what (seed, step, 0), the first sample's generator, does.
    places = np.random.default_rng((seed, step, 0, 1)).permutation(total)[first : first + len(draws)]
    return np.asarray((places + draws) / total)


def qualities_of(network: DCAEConfig, draws: np.ndarray, weight: float, device: str) -> tuple[Tensor, Tensor]:
    """Qualities over the model's range and their λ.

    Args:
        draws: (B,) in [0, 1).
        weight: 1 for qualities as uniform as the draws but for :data:`ENDS`; above 1, low ones are more frequent.

    Returns:
        Two float32 tensors (B,) on the device.
    """
    low, high = network.qualities
    places = ((1 + 2 * ENDS) * draws**weight - ENDS).clip(0, 1)
    qualities = low + (high - low) * places
    lambdas = [network.lambda_of(float(v)) for v in qualities]
    return (
        torch.tensor(qualities, dtype=torch.float32, device=device),
        torch.tensor(lambdas, dtype=torch.float32, device=device),
    )
