"""The blocks `lite` is wired from. All work on channels-last tensors (B, H, W, C), so that 1x1 convolutions are
`nn.Linear` on contiguous memory and depthwise convolutions see channels_last without a copy.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.networks.attention import relative_index, window_attention
from dcae.networks.band_tensors import joined, keep, multiple
from dcae.networks.bands import WHOLE, Band
from dcae.networks.exact_ready import GatedUnit, depth_to_space, zero_linear


def space_to_depth(x: Tensor, factor: int) -> Tensor:
    """(B, H, W, C) -> (B, H/f, W/f, f·f·C)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // factor, factor, w // factor, factor, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // factor, w // factor, factor * factor * c)


def _pad_rows(x: Tensor, count: int, band: Band) -> Tensor:
    """(B, H, W, C) with its first and last rows repeated `count` times where the picture begins and ends."""
    return torch.cat([x[:, :1]] * (count * band.first) + [x] + [x[:, -1:]] * (count * band.last), 1)


def _pad_columns(x: Tensor, count: int) -> Tensor:
    """(B, H, W, C) with its first and last columns repeated `count` times."""
    return torch.cat([x[:, :, :1]] * count + [x] + [x[:, :, -1:]] * count, 2)


class LappedDown(nn.Module):
    """(B, f·h, f·w, C) -> (B, h, w, D), a lapped transform: a linear map of 2f x 2f patches that overlap by half.

    Patches are 2x2 cells of a grid shifted by half a cell, so that one 2x2 convolution takes them all.
    """

    def __init__(self, inputs: int, outputs: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.patch = nn.Linear(4 * factor**2 * inputs, outputs)
        """Map of a patch's samples, in the order (cell row, cell column, row, column, channel)."""

    def forward(self, x: Tensor, band: Band = WHOLE) -> Tensor:
        f = self.factor
        x = joined(band, self, _pad_rows(_pad_columns(x, f // 2), f // 2, band))
        patches = x.shape[1] // f - 1
        keep(band, self, x, patches * f)
        x = space_to_depth(x[:, : (patches + 1) * f], f)
        weight = self.patch.weight.reshape(-1, 2, 2, x.shape[-1]).permute(0, 3, 1, 2)
        return F.conv2d(x.permute(0, 3, 1, 2), weight, self.patch.bias).permute(0, 2, 3, 1)


class LappedUp(nn.Module):
    """(B, h, w, C) -> (B, f·h, f·w, D): 2f x 2f patches that overlap by half, added up. Mirrors :class:`LappedDown`."""

    def __init__(self, inputs: int, outputs: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.patch = nn.Linear(inputs, 4 * factor**2 * outputs, bias=False)
        self.bias = nn.Parameter(torch.zeros(factor**2 * outputs))

    def energies(self) -> Tensor:
        """(C,) squared norm of what one unit of each input adds to the output."""
        return self.patch.weight.detach().square().sum(0)

    def forward(self, x: Tensor, band: Band = WHOLE) -> Tensor:
        # A cell's samples are the first half of the patch that begins in it and the second half of the one before.
        weight = self.patch.weight.reshape(2, 2, len(self.bias), -1).flip(0, 1).permute(2, 3, 0, 1)
        x = joined(band, self, _pad_rows(_pad_columns(x, 1), 1, band))
        keep(band, self, x, x.shape[1] - 1)
        x = F.conv2d(x.permute(0, 3, 1, 2), weight, self.bias).permute(0, 2, 3, 1)
        trim = self.factor // 2
        x = depth_to_space(x, self.factor)
        return x[:, trim * band.first : x.shape[1] - trim * band.last, trim:-trim]


class WindowAttention(nn.Module):
    """x + W_o attention(W_qkv norm(x)) within windows of `window`², optionally shifted by half a window."""

    def __init__(self, channels: int, head_channels: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.window = window
        self.shift = window // 2 if shifted else 0
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero_linear(channels, channels)
        self.position_bias = nn.Parameter(torch.zeros(self.heads, (2 * window - 1) ** 2))
        self._frozen_bias: Tensor | None = None

    def _bias(self) -> Tensor:
        """(heads, tokens, tokens): what the relative position of two tokens adds to their logit."""
        return self.position_bias[:, relative_index(self.window, self.position_bias.device)]

    @torch.no_grad()
    def freeze_bias(self) -> None:
        """Look the table of positions up once and for all."""
        self._frozen_bias = self._bias()

    def forward(self, x: Tensor, band: Band = WHOLE) -> Tensor:
        # In four dimensions: torch has a faster kernel for them, the same for windows at the border and elsewhere.
        bias = (self._bias() if self._frozen_bias is None else self._frozen_bias)[None]
        x = multiple(band, self, x, self.window, self.window - self.shift if self.shift else 0)
        return x + self.out(window_attention(self.qkv(self.norm(x)), bias, self.window, self.shift, band))


class SwinLayer(nn.Module):
    """Window attention, then a gated unit."""

    def __init__(self, channels: int, expansion: int, head_channels: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.attention = WindowAttention(channels, head_channels, window, shifted)
        self.unit = GatedUnit(channels, expansion, norm=True)

    def forward(self, x: Tensor, band: Band = WHOLE) -> Tensor:
        return self.unit(self.attention(x, band))


class Gain(nn.Module):
    """Per-channel gains exp(log_gain) of each anchor, linearly interpolated between anchors (B or 1, 1, 1, C)."""

    def __init__(self, initial: Tensor) -> None:
        """initial: (anchors, C), positive."""
        super().__init__()
        self.log_gain = nn.Parameter(initial.log())

    def forward(self, weights: Tensor) -> Tensor:
        return (weights @ self.log_gain.exp())[:, None, None]
