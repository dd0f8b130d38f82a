"""DRCT, the dense residual connected transformer (Hsu et al. 2024, arXiv 2404.00722).

::

    x -> 3x3 -> F0 -> LayerNorm -> groups -> LayerNorm -> 3x3 -> + F0 -> 3x3, LeakyReLU -> pixel shuffles -> 3x3
    group:  x_k = LeakyReLU(1x1(Swin_k(x, x_1, ..., x_(k-1)))) for k = 1..4;  x + 0.2 · 1x1(Swin_5(x, x_1, ..., x_4))

Modules are called as in the published code, so that its checkpoints are state dicts of ours, without their buffers. It
takes pictures of multiples of the window alone; here the windows at the border end with the picture, and no token sees
what lies outside. Drop path, which the published training uses, is left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.networks.attention import relative_index, window_attention
from dcae.sr.networks.base import SRNetwork
from dcae.sr.networks.config import DRCTBlock, DRCTConfig

_MEAN = (0.4488, 0.4371, 0.4040)
"""Red, green and blue that the network calls zero."""
_FEATURES = 64
"""Channels in front of the pixel shuffles."""


class _Attention(nn.Module):
    """Attention within windows of maps (B, H, W, C)."""

    def __init__(self, sizes: DRCTBlock, window: int) -> None:
        super().__init__()
        self.window, self.shift = window, sizes.shift
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, sizes.heads))
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.proj = nn.Linear(sizes.width, sizes.width)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.relative_position_bias_table[relative_index(self.window, x.device)].permute(2, 0, 1)
        out: Tensor = self.proj(window_attention(self.qkv(x), bias, self.window, self.shift))
        return out


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class _Swin(nn.Module):
    """Swin transformer block of maps (B, H, W, C)."""

    def __init__(self, sizes: DRCTBlock, window: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.width)
        self.attn = _Attention(sizes, window)
        self.norm2 = nn.LayerNorm(sizes.width)
        self.mlp = _Mlp(sizes.width, sizes.hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _Group(nn.Module):
    """Five blocks, each of which sees what all before it have made, on maps (B, H, W, C)."""

    def __init__(self, config: DRCTConfig) -> None:
        super().__init__()
        for k, sizes in enumerate(config.blocks(), 1):
            setattr(self, f"swin{k}", _Swin(sizes, config.window))
            setattr(self, f"adjust{k}", nn.Conv2d(sizes.width, config.growth if k < 5 else config.width, 1))

    def forward(self, x: Tensor) -> Tensor:
        seen, last = x, x
        for k in range(1, 6):
            adjust: nn.Conv2d = getattr(self, f"adjust{k}")
            last = F.linear(getattr(self, f"swin{k}")(seen), adjust.weight[:, :, 0, 0], adjust.bias)
            if k < 5:
                seen = torch.cat([seen, F.leaky_relu(last, 0.2)], 3)
        return x + 0.2 * last


class _Embedding(nn.Module):
    """The norm in front of the groups, under its published name."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)


class DRCT(SRNetwork):
    """The network of a :class:`DRCTConfig`; pictures have `config.colours` channels."""

    config: DRCTConfig

    def __init__(self, config: DRCTConfig) -> None:
        super().__init__(config)
        width, self.colours = config.width, config.colours
        self.grid = config.window
        self.conv_first = nn.Conv2d(config.colours, width, 3, padding=1)
        self.patch_embed = _Embedding(width)
        self.layers = nn.ModuleList(_Group(config) for _ in range(config.groups))
        self.norm = nn.LayerNorm(width)
        self.conv_after_body = nn.Conv2d(width, width, 3, padding=1) if config.last_convolution else nn.Identity()
        self.conv_before_upsample = nn.Sequential(nn.Conv2d(width, _FEATURES, 3, padding=1), nn.LeakyReLU(0.01))
        steps = [3] if config.scale == 3 else [2] * (config.scale.bit_length() - 1)
        shuffles = [
            layer
            for step in steps
            for layer in (nn.Conv2d(_FEATURES, step**2 * _FEATURES, 3, padding=1), nn.PixelShuffle(step))
        ]
        self.upsample = nn.Sequential(*shuffles)
        self.conv_last = nn.Conv2d(_FEATURES, config.colours, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        mean = torch.tensor(_MEAN if self.colours == 3 else (0.0,), dtype=x.dtype, device=x.device)[:, None, None]
        first = self.conv_first((x - mean) * self.config.img_range)
        tokens = self.patch_embed.norm(first.permute(0, 2, 3, 1))
        for group in self.layers:
            tokens = group(tokens)
        deep = self.conv_after_body(self.norm(tokens).permute(0, 3, 1, 2)) + first
        large = self.conv_last(self.upsample(self.conv_before_upsample(deep)))
        return large / self.config.img_range + mean

    def macs(self) -> float:
        config, area = self.config, self.config.window**2
        width = config.width
        ends = [config.growth] * 4 + [width]
        group = sum(
            4 * block.width**2 + 2 * block.width * block.hidden + 2 * area * block.width + block.width * end
            for block, end in zip(config.blocks(), ends, strict=True)
        )
        small = config.groups * group + 9 * width * (config.colours + width * config.last_convolution + _FEATURES)
        size, total = 1, float(small)
        for layer in self.upsample:
            if isinstance(layer, nn.PixelShuffle):
                size *= layer.upscale_factor
            elif isinstance(layer, nn.Conv2d):
                total += size**2 * 9 * layer.in_channels * layer.out_channels
        return total / config.scale**2 + 9 * _FEATURES * config.colours
