"""The rate-distortion loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dcae.networks.config import METRICS

MEAN_SIDES = (8, 16, 64)
"""Sides of the blocks, in pixels, whose mean errors are counted again: the eye is strict where nothing else is."""

_MIDDLE = 0.01
"""An MSE λ in the middle of the usual range."""


class Distortion(NamedTuple):
    """What λ multiplies."""

    metric: str = "mse"
    """"mse", 255² times the mean squared error, or "ms-ssim", 1 - MS-SSIM, which needs sides of at least 161."""
    block_means: float = 0.0
    """Weight of the squared errors of block means (see :data:`MEAN_SIDES`) beside that of the pixels, of which they are
    a part already; sides of pictures must then be multiples of 64."""
    pixel_share: float = 0.0
    """Of the distortion of "ms-ssim", the share that squared errors have, at their worth in it: MS-SSIM hardly sees
    colours and plain areas."""
    even: bool = False
    """Whether 1 - MS-SSIM is weighted, picture by picture, so that it is worth as much as the squared errors there. It
    is strictest in smooth pictures, by factors of 2 to 20, whose gradients drown all others."""


SQUARED_ERRORS = Distortion()

_LEAST = 0.02
"""Loss, in bits per pixel at a middle λ, below which patches are weighed up no further: plain ones cost hardly any."""


class RateDistortion(NamedTuple):
    """Each (B,): the loss, bits per pixel of y (with the block means, where they are coded) and of z, and the mean
    squared error of pictures in [0, 1]."""

    loss: Tensor
    bpp_y: Tensor
    bpp_z: Tensor
    mse: Tensor


def rate_distortion(
    x: Tensor, output: dict[str, Any], lambdas: Tensor, kind: Distortion = SQUARED_ERRORS
) -> RateDistortion:
    """λ·255²·MSE + bpp per sample (Minnen et al. 2018), or λ·(1 - MS-SSIM) + bpp, as in CompressAI.

    Args:
        x: (B, 3, H, W) in [0, 1].
        output: what `DCAE.forward` returned for it.
        lambdas: (B,) or (1,).
    """
    pixels = x.shape[-1] * x.shape[-2]
    bits = {k: -torch.log2(v.float()).sum((1, 2, 3)) / pixels for k, v in output["likelihoods"].items()}
    x_hat = output["x_hat"].float()
    mse = (x_hat - x).square().mean((1, 2, 3))
    distortion = 255**2 * mse
    if kind.block_means:
        for side in MEAN_SIDES:
            distortion = distortion + kind.block_means * 255**2 * F.avg_pool2d(x_hat - x, side).square().mean((1, 2, 3))
    if kind.metric == "ms-ssim":
        from pytorch_msssim import ms_ssim

        dissimilar, squared = 1 - ms_ssim(x_hat, x, data_range=1.0, size_average=False), distortion / METRICS["ms-ssim"]
        if kind.even:
            dissimilar = dissimilar * (squared / dissimilar.clamp(min=1e-6)).detach()
        distortion = (1 - kind.pixel_share) * dissimilar + kind.pixel_share * squared
    z = bits.pop("z")
    y = torch.stack(list(bits.values())).sum(0)
    return RateDistortion(lambdas * distortion + y + z, y, z, mse)


def balanced(loss: Tensor, lambdas: Tensor, metric: str, power: float) -> Tensor:
    """Each sample's loss, divided by λ (relative to a middle one) to `power`."""
    return loss / (lambdas / (_MIDDLE * METRICS[metric])) ** power


def relative(loss: Tensor, power: float) -> Tensor:
    """Each sample's loss, weighed so that its gradient is divided by what it comes to itself, to `power`.

    BD-rates are means of ratios, picture by picture, where a mean of losses is one of bits: rough patches, with ten
    times the bits of smooth ones at the same λ, decide it, and their gradients drown the others'. A power of 1 is the
    mean of logarithms, of which a patch of nothing but sky would be as much as any other.
    """
    return loss / (loss.detach() + _LEAST) ** power
