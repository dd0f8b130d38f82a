"""What searches for better latents share, whatever engine computes their gradients; see `torch_search.py`.

A trial changes symbols by 1 where the gradient, a curvature and the symbol's own bits promise a gain. Alone that fails:
of many changes the best promises are those of curvatures that were taken for too small, and changes that overlap in the
picture disturb each other. So the gradient is taken again with the changes made. The mean of both gradients times a
change is what it did, exactly so for a quadratic function and with all other changes there; what did not pay is
undone, and its curvature is known from now on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from dcae.networks.config import METRICS
from dcae.networks.ms_ssim import sensitivity
from dcae.runtime.progress import GRADIENT, watcher
from dcae.runtime.protocol import Array, Step, Trial

MOST = 0.25
"""Largest step of a latent, in quantisation steps."""
PROBE = 16
"""Side of the part of y that curvature is measured on, in latents."""
Latents = TypeVar("Latents", bound=Any)
"""An array or a tensor (1, M, H/16, W/16)."""


class Moves(NamedTuple):
    """Symbols, and what changing them would do; arrays are (1, M, H/16, W/16)."""

    value: float
    """J in bits."""
    symbols: Array
    """Whole numbers."""
    means: Array
    """Of the symbols' Gaussians: y is means + symbols."""
    gradient: Array
    """Of J with respect to each symbol, the bits of all later symbols included, its own not."""
    up: Array
    """Bits that a symbol itself costs more if it grows by 1."""
    down: Array
    """Bits that it costs more if it falls by 1."""


class Similarity(NamedTuple):
    """How the search counts 1 - MS-SSIM in place of squared errors."""

    height: int
    """Rows of the picture that it is taken of, a multiple of 16."""
    width: int
    """Likewise its columns."""
    worth: float
    """What it is worth, in squared errors summed over colours and pixels."""
    weights: Array
    """(1, 1, H, W), how much the squared error of each pixel counts about as much, by which steps are scaled."""


def similarity(x: Array, weights: Array) -> Similarity:
    """What the search counts in place of squared errors.

    Args:
        x: (1, 3, H, W) in [0, 1], sides multiples of 64.
        weights: (1, 1, H, W), 1 for pixels of the picture and 0 for padding below and beside it. Of that, MS-SSIM
            covers what latents with pixels of the picture do.
    """
    height, width = (-(-int(weights[0, 0].any(axis).sum()) // 16) * 16 for axis in (1, 0))
    found, ratio = np.zeros_like(weights), 3 / 255**2 * METRICS["ms-ssim"]
    found[..., :height, :width] = sensitivity(x[0, :, :height, :width]) * np.float32(ratio / 3)
    return Similarity(height, width, ratio * float(weights.sum()), found)


class Symbols(Protocol):
    """The objective of one picture over its symbols."""

    def moves(self, values: Array, relative: bool, /) -> Moves:
        """Moves from some symbols (1, M, H/16, W/16), or if `relative` from what latents are rounded to."""


class Problem(Symbols, Protocol):
    """The objective of one picture."""

    def curvature(self, y: Array, /) -> Array:
        """Twice λ times the mean energy that a step of each channel of y has in the picture, by the pixels' weights, in
        bits, (1, M, H/16, W/16)."""

    def gradient(self, y: Array, temperature: float, /) -> tuple[Array, Array]:
        """Gradient of J in bits and σ at y, all (1, M, H/16, W/16)."""


def searched(problem: Problem, y: Array, steps: Sequence[Step | Trial]) -> Array:
    """y after some steps and then trials, (1, M, H/16, W/16) as it came."""
    steps, trials = split(steps)
    curvature = problem.curvature(y)
    for step in steps:
        gradient, sigma = problem.gradient(y, step.temperature)
        h = curvature + np.float32(4 * math.log2(math.e)) / (sigma**2 + np.float32(1 / 12))
        y = y - (np.float32(step.rate) * (gradient / h).clip(-1, 1)).clip(-MOST, MOST)
        report(y)
    return tried(problem, y, curvature, trials) if trials else y


def split(steps: Sequence[Step | Trial]) -> tuple[list[Step], list[Trial]]:
    """The gradient steps and the trials, which come after them."""
    trials = [step for step in steps if isinstance(step, Trial)]
    return [step for step in steps if isinstance(step, Step)], trials


def gradients(steps: Sequence[Step | Trial]) -> int:
    """Number of gradients that some steps and trials take."""
    steps, trials = split(steps)
    return len(steps) + (1 + 2 * len(trials) if trials else 0)


def report(y: Latents) -> None:
    """Say that one gradient more has been taken, at latents (1, M, H/16, W/16)."""
    watcher().advance(GRADIENT, 256 * y.shape[2] * y.shape[3])


def tried(problem: Symbols, y: Array, curvature: Array, trials: Sequence[Trial]) -> Array:
    """y, a whole number of steps from its means, after trials that were worth it.

    Args:
        curvature: (1, M, 1, 1), as of `Problem.curvature`.
    """
    draw = np.random.RandomState(0)
    curvature = np.broadcast_to(curvature, y.shape)
    here = problem.moves(y, True)
    report(y)
    for trial in trials:
        gains = [here.gradient + curvature / 2 + here.up, curvature / 2 - here.gradient + here.down]
        chosen = (np.minimum(*gains) < 0) & (draw.random_sample(y.shape) < trial.share)
        change = np.where(chosen, np.where(gains[0] < gains[1], np.float32(1), np.float32(-1)), np.float32(0))
        there = problem.moves(here.symbols + change, False)
        report(y)
        own = np.where(change > 0, here.up, here.down)
        worth_it = chosen & ((here.gradient + there.gradient) / 2 * change + own < 0)
        seen = (there.gradient - here.gradient) * change
        curvature = np.where(chosen, np.maximum(curvature, seen), curvature)
        kept = problem.moves(here.symbols + np.where(worth_it, change, np.float32(0)), False)
        here = min(here, kept, key=lambda moves: moves.value)
        report(y)
    return here.means + here.symbols


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
