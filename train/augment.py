"""What is done to patches of photographs, so that those of few pictures stand for the many that people have.

Every function takes its random numbers from the generator it is given, and works where the patch lies.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of a picture (3, H, W), float; `sigma` in pixels."""
    reach = max(1, math.ceil(3 * sigma))
    # Of x's type by name: another thread that compiles may change the default type for a moment.
    distance = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-(distance**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = F.pad(x[None], (reach,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)[0]


def noisy(rng: np.random.Generator, x: Tensor, sigma: float) -> Tensor:
    """A picture (3, H, W), float in 0..255, with the noise of a sensor: `sigma` levels, partly equal in R, G and B."""
    grain = rng.standard_normal((2, *x.shape[1:]), np.float32)
    colour = rng.uniform(-0.6, 0.6, (3, 1, 1)).astype(np.float32)
    return x + torch.from_numpy(sigma * (grain[:1] + colour * grain[1:])).to(x.device)


def magnified(rng: np.random.Generator, cut: Tensor, side: int) -> Tensor:
    """A cut (3, S, S) of a small picture as a camera would show it at its own size, (3, side, side) float.

    Enlarged with bicubic interpolation, mostly blurred a little, and sometimes with noise.
    """
    x = F.interpolate(cut[None].float(), (side, side), mode="bicubic")[0]
    if rng.random() < 0.7:
        x = blurred(x, rng.uniform(0.4, 1.2))
    return noisy(rng, x, rng.uniform(0.3, 1.5)) if rng.random() < 0.3 else x


def before_plain_background(rng: np.random.Generator, cut: Tensor) -> Tensor:
    """A cut (3, S, S) as an object before a plain or slowly graded background, as in a studio, (3, S, S) float.

    The object is a soft round shape that covers a tenth to two thirds of the square; the background is dark, light or
    a muted colour, grows brighter or darker across the square or away from a point, and has a little noise.
    """
    side = cut.shape[1]
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, side, device=cut.device)] * 2, indexing="ij")
    top, left = rng.uniform(-0.9, 0.9, 2)
    down, right = rows - top, columns - left
    angle = torch.atan2(down, right)
    outline = torch.full_like(angle, rng.uniform(0.4, 0.9))
    for k in range(1, 5):
        outline = outline + rng.uniform(-0.15, 0.15) / k * torch.cos(k * angle + rng.uniform(0, 2 * math.pi))
    # Soft over 1 to 30 pixels of a patch of 256, mostly few.
    softness = 0.008 * 30 ** rng.random()
    mask = torch.sigmoid((outline - torch.hypot(down, right)) / softness)
    ground = _background(rng, rows, columns)
    if rng.random() < 0.75:
        ground = noisy(rng, ground, rng.uniform(0.3, 2.0))
    return ground + mask * (cut.float() - ground)


def _background(rng: np.random.Generator, rows: Tensor, columns: Tensor) -> Tensor:
    """(3, S, S) float in 0..255, for coordinates in [-1, 1]."""
    kind = rng.random()
    if kind < 0.45:
        level, tint = rng.uniform(2, 60), 0.4
    elif kind < 0.7:
        level, tint = rng.uniform(190, 252), 0.06
    else:
        level, tint = rng.uniform(50, 200), 0.4
    colour = level * (1 + tint * rng.uniform(-1, 1, 3) * rng.random())
    slope = 0.0 if rng.random() < 0.25 else rng.uniform(0.05, 0.6)
    if rng.random() < 0.5:
        turn = rng.uniform(0, 2 * math.pi)
        shade = math.cos(turn) * rows + math.sin(turn) * columns
    else:
        top, left = rng.uniform(-1, 1, 2)
        shade = 0.7 - torch.hypot(rows - top, columns - left) / 1.4
    graded = torch.tensor(colour, dtype=torch.float32, device=rows.device)[:, None, None] * (1 + slope * shade)
    return graded.clamp(0, 255)


_GRAY = (0.299, 0.587, 0.114)


def recoloured(rng: np.random.Generator, cut: Tensor) -> Tensor:
    """A patch (3, H, W) in 0..255 with other colours and brightness, float in 0..255.

    Saturation, hue and the order of the channels change by one matrix, or the patch becomes gray; then a power law and
    new levels for black and white make it darker, brighter or flatter. What the matrix drives out of the range is
    brought back by lowering the contrast: no more than a hundredth of the values is clipped.
    """
    x = (cut.float() / 255).reshape(3, -1)
    weights = torch.from_numpy(_colour_matrix(rng).astype(np.float32)).to(x.device)
    x = weights @ x
    some = x[:, :: max(1, x.shape[1] // 4096)].flatten().sort().values
    low, high = some[len(some) // 200].clamp(max=0.0), some[-1 - len(some) // 200].clamp(min=1.0)
    x = ((x - low) / (high - low)).clamp(0, 1)
    if rng.random() < 0.7:
        x = x ** float(np.exp(rng.uniform(-0.5, 0.9)))
    if rng.random() < 0.7:
        black, white = rng.uniform(0, 0.25) * rng.random(), 1 - rng.uniform(0, 0.6) * rng.random()
        x = black + (white - black) * x
    return (255 * x).reshape(cut.shape)


def _colour_matrix(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) whose rows sum to one: gray stays gray."""
    gray = np.ones((3, 1)) @ np.array([_GRAY])
    kind = rng.random()
    if kind < 0.12:
        return gray
    matrix = np.eye(3)
    if kind < 0.3:
        matrix = matrix[rng.permutation(3)]
    if rng.random() < 0.5:
        # A turn about the gray axis (Rodrigues' formula with the axis (1, 1, 1) / sqrt 3).
        angle = rng.uniform(-math.pi, math.pi) if rng.random() < 0.3 else rng.normal(0, 0.3)
        cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
        matrix = (np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) / 3) @ matrix
    saturation = rng.uniform(0.2, 1.8)
    return (gray + saturation * (np.eye(3) - gray)) @ matrix
