"""The dictionary's cross-attention of `paper`, with the names of the published state dict."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.networks.paper.blocks import ChannelScale, ConvGLU, conv, depthwise, filtered, pointwise, to_nchw, to_nhwc


class DenseLayer(nn.Module):
    """conv1x1(gelu(depthwise3x3(gelu(conv1x1(x))))) of (B, H, W, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_trans = conv(channels, channels, 1)
        self.dw_conv = depthwise(channels)
        self.out_trans = conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = F.gelu(pointwise(self.in_trans, x))
        return pointwise(self.out_trans, F.gelu(filtered(self.dw_conv, features)))


class DenseBlock(nn.Module):
    """A chain of layers on (B, H, W, C); the input and the outputs of all layers are concatenated and projected."""

    def __init__(self, channels: int, count: int = 3) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(nn.Sequential(nn.GELU(), DenseLayer(channels)) for _ in range(count))
        self.proj = conv((count + 1) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.conv_layers:
            maps.append(layer(maps[-1]))
        return pointwise(self.proj, torch.cat(maps, -1))


class SpatialGate(nn.Module):
    """x · sigmoid(conv7x7([mean, max] of x over its channels)) (CBAM's spatial attention, Woo et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C)."""
        pooled = torch.cat([x.mean(-1, keepdim=True), x.amax(-1, keepdim=True)], -1)
        return x * torch.sigmoid(filtered(self.conv1, pooled))


class MultiScaleAggregation(nn.Module):
    """Local context of the queries at growing receptive fields, (B, H, W, C) -> (B, H, W, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.s = conv(channels, channels, 1)
        self.dense = DenseBlock(channels)
        self.spatial_atte = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        return self.spatial_atte(self.dense(pointwise(self.s, x)))


class DictionaryCrossAttention(nn.Module):
    """Every position of the query attends to the entries of a learned dictionary."""

    def __init__(self, inputs: int, outputs: int, width: int, head_channels: int) -> None:
        super().__init__()
        self.heads = width // head_channels
        self.x_trans = nn.Linear(inputs, width)
        self.ln_scale = nn.LayerNorm(width)
        self.msa = MultiScaleAggregation(width)
        self.res_scale_1 = ChannelScale(width)
        self.lnx = nn.LayerNorm(width)
        self.q_trans = nn.Linear(width, width)
        self.dict_ln = nn.LayerNorm(width)
        self.k = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.ones(self.heads, 1, 1))
        self.linear = nn.Linear(width, width)
        self.res_scale_2 = ChannelScale(width)
        self.ln_mlp = nn.LayerNorm(width)
        self.mlp = ConvGLU(width, 2 * width)
        self.res_scale_3 = ChannelScale(width)
        self.output_trans = nn.Sequential(nn.Linear(width, outputs))

    def forward(self, x: Tensor, dictionary: Tensor) -> Tensor:
        """x (B, inputs, H, W), dictionary (entries, width) -> (B, outputs, H, W)."""
        x = pointwise(self.x_trans, to_nhwc(x))
        x = self.res_scale_1(x, self.msa(self.ln_scale(x)))
        x = self.res_scale_2(x, pointwise(self.linear, self._attend(pointwise(self.q_trans, self.lnx(x)), dictionary)))
        x = self.res_scale_3(x, self.mlp(self.ln_mlp(x)))
        return to_nchw(pointwise(self.output_trans[0], x))  # type: ignore[arg-type]

    def _attend(self, query: Tensor, dictionary: Tensor) -> Tensor:
        """query (B, H, W, width) -> (B, H, W, width)."""
        b, height, width, c = query.shape
        # Keys and values do not depend on the picture, but they cost less than 0.1 % of it: nothing to cache.
        entries = self.dict_ln(dictionary)
        key, value = (
            t.reshape(-1, self.heads, c // self.heads).transpose(0, 1).expand(b, -1, -1, -1)
            for t in (self.k(entries), entries)
        )
        query = query.reshape(b, height * width, self.heads, c // self.heads).transpose(1, 2) * self.scale
        out = F.scaled_dot_product_attention(query, key.to(query.dtype), value.to(query.dtype), scale=1.0)
        return out.transpose(1, 2).reshape(b, height, width, c)
