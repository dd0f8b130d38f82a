"""The transforms of `lite`: analysis, synthesis, and those of the hyper-latents; the diagram is in `wiring.py`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from dcae.networks.band_tensors import multiple
from dcae.networks.bands import WHOLE, Band
from dcae.networks.exact_ready import ConvLayer, Modulation, depth_to_space
from dcae.networks.lite.blocks import LappedDown, LappedUp, SwinLayer, space_to_depth
from dcae.networks.lite.config import LiteConfig

PATCH = 8
"""Stride of the first layer's patches in pixels, that of H/8."""


def full_precision(x: Tensor) -> AbstractContextManager[None]:
    """The linear path of the transforms stays in float32 where their branches run in bf16, whose 8 bits of mantissa
    are not enough for 38 dB."""
    if x.is_meta:  # a device that autocast does not know
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


class Stage(nn.Module):
    """Layers of one resolution, after a modulation by quality."""

    def __init__(self, config: LiteConfig, level: int, reverse: bool = False) -> None:
        super().__init__()
        channels, layers, expansion = config.widths[level], config.layers[level], config.expansions[level]
        if reverse:
            layers = layers[::-1]
        self.modulation = Modulation(len(config.lambdas), channels)
        self.layers = nn.ModuleList()
        for position, letter in enumerate(layers):
            if letter == "C":
                self.layers.append(ConvLayer(channels, expansion, norm=True))
            else:
                shifted = layers[:position].count("S") % 2 == 1
                self.layers.append(SwinLayer(channels, expansion, config.head_channels, config.window, shifted))

    def forward(self, x: Tensor, weights: Tensor, band: Band = WHOLE) -> Tensor:
        x = self.modulation(x, weights)
        for layer in self.layers:
            x = layer(x, band)
        return x


class Analysis(nn.Module):
    """g_a: x (B, H, W, 3) -> y before its gain (B, H/16, W/16, M)."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        wide, deep = config.widths
        self.embed = LappedDown(3, wide, PATCH)
        self.stage8 = Stage(config, 0)
        self.down = LappedDown(wide, deep, 2)
        self.stage16 = Stage(config, 1)
        self.head = nn.Linear(deep, config.transform_channels)

    def forward(self, x: Tensor, weights: Tensor, band: Band = WHOLE) -> Tensor:
        with full_precision(x):
            x = self.embed(x.float(), band)
        x = self.stage8(x, weights, band)
        with full_precision(x):
            x = self.down(x, band)
        x = self.stage16(x, weights, band)
        with full_precision(x):
            return self.head(x)


class Synthesis(nn.Module):
    """g_s: ŷ after its inverse gain -> x̂ (B, H, W, 3)."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        wide, deep = config.widths
        self.embed = nn.Linear(config.transform_channels, deep)
        self.stage16 = Stage(config, 1, reverse=True)
        self.up = LappedUp(deep, wide, 2)
        self.stage8 = Stage(config, 0, reverse=True)
        self.head = LappedUp(wide, 3, PATCH)

    def forward(self, y: Tensor, weights: Tensor, band: Band = WHOLE) -> Tensor:
        with full_precision(y):
            x = self.embed(y)
        x = self.stage16(x, weights, band)
        with full_precision(x):
            x = self.up(x, band)
        x = self.stage8(x, weights, band)
        with full_precision(x):
            return self.head(x, band)


class HyperAnalysis(nn.Module):
    """h_a: y of unit variance -> z before its gain (B, H/64, W/64, N)."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        c = config.hyper_width
        self.embed = nn.Linear(config.transform_channels, c)
        self.modulation = Modulation(len(config.lambdas), c)
        self.layer = ConvLayer(c, 2)
        self.down1 = nn.Linear(4 * c, c)
        self.layer1 = ConvLayer(c, 2)
        self.down2 = nn.Linear(4 * c, config.hyper_channels)

    def forward(self, y: Tensor, weights: Tensor, band: Band = WHOLE) -> Tensor:
        x = self.layer(self.modulation(self.embed(y), weights), band)
        x = self.down1(space_to_depth(multiple(band, self.down1, x, 2), 2))
        x = multiple(band, self.down2, self.layer1(x, band), 2)
        return self.down2(space_to_depth(x, 2))


class HyperSynthesis(nn.Module):
    """h_s: ẑ after its inverse gain -> state of the slice networks (B, H/16, W/16, E). Exact-ready."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        c = config.hyper_width
        self.embed = nn.Linear(config.hyper_channels, c)
        self.layer1 = ConvLayer(c, 2)
        self.up1 = nn.Linear(c, 4 * c)
        self.layer2 = ConvLayer(c, 2)
        self.up2 = nn.Linear(c, 4 * config.context_width)
        self.modulation = Modulation(len(config.lambdas), config.context_width)

    def forward(self, z: Tensor, weights: Tensor) -> Tensor:
        x = self.layer1(self.embed(z))
        x = self.layer2(depth_to_space(self.up1(x), 2))
        return self.modulation(depth_to_space(self.up2(x), 2), weights)
