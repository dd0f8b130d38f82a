"""`paper`, the published network (CVPR 2025, arXiv 2504.00496), 119.4 M parameters.

Keys and shapes of its state dict are those of the authors' checkpoints, which `importer.py` reads. The network has one
rate, and unlike the published code takes pictures of any size.

The entropy model is figure 3 of arXiv 2504.00496. Its names there, and here::

    F_z        hyper-prior features                   h_z_s1(ẑ), for the scales, and h_z_s2(ẑ), for the means
    ŷ_<i       slices that are decoded already        ŷ_0 .. ŷ_(i-1)
    X_i        query: F_z and ŷ_<i                    context (B, 640 + 64 i, H/16, W/16)
    X_i^ms     multi-scale features of the query      dt_cross_attention.i: x_trans, msa (multi-scale aggregation)
    D          dictionary shared by all slices        dt (128, 640)
    F_i^dict   answer of the dictionary               dt_cross_attention.i (B, 320, H/16, W/16)
    Φ_i        f_E(F_z, ŷ_<i, F_i^dict) = (μ_i, σ_i)   cc_mean_transforms.i, cc_scale_transforms.i of the support
    r_i        f_LRP(F_z, ŷ_<i, F_i^dict, ŷ_i)         0.5 tanh(lrp_transforms.i), what rounding ŷ_i has lost

The attention is softmax(τ Q K^T) V in each of 20 heads, Q from X_i^ms, K and V from D, with a learned τ. Transforms are
g_a, g_s (synthesis), h_a and the two hyper syntheses; rounding is ŷ_i = round(y_i - μ_i) + μ_i, and y_i is refined to
ŷ_i + r_i before the next slice sees it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.networks.base import DCAE
from dcae.networks.paper.blocks import Down, SwinStage, Up, conv, deconv
from dcae.networks.paper.config import PaperConfig
from dcae.networks.paper.dictionary import DictionaryCrossAttention
from dcae.networks.scales import scale_table
from dcae.networks.steps import SlicePrior

_DICTIONARY_WIDTH = 640
_HEAD_CHANNELS = 32


def _hyper_synthesis(hyper: int, latent: int) -> nn.Sequential:
    """ẑ (B, hyper, H/64, W/64) -> (B, latent, H/16, W/16)."""
    return nn.Sequential(deconv(hyper, hyper, 3, 2), SwinStage(hyper, 32, 4, 1), Up(hyper, latent))


def _slice_transform(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolutions that read something of one slice off its support."""
    return nn.Sequential(conv(inputs, 224, 3), nn.GELU(), conv(224, 128, 3), nn.GELU(), conv(128, outputs, 3))


class PaperDCAE(DCAE):
    """See the module's docstring; `config` is a :class:`PaperConfig`.

    The context of slice k is its query, concat(scales' features, means' features, ŷ_0 .. ŷ_{k-1}), and the support
    is the query with the dictionary's answer appended, both (B, C, H/16, W/16). `SlicePrior.scale` is σ itself.
    """

    config: PaperConfig

    def __init__(self, config: PaperConfig) -> None:
        super().__init__(config)
        latent, hyper, slices = config.latent_channels, config.hyper_channels, config.slices
        self.g_a = nn.Sequential(
            Down(3, 96),
            SwinStage(96, 8, 8, 1),
            Down(96, 144),
            SwinStage(144, 16, 8, 2),
            Down(144, 256),
            SwinStage(256, 32, 8, 12),
            conv(256, latent, 5, 2),
        )
        self.g_s = nn.Sequential(
            deconv(latent, 256, 5, 2),
            SwinStage(256, 32, 8, 12),
            Up(256, 144),
            SwinStage(144, 16, 8, 2),
            Up(144, 96),
            SwinStage(96, 8, 8, 1),
            Up(96, 3),
        )
        self.h_a = nn.Sequential(Down(latent, hyper), SwinStage(hyper, 32, 4, 1), conv(hyper, hyper, 3, 2))
        self.h_z_s1 = _hyper_synthesis(hyper, latent)
        self.h_z_s2 = _hyper_synthesis(hyper, latent)
        self.dt = nn.Parameter(torch.randn(config.dictionary_entries, _DICTIONARY_WIDTH))
        queries = [2 * latent + sum(slices[:k]) for k in range(len(slices))]
        supports = [query + latent for query in queries]
        self.dt_cross_attention = nn.ModuleList(
            DictionaryCrossAttention(query, latent, _DICTIONARY_WIDTH, _HEAD_CHANNELS) for query in queries
        )
        self.cc_mean_transforms = nn.ModuleList(map(_slice_transform, supports, slices))
        self.cc_scale_transforms = nn.ModuleList(map(_slice_transform, supports, slices))
        self._fused: list[tuple[Tensor, Tensor]] = []
        self.lrp_transforms = nn.ModuleList(
            _slice_transform(support + channels, channels) for support, channels in zip(supports, slices, strict=True)
        )

    @torch.no_grad()
    def prepare_for_coding(self) -> None:
        """Fuse the first convolutions of mean and scale, which read the same support."""
        self._fused = []
        for k in range(len(self.config.slices)):
            first = [f"cc_{which}_transforms.{k}.0" for which in ("mean", "scale")]
            weight = torch.cat([self.get_parameter(f"{name}.weight") for name in first])
            bias = torch.cat([self.get_parameter(f"{name}.bias") for name in first])
            self._fused.append((weight.contiguous(memory_format=torch.channels_last), bias))

    def conditioning(self, quality: float | Tensor) -> None:
        """Nothing: the network has one rate."""

    def analysis(self, x: Tensor, q: None) -> Tensor:
        return self.g_a(x)

    def hyper_analysis(self, y: Tensor, q: None) -> Tensor:
        return self.h_a(y)

    def hyper_synthesis(self, z_hat: Tensor, q: None) -> Tensor:
        return torch.cat([self.h_z_s1(z_hat), self.h_z_s2(z_hat)], 1)

    def slice_prior(self, k: int, context: Tensor, q: None) -> SlicePrior:
        support = torch.cat([context, self.dt_cross_attention[k](context, self.dt)], 1)
        mean = self.get_submodule(f"cc_mean_transforms.{k}")
        scale = self.get_submodule(f"cc_scale_transforms.{k}")
        assert isinstance(mean, nn.Sequential)
        assert isinstance(scale, nn.Sequential)
        if not self._fused:
            return SlicePrior(mean(support), scale(support), support)
        weight, bias = self._fused[k]
        of_mean, of_scale = F.conv2d(support, weight, bias, padding=1).chunk(2, 1)
        return SlicePrior(mean[1:](of_mean), scale[1:](of_scale), support)

    def latent_residual(self, k: int, support: Tensor, y_hat: Tensor, q: None) -> Tensor:
        return y_hat + 0.5 * torch.tanh(self.lrp_transforms[k](torch.cat([support, y_hat], 1)))

    def extend_context(self, k: int, context: Tensor, support: Tensor, y_hat: Tensor, q: None) -> Tensor:
        return torch.cat([context, y_hat], 1)

    def synthesis(self, y_hat: Tensor, q: None) -> Tensor:
        return self.g_s(y_hat)

    def sigma(self, scale: Tensor) -> Tensor:
        # Bounded below by 0.11 in the Gaussian, in a way that lets gradients out of the bound.
        return scale

    def scale_index(self, scale: Tensor) -> Tensor:
        # The first level that is at least as wide, as in CompressAI; the last one for everything beyond.
        levels = torch.tensor(scale_table()[:-1], dtype=scale.dtype, device=scale.device)
        return torch.bucketize(scale.contiguous(), levels)
