"""The blocks `lite` is wired from. All work on channels-last tensors (B, H, W, C), so that 1x1 convolutions are
`nn.Linear` on contiguous memory and depthwise convolutions see channels_last without a copy.

Blocks marked *exact-ready* use only operations with an exact fixed-point form (linear maps, depthwise
convolutions, ReLU, clamps, products, softmax without normalisation layers), as everything that decides a
probability must.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def space_to_depth(x: Tensor, factor: int) -> Tensor:
    """(B, H, W, C) -> (B, H/f, W/f, f·f·C)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // factor, factor, w // factor, factor, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // factor, w // factor, factor * factor * c)


def depth_to_space(x: Tensor, factor: int) -> Tensor:
    """(B, H, W, f·f·C) -> (B, f·H, f·W, C), the inverse of :func:`space_to_depth`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, factor, factor, c // factor**2).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * factor, w * factor, c // factor**2)


def _pad_edge(x: Tensor, count: int) -> Tensor:
    """(B, H, W, C) with its first and last rows and columns repeated `count` times on every side."""
    x = torch.cat([x[:, :1]] * count + [x] + [x[:, -1:]] * count, 1)
    return torch.cat([x[:, :, :1]] * count + [x] + [x[:, :, -1:]] * count, 2)


class LappedDown(nn.Module):
    """(B, f·h, f·w, C) -> (B, h, w, D), a lapped transform: a linear map of 2f x 2f patches that overlap by half.

    Patches are 2x2 cells of a grid shifted by half a cell, so that one 2x2 convolution takes them all.
    """

    def __init__(self, inputs: int, outputs: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.patch = nn.Linear(4 * factor**2 * inputs, outputs)
        """Of a patch's samples in the order (cell row, cell column, row, column, channel)."""

    def forward(self, x: Tensor) -> Tensor:
        x = space_to_depth(_pad_edge(x, self.factor // 2), self.factor)
        weight = self.patch.weight.reshape(-1, 2, 2, x.shape[-1]).permute(0, 3, 1, 2)
        return F.conv2d(x.permute(0, 3, 1, 2), weight, self.patch.bias).permute(0, 2, 3, 1)


class LappedUp(nn.Module):
    """(B, h, w, C) -> (B, f·h, f·w, D): 2f x 2f patches that overlap by half, added up. Mirrors :class:`LappedDown`."""

    def __init__(self, inputs: int, outputs: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.patch = nn.Linear(inputs, 4 * factor**2 * outputs, bias=False)
        self.bias = nn.Parameter(torch.zeros(factor**2 * outputs))

    def forward(self, x: Tensor) -> Tensor:
        # A cell's samples are the first half of the patch that begins in it and the second half of the one before.
        weight = self.patch.weight.reshape(2, 2, len(self.bias), -1).flip(0, 1).permute(2, 3, 0, 1)
        x = F.conv2d(_pad_edge(x, 1).permute(0, 3, 1, 2), weight, self.bias).permute(0, 2, 3, 1)
        trim = self.factor // 2
        return depth_to_space(x, self.factor)[:, trim:-trim, trim:-trim]


class Depthwise(nn.Module):
    """Depthwise convolution of an odd kernel, zero padding. Exact-ready."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, 1, kernel, kernel) / kernel)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        pad = self.weight.shape[-1] // 2
        y = F.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias, padding=pad, groups=self.weight.shape[0])
        return y.permute(0, 2, 3, 1)


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map that starts at zero, so that the residual branch it ends starts as the identity."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class GatedUnit(nn.Module):
    """x + W3 (clamp(W1 x', 0, `BOUND`) · W2 x'), x' = layer norm of x if `norm`, else x. Exact-ready without norm.

    The bound keeps a stack of such units from growing like a power of its input, which is what makes unbounded
    gates diverge in training without normalisation.
    """

    BOUND = 4.0

    def __init__(self, channels: int, expansion: int, norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()
        self.fc1 = nn.Linear(channels, 2 * expansion * channels)
        self.fc2 = zero_linear(expansion * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.fc1(self.norm(x)).chunk(2, -1)
        return x + self.fc2(gate.clamp(0, self.BOUND) * value)


class ConvLayer(nn.Module):
    """x + W2 dw3x3(relu(W1 x')), x' as in :class:`GatedUnit`, then a gated unit. Exact-ready without norm."""

    def __init__(self, channels: int, expansion: int, norm: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()
        self.fc1 = nn.Linear(channels, channels)
        self.depthwise = Depthwise(channels, 3)
        self.fc2 = zero_linear(channels, channels)
        self.unit = GatedUnit(channels, expansion, norm)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.fc2(self.depthwise(F.relu(self.fc1(self.norm(x)))))
        return self.unit(x)


@lru_cache(maxsize=16)
def _window_mask(height: int, width: int, window: int, shift: int) -> np.ndarray | None:
    """(windows, tokens, tokens) additive mask: 0 where two samples of a window belong together, -inf elsewhere.

    Apart are the samples that padding to whole windows added and, in shifted windows, those that wrapped around.
    None when nothing needs a mask. `height` and `width` are before padding.
    """
    rows, cols = -(-height // window) * window, -(-width // window) * window
    if not shift and (rows, cols) == (height, width):
        return None
    region = np.ones((rows, cols), np.int64)
    region[height:] = 0
    region[:, width:] = 0
    if shift:
        region = np.roll(region, (-shift, -shift), (0, 1))
        region[rows - shift :] += 2 * (region[rows - shift :] > 0)
        region[:, cols - shift :] += 4 * (region[:, cols - shift :] > 0)
    tiles = region.reshape(rows // window, window, cols // window, window).swapaxes(1, 2).reshape(-1, window**2)
    return np.where(tiles[:, :, None] == tiles[:, None, :], 0.0, -np.inf).astype(np.float32)


@lru_cache(maxsize=4)
def _relative_index(window: int) -> np.ndarray:
    """(tokens, tokens) index of the offset (row_q - row_k, col_q - col_k) into a flat (2w-1)² table."""
    row, col = np.divmod(np.arange(window**2), window)
    dy, dx = row[:, None] - row[None, :], col[:, None] - col[None, :]
    return (dy + window - 1) * (2 * window - 1) + dx + window - 1


class WindowAttention(nn.Module):
    """x + W_o attention(W_qkv norm(x)) within windows of `window`², optionally shifted by half a window (Swin)."""

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
        self._masks: dict[tuple[int, int, torch.device, torch.dtype], Tensor | None] = {}

    def _bias(self) -> Tensor:
        """(heads, tokens, tokens): what the relative position of two tokens adds to their logit."""
        return self.position_bias[:, torch.from_numpy(_relative_index(self.window)).to(self.position_bias.device)]

    @torch.no_grad()
    def freeze_bias(self) -> None:
        """Look the table of positions up once and for all."""
        self._frozen_bias = self._bias()

    def _mask(self, height: int, width: int, like: Tensor) -> Tensor | None:
        key = (height, width, like.device, like.dtype)
        try:
            return self._masks[key]
        except KeyError:  # asked this way round, since another thread may empty it between two questions
            pass
        mask = _window_mask(height, width, self.window, self.shift)
        with torch.inference_mode(False):
            found = None if mask is None else torch.from_numpy(mask).to(like)[:, None]
        if len(self._masks) >= 8:
            self._masks.clear()
        self._masks[key] = found
        return found

    def forward(self, x: Tensor) -> Tensor:
        b, height, width, c = x.shape
        w, shift = self.window, self.shift
        qkv = self.qkv(self.norm(x))
        bottom, right = -height % w, -width % w
        if bottom or right:
            qkv = F.pad(qkv, (0, 0, 0, right, 0, bottom))
        if shift:
            qkv = qkv.roll((-shift, -shift), (1, 2))
        rows, cols = (height + bottom) // w, (width + right) // w
        qkv = qkv.reshape(b, rows, w, cols, w, 3, self.heads, c // self.heads).permute(5, 0, 1, 3, 6, 2, 4, 7)
        query, key, value = qkv.reshape(3, b * rows * cols, self.heads, w * w, c // self.heads)
        bias = (self._bias() if self._frozen_bias is None else self._frozen_bias).to(query.dtype)
        if (mask := self._mask(height, width, query)) is not None:
            bias = (bias + mask).repeat(b, 1, 1, 1)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out = out.reshape(b, rows, cols, self.heads, w, w, c // self.heads).permute(0, 1, 4, 2, 5, 3, 6)
        out = out.reshape(b, rows * w, cols * w, c)
        if shift:
            out = out.roll((shift, shift), (1, 2))
        return x + self.out(out[:, :height, :width])


class SwinLayer(nn.Module):
    """Window attention, then a gated unit."""

    def __init__(self, channels: int, expansion: int, head_channels: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.attention = WindowAttention(channels, head_channels, window, shifted)
        self.unit = GatedUnit(channels, expansion, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.unit(self.attention(x))


class DictionaryAttention(nn.Module):
    """x + W_o attention(query W_q x; keys and values of a learned dictionary). Exact-ready.

    The keys are linear in the dictionary and know nothing of the picture, so that they are constants at coding
    time. Queries are clamped to ±`CLAMP`, which bounds the logits and with them the softmax table.
    """

    CLAMP = 8.0

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
    """x · scale + shift, per channel, both linearly interpolated between the anchors of the quality. Exact-ready."""

    def __init__(self, anchors: int, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(anchors, channels))
        self.shift = nn.Parameter(torch.zeros(anchors, channels))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """x (B, H, W, C), weights (B or 1, anchors)."""
        scale, shift = (weights @ self.scale)[:, None, None], (weights @ self.shift)[:, None, None]
        return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))


class Gain(nn.Module):
    """Per-channel gains exp(log_gain) of each anchor, linearly interpolated between anchors (B or 1, 1, 1, C)."""

    def __init__(self, initial: Tensor) -> None:
        """initial: (anchors, C), positive."""
        super().__init__()
        self.log_gain = nn.Parameter(initial.log())

    def forward(self, weights: Tensor) -> Tensor:
        return (weights @ self.log_gain.exp())[:, None, None]
