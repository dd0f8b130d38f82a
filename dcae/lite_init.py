"""How `lite` starts: its linear path is a truncated cosine/Haar transform, and synthesis is the inverse.

With every residual branch starting at zero, the untrained network is a plain transform codec, which saves the
first thousand steps of training and puts low frequencies into the first slices.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_COLOURS = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
_CHROMA_PENALTY = 2.5
"""Chroma of frequency f is kept as long as luma of this many times f + 1: natural pictures have less of it."""


def _dct(size: int) -> Tensor:
    """Orthonormal DCT-II, rows are basis functions."""
    k, n = torch.arange(size)[:, None], torch.arange(size)[None]
    basis = torch.cos(math.pi * (n + 0.5) * k / size) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def patch_basis(patch: int, channels: int) -> tuple[Tensor, Tensor]:
    """The `channels` lowest basis functions of a patch, as rows over (row, column, colour), and their frequencies.

    Rows past the patch's own dimension are zero, of infinite frequency.
    """
    dct, colours = _dct(patch), _COLOURS / _COLOURS.norm(dim=1, keepdim=True)
    basis = torch.einsum("uy,vx,kc->uvkyxc", dct, dct, colours).reshape(patch * patch * 3, -1)
    u = torch.arange(patch, dtype=torch.float32)
    luma = (u[:, None] + u[None])[..., None].expand(-1, -1, 3).clone()
    luma[..., 1:] = (luma[..., 1:] + 0.5) * _CHROMA_PENALTY
    frequency = luma.reshape(-1)
    order = frequency.argsort(stable=True)[:channels]
    weight = torch.zeros(channels, basis.shape[1])
    frequencies = torch.full((channels,), math.inf)
    weight[: len(order)], frequencies[: len(order)] = basis[order], frequency[order]
    return weight, frequencies


def haar_basis(frequencies: Tensor, channels: int) -> Tensor:
    """The `channels` lowest of the 2x2 Haar bands of every input channel, as rows over (row, column, channel)."""
    inputs = len(frequencies)
    haar = torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)
    bands = torch.einsum("uy,vx->uvyx", haar, haar).reshape(4, 4)
    cost = torch.stack([2 * frequencies + extra for extra in (0.0, 1.0, 1.0, 2.0)])
    order = cost.reshape(-1).argsort(stable=True)[:channels]
    weight = torch.zeros(channels, 4, inputs)
    for row, flat in enumerate(order.tolist()):
        band, channel = divmod(flat, inputs)
        if math.isfinite(frequencies[channel]):
            weight[row, :, channel] = bands[band]
    return weight.reshape(channels, 4 * inputs)


@torch.no_grad()
def set_pair(forward: nn.Linear, inverse: nn.Linear, weight: Tensor) -> None:
    """Both linear maps to `weight` and its transpose, without biases; a little noise breaks the symmetry of zeros."""
    for layer, value in ((forward, weight), (inverse, weight.T)):
        layer.weight.copy_(value + 0.01 * torch.randn_like(value) / math.sqrt(value.shape[1]))
        layer.bias.zero_()
