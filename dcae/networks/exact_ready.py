"""Blocks whose arithmetic has an exact integer form (`dcae/entropy/exact.py`), as everything that decides a probability
in `lite` must, and the network that is made of them.

They use only linear maps, depthwise convolutions, ReLU, clamps, products and softmax, on channels-last tensors
(B, H, W, C); those with a layer norm, which is optional, are not exact.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.networks.band_tensors import joined, keep, pieces, taken
from dcae.networks.bands import WHOLE, Band
from dcae.networks.base import DCAE
from dcae.networks.bounds import GATE_BOUND, KERNEL, QUERY_BOUND


def depth_to_space(x: Tensor, factor: int) -> Tensor:
    """(B, H, W, f·f·C) -> (B, f·H, f·W, C), the inverse of `dcae.networks.lite.blocks.space_to_depth`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, factor, factor, c // factor**2).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * factor, w * factor, c // factor**2)


class Depthwise(nn.Module):
    """Depthwise convolution of an odd kernel, zero padding."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, 1, kernel, kernel) / kernel)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, band: Band = WHOLE) -> Tensor:
        pad = self.weight.shape[-1] // 2
        padding = (pad, pad)
        if not band.whole:
            x = joined(band, self, x)
            keep(band, self, x, max(x.shape[1] - 2 * pad, 0))
            x = F.pad(x, (0, 0, 0, 0, pad * band.first, pad * band.last))
            padding = (0, pad)
        y = F.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias, padding=padding, groups=self.weight.shape[0])
        return y.permute(0, 2, 3, 1)


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map that starts at zero, so that the residual branch it ends starts as the identity."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class GatedUnit(nn.Module):
    """x + W3 (clamp(W1 x', 0, `BOUND`) · W2 x'), x' = layer norm of x if `norm`, else x.

    The bound keeps a stack of such units from growing like a power of its input, which is what makes unbounded
    gates diverge in training without normalisation.
    """

    BOUND = GATE_BOUND

    def __init__(self, channels: int, expansion: int, norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()
        self.fc1 = nn.Linear(channels, 2 * expansion * channels)
        self.fc2 = zero_linear(expansion * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            gate, value = self.fc1(self.norm(x)).chunk(2, -1)
            return x + self.fc2(F.hardtanh(gate, 0.0, self.BOUND) * value)  # clamp, with a backward of one pass
        flat = x.reshape(-1, x.shape[-1])
        out = torch.empty_like(flat)
        for part, to in zip(pieces(flat), pieces(out), strict=True):
            gate, value = self.fc1(self.norm(part)).chunk(2, -1)
            torch.add(part, self.fc2(gate.clamp_(0, self.BOUND).mul_(value)), out=to)
        return out.reshape(x.shape)


class ConvLayer(nn.Module):
    """x + W2 dw(relu(W1 x')), x' as in :class:`GatedUnit`, then a gated unit."""

    def __init__(self, channels: int, expansion: int, norm: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()
        self.fc1 = nn.Linear(channels, channels)
        self.depthwise = Depthwise(channels, KERNEL)
        self.fc2 = zero_linear(channels, channels)
        self.unit = GatedUnit(channels, expansion, norm)

    def forward(self, x: Tensor, band: Band = WHOLE) -> Tensor:
        inner = self.depthwise(F.relu(self.fc1(self.norm(x))), band)
        return self.unit(taken(band, self, x, inner.shape[1]) + self.fc2(inner))


class DictionaryAttention(nn.Module):
    """x + W_o attention(query W_q x; keys and values of a learned dictionary).

    The keys are linear in the dictionary and know nothing of the picture, so that they are constants at coding
    time. Queries are clamped to ±`CLAMP`, which bounds the logits and with them the softmax table.
    """

    CLAMP = QUERY_BOUND

    def __init__(self, channels: int, width: int, head_channels: int) -> None:
        super().__init__()
        self.heads = width // head_channels
        self.query = nn.Linear(channels, width)
        self.key = nn.Linear(width, width, bias=False)
        self.out = zero_linear(width, channels)

    def forward(self, x: Tensor, dictionary: Tensor) -> Tensor:
        """x (B, H, W, C), dictionary (entries, width) -> (B, H, W, C)."""
        b, h, w, _ = x.shape
        head_channels = dictionary.shape[1] // self.heads
        query = self.query(x).clamp(-self.CLAMP, self.CLAMP)
        query = query.reshape(b * h * w, self.heads, head_channels).transpose(0, 1)
        key = self.key(dictionary).reshape(-1, self.heads, head_channels).permute(1, 2, 0)
        value = dictionary.reshape(-1, self.heads, head_channels).transpose(0, 1)
        weights = torch.softmax(query @ key * head_channels**-0.5, -1)
        out = (weights.to(query.dtype) @ value.to(query.dtype)).transpose(0, 1).reshape(b, h, w, -1)
        return x + self.out(out)


class Modulation(nn.Module):
    """x · scale + shift, per channel, both linearly interpolated between the anchors of the quality."""

    def __init__(self, anchors: int, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(anchors, channels))
        self.shift = nn.Parameter(torch.zeros(anchors, channels))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """x (B, H, W, C), weights (B or 1, anchors)."""
        scale, shift = (weights @ self.scale)[:, None, None], (weights @ self.shift)[:, None, None]
        return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))


class ExactReady(DCAE):
    """A network whose entropy model, from ẑ to the last ŷ, is made of the blocks above.

    `dcae/entropy/exact.py` evaluates it in integers, and knows its parts by these names.
    """

    config: Any
    dictionary: nn.Parameter
    """(entries, width)."""
    h_s: Any
    """Hyper synthesis: `embed`, `layer1`, `up1`, `layer2`, `up2`, `modulation`."""
    slice_networks: nn.ModuleList
    """One for each slice: `attention`, `layer`, `head`, `residual_in`, `residual_out`, `extend` (None for the last)."""
    inverse_z: Any
    mean_gain: Any
    context_gain: Any
    """Gains with `log_gain` (anchors, channels)."""
    scale_offset: nn.Parameter
    """(anchors, M), in rows of the scale table."""
    left_over: Any
    """The closed loop with `mean_scale` (anchors, 3), where there is one."""

    def slice_network(self, k: int) -> Any:
        """Network of slice k."""
        return self.slice_networks[k]
