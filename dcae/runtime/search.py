"""What searches for better latents share, whatever engine computes their gradients; see `torch_search.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dcae.runtime.protocol import Array, Step

MOST = 0.25
"""Largest step of a latent, in quantisation steps."""
PROBE = 16
"""Side of the part of y that curvature is measured on, in latents."""
Latents = TypeVar("Latents", bound=Any)
"""An array or a tensor (1, M, H/16, W/16)."""


class Problem(Protocol):
    """The objective of one picture."""

    channels: Sequence[int]
    """Of each searched slice."""

    def curvature(self, y: Array, /) -> Array:
        """Twice λ times the mean energy that a step of each channel of y has in the picture, by the pixels' weights, in
        bits, (1, M, H/16, W/16)."""

    def gradient(self, y: Array, temperature: float, settled: NDArray[np.bool_], /) -> tuple[Array, Array]:
        """Gradient of J in bits and σ at y, all (1, M, H/16, W/16); latents that are `settled` are rounded."""


def searched(problem: Problem, y: Array, steps: Sequence[Step]) -> Array:
    """y after some steps, (1, M, H/16, W/16) as it came; latents that were rounded are whole steps from their mean."""
    curvature, order, count = problem.curvature(y), coding_order(y.shape, problem.channels), 0.0
    for step in steps:
        count += step.settle
        settled = order < count
        gradient, sigma = problem.gradient(y, step.temperature, settled)
        h = curvature + np.float32(4 * math.log2(math.e)) / (sigma**2 + np.float32(1 / 12))
        change = np.float32(step.rate) * (gradient / h).clip(-1, 1)
        y = y - np.where(settled, np.float32(0), change.clip(-MOST, MOST))
    return y


def middle(y: Latents) -> Latents:
    """The part of y that curvature is measured on."""
    rows, columns = (slice(max(0, (n - PROBE) // 2), (n + PROBE) // 2) for n in y.shape[-2:])
    return y[..., rows, columns]


def local_weights(weights: Array) -> Array:
    """Weights of pixels (1, 1, H, W) -> how much the pixels that a latent reaches count, (1, 1, H/16, W/16)."""
    height, width = (side // 16 for side in weights.shape[-2:])
    means = weights.reshape(height, 16, width, 16).mean((1, 3))
    around = np.lib.stride_tricks.sliding_window_view(np.pad(means, 1, "edge"), (3, 3))
    return np.asarray(around.mean((2, 3)), np.float32)[None, None]


def random_signs(shape: Sequence[int]) -> Array:
    """-1 or 1, the same ones every time."""
    # `RandomState`, unlike what came after it, draws the same numbers in every version of NumPy.
    return (np.random.RandomState(0).randint(0, 2, size=tuple(shape)) * 2 - 1).astype(np.float32)


def coding_order(shape: Sequence[int], channels: Sequence[int]) -> NDArray[np.float64]:
    """When each latent is settled: k + a random fraction for those of slice k, (1, M, H/16, W/16)."""
    first = np.repeat(np.arange(len(channels)), channels)
    return np.random.RandomState(0).random_sample(tuple(shape)) + first[:, None, None]
