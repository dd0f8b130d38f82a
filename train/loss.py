"""The rate-distortion loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class RateDistortion(NamedTuple):
    """Each (B,): the loss, bits per pixel of y and of z, and the mean squared error of pictures in [0, 1]."""

    loss: Tensor
    bpp_y: Tensor
    bpp_z: Tensor
    mse: Tensor


def rate_distortion(x: Tensor, output: dict[str, Any], lambdas: Tensor) -> RateDistortion:
    """λ·255²·MSE + bpp per sample (Minnen et al. 2018, as in CompressAI).

    Args:
        x: (B, 3, H, W) in [0, 1].
        output: what `DCAE.forward` returned for it.
        lambdas: (B,) or (1,).
    """
    pixels = x.shape[-1] * x.shape[-2]
    bits = {k: -torch.log2(v.float()).sum((1, 2, 3)) / pixels for k, v in output["likelihoods"].items()}
    mse = (output["x_hat"].float() - x).square().mean((1, 2, 3))
    return RateDistortion(lambdas * 255**2 * mse + bits["y"] + bits["z"], bits["y"], bits["z"], mse)
