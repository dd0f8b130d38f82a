"""The closed-loop part of `lite`: what the transforms leave over, coded after everything else.

A learned transform pair of few channels has an error of its own, which no amount of bits makes smaller: high
frequencies that have no channel, and the brightness of plain areas. So the encoder runs the synthesis too, and two
linear paths carry what is left, exact but for their own quantisation::

    x̂0 = g_s(ŷ)                                       the synthesis of the latents before
    s  = T (x - x̂0),   x̂1 = x̂0 + U ŝ                  skip latents: lapped 32x32 patches, the last slice of y
    c  = P mean64(x - x̂1) / Δ,   x̂ = x̂1 + Δ up64(ĉ)   block means, three numbers per 64x64 pixels

T and U are learned, starting as rows of an orthonormal lapped cosine transform and their transposes. mean64 and up64
(bilinear) are fixed: constants and, away from the border, linear gradients pass through both unchanged. P is 1, or
undoes what up64 does to the means of blocks (`unspreads_means`, `dcae/networks/means.py`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.networks.bands import WHOLE, Band
from dcae.networks.lite.blocks import LappedDown, LappedUp
from dcae.networks.lite.config import LiteConfig
from dcae.networks.lite.starting_values import patch_basis, set_lapped_pair
from dcae.networks.scales import SCALE_MIN, SCALE_STEP

PATCH = 16
"""Stride of the skip latents' patches in pixels, that of y."""
BLOCK = 64
"""Side of a block of the means in pixels, the stride of z."""
_FINEST = 0.8
"""Largest step of a block mean in levels of 255: with uniform errors 0.23 rms, too little to be seen as a blotch."""
_STEP = 2.6 * 0.0009**0.5
"""Step of a block mean in levels of 255 times sqrt(λ) that rate-distortion theory asks for: sqrt(12 · 2.16 / λ) / 64
(D = 3 / (2 ln 2 λ) per coefficient of an orthonormal transform, step² = 12 D, 64² pixels a block)."""


class ResidualPath(nn.Module):
    """T, U and the steps of the block means; see the module's docstring. Tensors are channels-last."""

    mean_step: Tensor
    """(anchors,) Δ, pictures being in [0, 1]."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.down = LappedDown(3, config.skip_channels, PATCH)
        self.up = LappedUp(config.skip_channels, 3, PATCH)
        for layer in (self.down.patch, self.up.patch):  # nothing, until :meth:`start` has seen pictures
            nn.init.zeros_(layer.weight)
        lambdas = torch.tensor(config.mse_lambdas)
        self.register_buffer("mean_step", (_STEP / lambdas.sqrt()).clamp(max=_FINEST) / 255)
        self.mean_scale = nn.Parameter(torch.full((len(lambdas), 3), math.log(1.5 / SCALE_MIN) / SCALE_STEP))
        """(anchors, 3): row of the scale table of each colour's means."""

    def step(self, weights: Tensor) -> Tensor:
        """Δ for interpolation weights (B or 1, anchors): (B or 1, 1, 1, 1)."""
        return (weights @ self.mean_step)[:, None, None, None]

    def analysis(self, left: Tensor, band: Band = WHOLE) -> Tensor:
        """x - x̂0 (B, H, W, 3) -> s before its gain (B, H/16, W/16, K)."""
        return self.down(left, band)

    def synthesis(self, s_hat: Tensor, band: Band = WHOLE) -> Tensor:
        """ŝ after its inverse gain -> x̂1 - x̂0 (B, H, W, 3)."""
        return self.up(s_hat, band)

    @torch.no_grad()
    def start(self, left: Tensor, step: float) -> Tensor:
        """T and U set to those rows of a lapped cosine transform that would save most, and their deviations (K,).

        Args:
            left: x - x̂0 (B, H, W, 3) of training pictures at the highest quality.
            step: of quantisation there; what is smaller than half of it is coded as zero and saves nothing.
        """
        basis, _ = patch_basis(PATCH, PATCH**2 * 3)
        every = LappedDown(3, len(basis), PATCH)
        set_lapped_pair(every, LappedUp(len(basis), 3, PATCH), basis)
        found = every(left.cpu()).flatten(0, 2)
        saved = (found.square() - (step / 2) ** 2).clamp(min=0).mean(0)
        best = saved.argsort(descending=True)[: len(self.down.patch.weight)]
        set_lapped_pair(self.down, self.up, basis[best].to(left))
        return found[:, best].std(0).to(left.device)


def block_means(left: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 3, H/64, W/64)."""
    return F.avg_pool2d(left, BLOCK)


def spread_means(means: Tensor) -> Tensor:
    """(B, 3, h, w) -> (B, 3, 64 h, 64 w), bilinear between the blocks' centres, constant outside the outermost."""
    return F.interpolate(means, scale_factor=BLOCK, mode="bilinear", align_corners=False)
