"""MS-SSIM with gradients, as `dcae/networks/ms_ssim.py` has it, by torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dcae.networks.ms_ssim import CONTRAST, LEAST, LUMINANCE, scale_weights, scales_of, window


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM of two pictures (1, 3, H, W) in [0, 1], H and W multiples of 16."""
    weights = scale_weights(scales_of(*x.shape[-2:]))
    found = []
    for scale, weight in enumerate(weights):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        mean_x, mean_y, squares, products = _windowed(torch.cat([x, y, x * x + y * y, x * y], 1)).chunk(4, 1)
        both, across = mean_x * mean_x + mean_y * mean_y, mean_x * mean_y
        alike = (2 * (products - across) + CONTRAST) / (squares - both + CONTRAST)
        if scale == len(weights) - 1:
            alike = alike * (2 * across + LUMINANCE) / (both + LUMINANCE)
        found.append(alike.mean((2, 3)).clamp(min=LEAST) ** weight)
    return torch.stack(found).prod(0).mean()


def _windowed(maps: Tensor) -> Tensor:
    """Weighted means over all windows, (1, C, H, W) -> (1, C, H - 10, W - 10)."""
    taps = torch.tensor(window(), dtype=maps.dtype, device=maps.device)
    kernel = taps.repeat(maps.shape[1], 1, 1, 1)
    return F.conv2d(F.conv2d(maps, kernel, groups=len(kernel)), kernel.transpose(2, 3), groups=len(kernel))
