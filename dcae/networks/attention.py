"""Self-attention within windows (Swin, Liu et al. 2021), for maps of any size."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dcae.networks.bands import WHOLE, Band


class BorderMask(NamedTuple):
    """Windows in which not every token may see every other."""

    windows: Tensor
    """(n,) int64, their positions in row-major order over the feature map."""
    mask: Tensor
    """(n, 1, tokens, tokens), 0 where two tokens belong together and -inf elsewhere."""
    places: NDArray[np.int64]
    """The same positions, rising, where to look among them waits for no device."""


@lru_cache(maxsize=32)
def border_mask(
    height: int, width: int, window: int, shift: int, above: int | None, device: torch.device, dtype: torch.dtype
) -> BorderMask | None:
    """Masks of a (height, width) map that is padded to whole windows and rolled by -shift; None if it needs none.

    Kept apart are padding and picture, and what wrapped around the border. That only concerns windows at the border,
    so the others are left out and share one bias. In a band rows are not rolled, but have `above` padding rows.
    """
    top = above or 0
    rows, cols = -(-(top + height) // window) * window, -(-width // window) * window
    region = np.zeros((rows, cols), np.int64)
    region[:top] = 1
    region[top + height :] = 1
    region[:, width:] = 1
    if shift:
        region[:, :shift] += 4
        region = np.roll(region, -shift, 1)
    if shift and above is None:
        region[:shift] += 2
        region = np.roll(region, -shift, 0)
    tiles = region.reshape(rows // window, window, cols // window, window).swapaxes(1, 2).reshape(-1, window**2)
    (windows,) = np.nonzero(tiles.min(1) != tiles.max(1))
    if not len(windows):
        return None
    tiles = tiles[windows]
    mask = np.where(tiles[:, None, :, None] == tiles[:, None, None, :], 0.0, -np.inf)
    # The cache outlives an inference_mode block, and autograd refuses tensors made inside one.
    with torch.inference_mode(False):
        return BorderMask(torch.from_numpy(windows).to(device), torch.from_numpy(mask).to(device, dtype), windows)


@lru_cache(maxsize=8)
def relative_index(window: int, device: torch.device) -> Tensor:
    """(tokens, tokens) position of (row_q - row_k, col_q - col_k) in a flattened (2w-1, 2w-1) table."""
    row, col = np.divmod(np.arange(window**2), window)
    dy, dx = row[:, None] - row[None, :], col[:, None] - col[None, :]
    with torch.inference_mode(False):
        return torch.from_numpy((dy + window - 1) * (2 * window - 1) + dx + window - 1).to(device)


def window_attention(qkv: Tensor, bias: Tensor, window: int, shift: int, band: Band = WHOLE) -> Tensor:
    """Attention of every token to those in its window, (B, H, W, 3C) -> (B, H, W, C).

    Any H and W: the map is padded to whole windows, and no token sees the padding.

    Args:
        qkv: queries, keys and values of all heads, in this order along the channels.
        bias: (heads, tokens, tokens) or (1, heads, tokens, tokens), what the relative position of two tokens adds to
            their logit. For maps of whole windows that are not shifted torch has another kernel for three dimensions,
            whose last bits differ; a network keeps to the one it was measured with.
        window: side of a window; it has window² tokens, row by row.
        shift: windows start at this row and column of the map, and wrap around.
        band: what part of a picture the map is; windows end where it does unless it is the last band.
    """
    windows = Windows(qkv, window, shift, band)
    return windows.join(windows.attend(windows.split(qkv), bias))


class Windows:
    """The windows of a map, for networks whose other maps work on windows as well; see :func:`window_attention`.

    Args:
        x: a map (B, H, W, any), of which nothing but shape, type and device is looked at.
    """

    def __init__(self, x: Tensor, window: int, shift: int, band: Band = WHOLE) -> None:
        self._batch, self._height, self._width, _ = x.shape
        self._side, self._shift = window, shift
        # Bands have no other border for rows to wrap around to; the place of a row in its window is the same.
        above = None if band.whole else (window - shift) * band.first if shift else 0
        self._top = above or 0
        self._bottom, self._right = -(self._top + self._height) % window, -self._width % window
        self._rows = (self._top + self._height + self._bottom) // window
        self._cols = (self._width + self._right) // window
        self._rolled = shift if above is None else 0
        self._border = border_mask(self._height, self._width, window, shift, above, x.device, x.dtype)

    def split(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, windows, tokens, C), with zeros where the map has been padded."""
        w = self._side
        if self._top or self._bottom or self._right:
            x = F.pad(x, (0, 0, 0, self._right, self._top, self._bottom))
        if self._shift:
            x = x.roll((-self._rolled, -self._shift), (1, 2))
        x = x.reshape(self._batch, self._rows, w, self._cols, w, -1).transpose(2, 3)
        return x.reshape(self._batch, self._rows * self._cols, w * w, -1)

    def join(self, x: Tensor) -> Tensor:
        """(B, windows, tokens, C) -> (B, H, W, C), without the padding."""
        w = self._side
        x = x.reshape(self._batch, self._rows, self._cols, w, w, -1).transpose(2, 3)
        x = x.reshape(self._batch, self._rows * w, self._cols * w, -1)
        if self._shift:
            x = x.roll((self._rolled, self._shift), (1, 2))
        return x[:, self._top : self._top + self._height, : self._width]

    def attend(self, qkv: Tensor, bias: Tensor, begin: int = 0) -> Tensor:
        """(B, windows, tokens, 3C) -> (B, windows, tokens, C), for all windows or those from `begin` on."""
        bias = bias.to(qkv.dtype)
        if self._border is None:
            return _attention(qkv, bias)
        out = _attention(qkv, bias.reshape(1, *bias.shape[-3:]))
        windows, mask, places = self._border
        if qkv.shape[1] < self._rows * self._cols:
            first, last = np.searchsorted(places, (begin, begin + qkv.shape[1]))
            windows, mask = windows[first:last] - begin, mask[first:last]
        if not len(windows):
            return out
        few = _attention(qkv[:, windows], (bias + mask).repeat(len(qkv), 1, 1, 1))
        return out.index_copy(1, windows, few.to(out.dtype))


def _attention(qkv: Tensor, bias: Tensor) -> Tensor:
    """Attention of all heads, shapes as in `Windows.attend`; bias (1 or B·windows, heads, tokens, tokens)."""
    b, windows, tokens, channels = qkv.shape
    heads = bias.shape[-3]
    # Views: the kernel takes queries, keys and values from where they are, and lays its output out in their order.
    query, key, value = qkv.reshape(b * windows, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return out.transpose(1, 2).reshape(b, windows, tokens, channels // 3)
