"""Feedback of block means: the encoder looks at what the decoder would show, and corrects its brightness.

A learned transform pair carries plain areas with an error of brightness of up to some levels, the same over large
areas, which quantisation has no part in. So the encoder decodes what it coded, adds the mean error of every block of
64x64 pixels to the picture, and codes that instead where it lowers λ·D + R. Decoder and format know nothing of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 64
"""Side of a block in pixels. Blocks of 32 gain as much at high rates and less at low ones."""
WORTH = 0.002
"""Smallest share of λ·D + R that perfect block means would save for which a second coding is tried."""


def rounded(x_hat: Tensor) -> Tensor:
    """x̂ as its 8-bit picture shows it, in [0, 1]."""
    return (x_hat.float().clamp(0, 1) * 255).round() / 255


def block_error(x: Tensor, x_hat: Tensor) -> Tensor:
    """Mean of x - x̂ over each block, (B, C, H/64, W/64), for (B, C, H, W) with sides that are multiples of 64."""
    return F.avg_pool2d(x - x_hat, BLOCK)


def corrected(x: Tensor, error: Tensor) -> Tensor:
    """x with each block's error added; may leave [0, 1]."""
    return x + F.interpolate(error, scale_factor=BLOCK, mode="nearest")


def cost(x: Tensor, x_hat: Tensor, weight: float, size: int) -> float:
    """λ·D + R of a file in bits.

    Args:
        x, x_hat: (1, 3, H, W) in [0, 1].
        weight: λ of MSE training, see :class:`dcae.config.DCAEConfig`.
        size: of the file in bytes.
    """
    pixels = x.shape[-1] * x.shape[-2]
    return float(weight * 255**2 * torch.mean((x - x_hat) ** 2) * pixels + 8 * size)


def possible_gain(error: Tensor, weight: float) -> float:
    """Bits of λ·D that would be saved if all block means became right, for the result of :func:`block_error`."""
    return float(weight * 255**2 * torch.mean(error**2) * error.shape[-1] * error.shape[-2] * BLOCK**2)
