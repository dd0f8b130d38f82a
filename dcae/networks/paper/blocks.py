"""The blocks that `paper` is wired from, with the names of the published state dict.

Modules take and give (B, C, H, W); the Swin layers and the inside of the other blocks work channels last,
(B, H, W, C), where a permuted channels_last tensor is contiguous and nothing is copied. What is written in place is
what a block has just made itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.networks.attention import Windows, relative_index

PORTION = 3 << 21
"""Numbers that a layer makes of its input at a time, where it can be divided."""


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


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (B, H, W, C) times a weight (D, C), plus a bias (D,) -> (B, H, W, D)."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    # As a convolution oneDNN computes it, a tenth faster, and adds the bias on its way. For one picture and one thread
    # torch hands over only what is more than a 1x1 convolution; how far apart its taps lie means nothing to a single
    # one.
    return to_nhwc(F.conv2d(to_nchw(x), weight[..., None, None], bias, dilation=2))


def pointwise(layer: nn.Conv2d | nn.Linear, x: Tensor) -> Tensor:
    """A 1x1 convolution or a linear map of (B, H, W, C)."""
    return product(x, layer.weight.flatten(1), layer.bias)


def filtered(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of (B, H, W, C)."""
    return to_nhwc(layer(to_nchw(x)))


def portions(count: int, size: int) -> list[slice]:
    """`count` rows or windows, cut so that what is computed for a part, `size` numbers for each, stays in the caches,
    and in memory that the process has already. All together where gradients keep everything anyway."""
    step = count if torch.is_grad_enabled() else max(PORTION // size, 4)
    return [slice(begin, min(begin + step, count)) for begin in range(0, count, step)]


class ResidualBottleneck(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(conv1x1(x))))), half the channels inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels // 2, 1)
        self.conv2 = conv(channels // 2, channels // 2, 3)
        self.conv3 = conv(channels // 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = pointwise(self.conv1, to_nhwc(x)).relu_()
        return to_nchw(pointwise(self.conv3, filtered(self.conv2, features).relu_())).add_(x)


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
        x = self.res3(self.res2(self.res1(x)))
        if self.conv.out_channels != 3 or x.device.type != "cpu":
            return self.conv(x)
        # Each pixel of a 2x2 block sees other taps of the 5x5 kernel, at most 3x3 of them: as one convolution with the
        # pixels as channels, since a transposed one with so few outputs takes oneDNN twice as long.
        weight = F.pad(self.conv.weight.flip(2, 3), (1, 0, 1, 0)).unflatten(2, (3, 2)).unflatten(4, (3, 2))
        weight = weight.flip(3, 5).permute(1, 3, 5, 0, 2, 4).reshape(12, -1, 3, 3)
        bias = None if self.conv.bias is None else self.conv.bias.repeat_interleave(4)
        return F.pixel_shuffle(F.conv2d(x, weight, bias, padding=1), 2)


class ChannelScale(nn.Module):
    """One learned number per channel, by which a residual's input is multiplied."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """x · scale + branch, both (B, H, W, C), in the memory of `branch`."""
        return branch.addcmul_(x, self.scale)


class DepthwiseNHWC(nn.Module):
    """Depthwise 3x3 convolution of (B, H, W, C); a module of its own for the sake of the key `dwconv.dwconv`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = depthwise(channels)

    def forward(self, x: Tensor) -> Tensor:
        return filtered(self.dwconv, x)


class ConvGLU(nn.Module):
    """Convolutional gated linear unit on (B, H, W, C): fc2(gelu(dwconv(a)) · b) with (a, b) = fc1(x)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 2 * hidden)
        self.dwconv = DepthwiseNHWC(hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        parts = portions(height, width * self.fc2.in_features)
        return torch.cat([self._rows(x, part) for part in parts], 1) if len(parts) > 1 else self._rows(x, parts[0])

    def _rows(self, x: Tensor, rows: slice) -> Tensor:
        """Some rows of the output."""
        first = max(rows.start - 1, 0)  # the convolution sees a row above and one below
        inner = slice(rows.start - first, rows.stop - first)
        # Two products instead of one: each result is contiguous, as the convolution wants it.
        weights, biases = self.fc1.weight.chunk(2), self.fc1.bias.chunk(2)
        gate = self.dwconv(product(x[:, first : rows.stop + 1], weights[0], biases[0]))
        return pointwise(self.fc2, F.gelu(gate[:, inner]).mul_(product(x[:, rows], weights[1], biases[1])))


class WindowAttention(nn.Module):
    """Self-attention of (B, H, W, C) within windows of `window`², which start at -shift."""

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
        # The linear maps work on windows, so that C channels are brought into their order, and not 3 C.
        windows = Windows(x, self.window, self.shift)
        bias = self.relative_position_params.flatten(1)[:, relative_index(self.window, x.device)]
        x = windows.split(x)
        parts = portions(x.shape[1], 3 * x.shape[2] * x.shape[3])
        found = []
        for part in parts:
            qkv = pointwise(self.embedding_layer, x[:, part])
            found.append(pointwise(self.linear, windows.attend(qkv, bias[None], part.start)))
        return windows.join(torch.cat(found, 1) if len(found) > 1 else found[0])


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
        x = self.res_scale_1(x, self.msa(self.ln1(x)))
        return self.res_scale_2(x, self.mlp(self.ln2(x)))


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
        return self.conv(to_nchw(features)).add_(x)
