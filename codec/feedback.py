"""Feedback of block means: the encoder looks at what the decoder would show, and corrects its brightness.

A learned transform pair carries plain areas with an error of brightness of up to some levels, the same over large
areas, which quantisation has no part in. So the encoder decodes what it coded, adds the mean error of every block of
64x64 pixels to the picture, and codes that instead where it lowers λ·D + R. Decoder and format know nothing of it.
"""

from __future__ import annotations

import numpy as np

from dcae.runtime.protocol import Array

BLOCK = 64
"""Side of a block in pixels. Blocks of 32 gain as much at high rates and less at low ones."""
WORTH = 0.002
"""Smallest share of λ·D + R that perfect block means would save for which a second coding is tried."""


def rounded(x_hat: Array) -> Array:
    """x̂ as its 8-bit picture shows it, in [0, 1]."""
    return np.rint(x_hat.clip(0, 1) * np.float32(255)) / np.float32(255)


def block_error(x: Array, x_hat: Array) -> Array:
    """Mean of x - x̂ over each block, (1, 3, H/64, W/64), for (1, 3, H, W) with sides that are multiples of 64."""
    _, colours, height, width = x.shape
    blocks = (x - x_hat).reshape(1, colours, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return blocks.mean((3, 5), dtype=np.float64).astype(np.float32)


def spread(means: Array) -> Array:
    """Every mean over its block, (1, 3, h, w) -> (1, 3, 64 h, 64 w)."""
    return means.repeat(BLOCK, 2).repeat(BLOCK, 3)


def corrected(x: Array, error: Array) -> Array:
    """x with each block's error added; may leave [0, 1]."""
    return x + spread(error)


def cost(x: Array, x_hat: Array, weight: float, size: int) -> float:
    """λ·D + R of a file in bits.

    Args:
        x, x_hat: (1, 3, H, W) in [0, 1].
        weight: λ of MSE training, see :class:`dcae.networks.config.DCAEConfig`.
        size: of the file in bytes.
    """
    pixels = x.shape[-1] * x.shape[-2]
    return float(weight * 255**2 * np.mean((x - x_hat) ** 2, dtype=np.float64) * pixels + 8 * size)


def possible_gain(error: Array, weight: float) -> float:
    """Bits of λ·D that would be saved if all block means became right, for the result of :func:`block_error`."""
    return float(weight * 255**2 * np.mean(error**2, dtype=np.float64) * error.shape[-1] * error.shape[-2] * BLOCK**2)
