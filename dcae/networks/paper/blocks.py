"""The blocks that `paper` is wired from, with the names of the published state dict.

Modules take and give (B, C, H, W); the Swin layers and the inside of the dictionary cross-attention work channels
last, (B, H, W, C), where a permuted channels_last tensor is contiguous and nothing is copied.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Convolution that keeps (stride 1) or halves (stride 2) the sides."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


def deconv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.ConvTranspose2d:
    """Transposed convolution that multiplies the sides by `stride`."""
    return nn.ConvTranspose2d(inputs, outputs, kernel, stride, kernel // 2, stride - 1)


def depthwise(channels: int) -> nn.Conv2d:
    """Depthwise 3x3 convolution."""
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)


def to_nchw(x: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, C, H, W), a view."""
    return x.permute(0, 3, 1, 2)


def to_nhwc(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C), a view."""
    return x.permute(0, 2, 3, 1)


class ResidualBottleneck(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(conv1x1(x))))), half the channels inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels // 2, 1)
        self.conv2 = conv(channels // 2, channels // 2, 3)
        self.conv3 = conv(channels // 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))


class Down(nn.Module):
    """(B, inputs, H, W) -> (B, outputs, H/2, W/2), then three bottlenecks."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs, 5, 2)
        self.res1 = ResidualBottleneck(outputs)
        self.res2 = ResidualBottleneck(outputs)
        self.res3 = ResidualBottleneck(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.res3(self.res2(self.res1(self.conv(x))))


class Up(nn.Module):
    """Three bottlenecks, then (B, inputs, H, W) -> (B, outputs, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.res1 = ResidualBottleneck(inputs)
        self.res2 = ResidualBottleneck(inputs)
        self.res3 = ResidualBottleneck(inputs)
        self.conv = deconv(inputs, outputs, 5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.res3(self.res2(self.res1(x))))


class ChannelScale(nn.Module):
    """Multiplies (B, H, W, C) by one learned number per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class DepthwiseNHWC(nn.Module):
    """Depthwise 3x3 convolution of (B, H, W, C); a module of its own for the sake of the key `dwconv.dwconv`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = depthwise(channels)

    def forward(self, x: Tensor) -> Tensor:
        return to_nhwc(self.dwconv(to_nchw(x)))


class ConvGLU(nn.Module):
    """Convolutional gated linear unit on (B, H, W, C): fc2(gelu(dwconv(a)) · b) with (a, b) = fc1(x)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 2 * hidden)
        self.dwconv = DepthwiseNHWC(hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.fc1(x).chunk(2, -1)
        return self.fc2(F.gelu(self.dwconv(gate)) * value)


class BorderMask(NamedTuple):
    """Windows in which not every token may see every other."""

    windows: Tensor
    """(n,) int64, their positions in row-major order over the feature map."""
    mask: Tensor
    """(n, 1, tokens, tokens), 0 where two tokens belong together and -inf elsewhere."""


@lru_cache(maxsize=32)
def border_mask(
    height: int, width: int, window: int, shift: int, device: torch.device, dtype: torch.dtype
) -> BorderMask | None:
    """What to mask on a (height, width) map, padded to whole windows and rolled by -shift; None if nothing is.

    Kept apart are padding and picture, and what wrapped around the border. That only concerns the last row and
    column of windows, so the other windows are left out and share one bias.
    """
    rows, cols = -(-height // window) * window, -(-width // window) * window
    region = np.zeros((rows, cols), np.int64)
    region[height:] = 1
    region[:, width:] = 1
    if shift:
        region[:shift] += 2
        region[:, :shift] += 4
        region = np.roll(region, (-shift, -shift), (0, 1))
    tiles = region.reshape(rows // window, window, cols // window, window).swapaxes(1, 2).reshape(-1, window**2)
    (windows,) = np.nonzero(tiles.min(1) != tiles.max(1))
    if not len(windows):
        return None
    tiles = tiles[windows]
    mask = np.where(tiles[:, None, :, None] == tiles[:, None, None, :], 0.0, -np.inf)
    # The cache outlives an inference_mode block, and autograd refuses tensors made inside one.
    with torch.inference_mode(False):
        return BorderMask(torch.from_numpy(windows).to(device), torch.from_numpy(mask).to(device, dtype))


@lru_cache(maxsize=8)
def relative_index(window: int, device: torch.device) -> Tensor:
    """(tokens, tokens) position of (row_q - row_k, col_q - col_k) in a flattened (2w-1, 2w-1) table."""
    row, col = np.divmod(np.arange(window**2), window)
    dy, dx = row[:, None] - row[None, :], col[:, None] - col[None, :]
    with torch.inference_mode(False):
        return torch.from_numpy((dy + window - 1) * (2 * window - 1) + dx + window - 1).to(device)


def _attention(qkv: Tensor, bias: Tensor) -> Tensor:
    """(3, B, windows, heads, tokens, d) -> (B, windows, heads, tokens, d); bias (1 or B·windows, heads, ...)."""
    query, key, value = qkv.flatten(1, 2)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias).reshape(qkv.shape[1:])


class WindowAttention(nn.Module):
    """Self-attention of (B, H, W, C) within windows of `window`², which start at -shift (Swin, Liu et al. 2021).

    Any H and W: the features are padded to whole windows, and no token sees the padding.
    """

    def __init__(self, channels: int, head_channels: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.window = window
        self.shift = shift
        self.embedding_layer = nn.Linear(channels, 3 * channels)
        self.relative_position_params = nn.Parameter(torch.zeros(self.heads, 2 * window - 1, 2 * window - 1))
        nn.init.trunc_normal_(self.relative_position_params, std=0.02)
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, height, width, c = x.shape
        w, shift, heads = self.window, self.shift, self.heads
        bottom, right = -height % w, -width % w
        rows, cols = (height + bottom) // w, (width + right) // w

        qkv = self.embedding_layer(x)
        if bottom or right:
            qkv = F.pad(qkv, (0, 0, 0, right, 0, bottom))
        if shift:
            qkv = qkv.roll((-shift, -shift), (1, 2))
        qkv = qkv.reshape(b, rows, w, cols, w, 3, heads, c // heads).permute(5, 0, 1, 3, 6, 2, 4, 7)
        out = self._attend(qkv.reshape(3, b, rows * cols, heads, w * w, c // heads), height, width)
        out = out.reshape(b, rows, cols, heads, w, w, c // heads).permute(0, 1, 4, 2, 5, 3, 6)
        out = out.reshape(b, rows * w, cols * w, c)
        if shift:
            out = out.roll((shift, shift), (1, 2))
        return self.linear(out[:, :height, :width])

    def _attend(self, qkv: Tensor, height: int, width: int) -> Tensor:
        """(3, B, windows, heads, tokens, head_channels) -> (B, windows, heads, tokens, head_channels)."""
        index = relative_index(self.window, qkv.device)
        bias = self.relative_position_params.flatten(1)[:, index].to(qkv.dtype)
        out = _attention(qkv, bias[None])
        border = border_mask(height, width, self.window, self.shift, qkv.device, qkv.dtype)
        if border is None:
            return out
        few = _attention(qkv[:, :, border.windows], (bias + border.mask).repeat(qkv.shape[1], 1, 1, 1))
        return out.index_copy(1, border.windows, few.to(out.dtype))


class SwinLayer(nn.Module):
    """Window attention and a gated unit on (B, H, W, C), each added to its scaled input."""

    def __init__(self, channels: int, head_channels: int, window: int, shift: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(channels)
        self.msa = WindowAttention(channels, head_channels, window, shift)
        self.ln2 = nn.LayerNorm(channels)
        self.mlp = ConvGLU(channels, 2 * channels)
        self.res_scale_1 = ChannelScale(channels)
        self.res_scale_2 = ChannelScale(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.res_scale_1(x) + self.msa(self.ln1(x))
        return self.res_scale_2(x) + self.mlp(self.ln2(x))


class SwinStage(nn.Module):
    """`count` Swin layers, every second one shifted by half a window, and a 3x3 convolution, added to the input."""

    def __init__(self, channels: int, head_channels: int, window: int, count: int) -> None:
        super().__init__()
        shifts = [window // 2 if i % 2 else 0 for i in range(count)]
        self.layers = nn.ModuleList(SwinLayer(channels, head_channels, window, shift) for shift in shifts)
        self.conv = conv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        features = to_nhwc(x)
        for layer in self.layers:
            features = layer(features)
        return x + self.conv(to_nchw(features))


class DenseLayer(nn.Module):
    """conv1x1(gelu(depthwise3x3(gelu(conv1x1(x)))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_trans = conv(channels, channels, 1)
        self.dw_conv = depthwise(channels)
        self.out_trans = conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_trans(F.gelu(self.dw_conv(F.gelu(self.in_trans(x)))))


class DenseBlock(nn.Module):
    """A chain of layers; the input and the outputs of all layers are concatenated and projected."""

    def __init__(self, channels: int, count: int = 3) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(nn.Sequential(nn.GELU(), DenseLayer(channels)) for _ in range(count))
        self.proj = conv((count + 1) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.conv_layers:
            maps.append(layer(maps[-1]))
        return self.proj(torch.cat(maps, 1))


class SpatialGate(nn.Module):
    """x · sigmoid(conv7x7([mean, max] of x over its channels)) (CBAM's spatial attention, Woo et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.conv1(pooled))


class MultiScaleAggregation(nn.Module):
    """Local context of the queries at growing receptive fields, (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.s = conv(channels, channels, 1)
        self.dense = DenseBlock(channels)
        self.spatial_atte = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        return self.spatial_atte(self.dense(self.s(x)))


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
        x = self.x_trans(to_nhwc(x))
        x = to_nhwc(self.msa(to_nchw(self.ln_scale(x)))) + self.res_scale_1(x)
        x = self.linear(self._attend(self.q_trans(self.lnx(x)), dictionary)) + self.res_scale_2(x)
        x = self.mlp(self.ln_mlp(x)) + self.res_scale_3(x)
        return to_nchw(self.output_trans(x))

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
