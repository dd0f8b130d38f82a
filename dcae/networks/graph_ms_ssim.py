"""MS-SSIM and its gradient as a part of graphs; see `ms_ssim.py`."""

from __future__ import annotations

import numpy as np

from dcae.networks.graph import Graph
from dcae.networks.graph_gradients import gradients
from dcae.networks.ms_ssim import CONTRAST, LEAST, LUMINANCE, scale_weights, window


def ms_ssim(g: Graph, x: str, y: str, scales: int) -> tuple[str, str]:
    """MS-SSIM of pictures (1, 3, H, W) in [0, 1], a number, and its gradient with respect to y.

    Args:
        scales: see `ms_ssim.scales_of`; H and W are multiples of 16.
    """
    whole, weights = y, scale_weights(scales)
    alike: list[str] = []
    for scale in range(scales):
        if scale:
            x, y = _halved(g, x), _halved(g, y)
        alike.append(_alike(g, x, y, last=scale == scales - 1))
    means = [g.clip(g.op("ReduceMean", found, axes=[2, 3]), LEAST, np.inf) for found in alike]
    powers = [g.op("Mul", g.op("Log", mean), g.constant(w)) for mean, w in zip(means, weights, strict=True)]
    product = g.op("Exp", g.op("Sum", *powers))  # (1, 3, 1, 1), as the means
    seeds = {}
    for found, mean, weight in zip(alike, means, weights, strict=True):
        count = g.op("Mul", g.cast(g.op("Size", found), "float32"), mean)
        seeds[found] = g.op("Div", g.op("Mul", product, g.constant(weight)), count)
    return g.op("ReduceMean", product, keepdims=0), gradients(g, seeds, [whole])[0]


def _alike(g: Graph, x: str, y: str, last: bool) -> str:
    """How alike each window is, of the last scale its mean as well, (1, 3, H - 10, W - 10)."""
    squares = g.op("Add", g.op("Mul", x, x), g.op("Mul", y, y))
    mean_x, mean_y, squares, products = (_windowed(g, value) for value in (x, y, squares, g.op("Mul", x, y)))
    both = g.op("Add", g.op("Mul", mean_x, mean_x), g.op("Mul", mean_y, mean_y))
    across, two = g.op("Mul", mean_x, mean_y), g.constant(2)
    above = g.op("Add", g.op("Mul", g.op("Sub", products, across), two), g.constant(CONTRAST))
    alike = g.op("Div", above, g.op("Add", g.op("Sub", squares, both), g.constant(CONTRAST)))
    if not last:
        return alike
    above = g.op("Add", g.op("Mul", across, two), g.constant(LUMINANCE))
    return g.op("Mul", alike, g.op("Div", above, g.op("Add", both, g.constant(LUMINANCE))))


def _windowed(g: Graph, x: str) -> str:
    """Weighted means over all windows, (1, 3, H, W) -> (1, 3, H - 10, W - 10)."""
    taps = np.tile(np.array(window(), np.float32), (3, 1, 1, 1))
    x = g.op("Conv", x, g.weight(taps.swapaxes(2, 3)), group=3)
    return g.op("Conv", x, g.weight(taps), group=3)


def _halved(g: Graph, x: str) -> str:
    """Means of 2x2 pixels, (1, 3, H, W) -> (1, 3, H / 2, W / 2)."""
    mean = np.tile(np.eye(3, dtype=np.float32) / 4, (1, 4))
    return g.op("Conv", g.op("SpaceToDepth", x, blocksize=2), g.weight(mean.reshape(3, 12, 1, 1)))
