"""The rate-distortion loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dcae.networks.config import METRICS

_MIDDLE = 0.01
"""An MSE λ in the middle of the usual range."""


class RateDistortion(NamedTuple):
    """Each (B,): the loss, bits per pixel of y and of z, and the mean squared error of pictures in [0, 1]."""

    loss: Tensor
    bpp_y: Tensor
    bpp_z: Tensor
    mse: Tensor


def rate_distortion(x: Tensor, output: dict[str, Any], lambdas: Tensor, metric: str = "mse") -> RateDistortion:
    """λ·255²·MSE + bpp per sample (Minnen et al. 2018), or λ·(1 - MS-SSIM) + bpp, as in CompressAI.

    Args:
        x: (B, 3, H, W) in [0, 1]; sides of at least 161 for MS-SSIM.
        output: what `DCAE.forward` returned for it.
        lambdas: (B,) or (1,).
        metric: "mse" or "ms-ssim".
    """
    pixels = x.shape[-1] * x.shape[-2]
    bits = {k: -torch.log2(v.float()).sum((1, 2, 3)) / pixels for k, v in output["likelihoods"].items()}
    x_hat = output["x_hat"].float()
    mse = (x_hat - x).square().mean((1, 2, 3))
    distortion = 255**2 * mse
    if metric == "ms-ssim":
        from pytorch_msssim import ms_ssim

        distortion = 1 - ms_ssim(x_hat, x, data_range=1.0, size_average=False)
    return RateDistortion(lambdas * distortion + bits["y"] + bits["z"], bits["y"], bits["z"], mse)


def balanced(loss: Tensor, lambdas: Tensor, metric: str, power: float) -> Tensor:
    """Each sample's loss, divided by λ (relative to a middle one) to `power`."""
    return loss / (lambdas / (_MIDDLE * METRICS[metric])) ** power
