"""What :mod:`dcae.train.augment` does to one patch, done to a batch of them, each with random numbers of its own.

Every function takes uniform numbers `u` (n, k), one row a sample, and what it makes of a sample does not depend on
the others. Pictures are (n, 3, H, W) float in 0..255.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Maker = Callable[[np.ndarray, int], Tensor]
"""(numbers, side of the cut) -> patches."""
_FIELD = 1024
"""Side of the noise of which every sample gets a part: normal numbers drawn afresh would have to follow from each
sample's place in the batch as well."""
_REACH = 4
"""Reach of the blur, in pixels: three times its largest deviation."""
_GRAY = np.array([0.299, 0.587, 0.114])
_ORDERS = np.array(list(permutations(range(3))))


def noise_field(seed: int, device: torch.device) -> Tensor:
    """Standard normal noise, (F, F, 2) float32."""
    field = np.random.default_rng((seed, 4)).standard_normal((_FIELD, _FIELD, 2), np.float32)
    return torch.from_numpy(field).to(device)


def _column(values: np.ndarray, x: Tensor) -> Tensor:
    """(n,) -> (n, 1, 1, 1) on the device of x."""
    return torch.from_numpy(values.astype(np.float32)).to(x.device)[:, None, None, None]


def noisy(u: np.ndarray, x: Tensor, sigma: np.ndarray, noise: Tensor) -> Tensor:
    """Patches with the noise of a sensor, partly equal in R, G and B.

    Args:
        u: (n, 5).
        sigma: (n,), levels; 0 for none.
    """
    corner = torch.from_numpy((u[:, :2] * _FIELD).astype(np.int64)).to(x.device)
    rows = (corner[:, :1] + torch.arange(x.shape[2], device=x.device)) % _FIELD
    columns = (corner[:, 1:] + torch.arange(x.shape[3], device=x.device)) % _FIELD
    grain = noise[rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    colour = torch.from_numpy((1.2 * u[:, 2:5] - 0.6).astype(np.float32)).to(x.device)[:, :, None, None]
    return x + _column(sigma, x) * (grain[:, :1] + colour * grain[:, 1:])


def blurred(x: Tensor, sigma: np.ndarray) -> Tensor:
    """Gaussian blur of deviations (n,) in pixels, at most 1.33; nothing where it is 0."""
    offsets = np.arange(-_REACH, _REACH + 1)
    kernels = np.exp(-(offsets**2) / (2 * np.maximum(sigma, 0.05)[:, None] ** 2))
    kernels /= kernels.sum(1, keepdims=True)
    for axis in (2, 3):
        side = x.shape[axis]
        padded = F.pad(x, (0, 0, _REACH, _REACH) if axis == 2 else (_REACH, _REACH, 0, 0), mode="reflect")
        terms = (_column(kernels[:, k], x) * padded.narrow(axis, k, side) for k in range(len(offsets)))
        x = sum(terms, torch.zeros_like(x))
    return x


def blurred_and_noisy(u: np.ndarray, x: Tensor, noise: Tensor) -> Tensor:
    """Mostly blurred a little, as what a camera shows at its own size, and sometimes with noise; u (n, 9)."""
    x = blurred(x, np.where(u[:, 0] < 0.7, 0.4 + 0.8 * u[:, 1], 0.0))
    return noisy(u[:, 4:], x, np.where(u[:, 2] < 0.3, 0.3 + 1.2 * u[:, 3], 0.0), noise)


def before_plain_background(u: np.ndarray, x: Tensor, noise: Tensor) -> Tensor:
    """Patches as objects before a plain or slowly graded background, with the choices of the function of this name
    in :mod:`dcae.train.augment`; u (n, 31)."""
    side = x.shape[2]
    line = torch.linspace(-1, 1, side, device=x.device)
    rows, columns = line[None, None, :, None], line[None, None, None, :]
    down, right = rows - _column(1.8 * u[:, 0] - 0.9, x), columns - _column(1.8 * u[:, 1] - 0.9, x)
    angle = torch.atan2(down, right)
    outline = _column(0.4 + 0.5 * u[:, 2], x).expand_as(angle)
    for k in range(1, 5):
        size, turn = (0.3 * u[:, 3 + k] - 0.15) / k, 2 * math.pi * u[:, 7 + k]
        outline = outline + _column(size, x) * torch.cos(k * angle + _column(turn, x))
    mask = torch.sigmoid((outline - torch.hypot(down, right)) / _column(0.008 * 30 ** u[:, 3], x))
    ground = _background(u[:, 12:24], rows, columns)
    sigma = np.where(u[:, 24] < 0.75, 0.3 + 1.7 * u[:, 25], 0.0)
    ground = noisy(u[:, 26:31], ground, sigma, noise)
    return ground + mask * (x - ground)


def _background(u: np.ndarray, rows: Tensor, columns: Tensor) -> Tensor:
    """(n, 3, S, S) for coordinates in [-1, 1]; u (n, 12)."""
    kind, level = u[:, 0], u[:, 1]
    dark, light = kind < 0.45, (kind >= 0.45) & (kind < 0.7)
    level = np.select([dark, light], [2 + 58 * level, 190 + 62 * level], 50 + 150 * level)
    tint = np.where(light, 0.06, 0.4) * u[:, 2]
    colour = level[:, None] * (1 + tint[:, None] * (2 * u[:, 3:6] - 1))
    slope = np.where(u[:, 6] < 0.25, 0.0, 0.05 + 0.55 * u[:, 7])
    turn = 2 * math.pi * u[:, 9]
    across = _column(np.cos(turn), rows) * rows + _column(np.sin(turn), rows) * columns
    away = 0.7 - torch.hypot(rows - _column(2 * u[:, 10] - 1, rows), columns - _column(2 * u[:, 11] - 1, rows)) / 1.4
    shade = torch.where(_column(u[:, 8], rows) < 0.5, across, away)
    colours = torch.from_numpy(colour.astype(np.float32)).to(rows.device)[:, :, None, None]
    return (colours * (1 + _column(slope, rows) * shade)).clamp(0, 255)


def recoloured(u: np.ndarray, x: Tensor) -> Tensor:
    """Patches with other colours and brightness, as the function of this name in :mod:`dcae.train.augment` makes
    them; u (n, 14)."""
    count, _, height, width = x.shape
    matrices = torch.from_numpy(_colour_matrices(u[:, :7]).astype(np.float32)).to(x.device)
    # Sums of products rather than a matrix product, which may take another order for another number of samples.
    flat = (x / 255).reshape(count, 3, -1)
    flat = torch.stack([(matrices[:, k, :, None] * flat).sum(1) for k in range(3)], 1)
    some = flat[:, :, :: max(1, height * width // 4096)].reshape(count, -1).sort(1).values
    edge = some.shape[1] // 200
    low, high = some[:, edge].clamp(max=0.0)[:, None, None], some[:, -1 - edge].clamp(min=1.0)[:, None, None]
    flat = ((flat - low) / (high - low)).clamp(0, 1)
    power = np.where(u[:, 7] < 0.7, np.exp(1.4 * u[:, 8] - 0.5), 1.0)
    flat = flat ** _column(power, x)[..., 0]
    levels = u[:, 9] < 0.7
    black = np.where(levels, 0.25 * u[:, 10] * u[:, 11], 0.0)
    white = np.where(levels, 1 - 0.6 * u[:, 12] * u[:, 13], 1.0)
    flat = _column(black, x)[..., 0] + _column(white - black, x)[..., 0] * flat
    return (255 * flat).reshape(x.shape)


def _colour_matrices(u: np.ndarray) -> np.ndarray:
    """(n, 3, 3) whose rows sum to one: gray stays gray; u (n, 7)."""
    count = len(u)
    gray = np.ones((3, 1)) @ _GRAY[None]
    orders = np.where((u[:, :1] < 0.3), _ORDERS[(u[:, 1] * len(_ORDERS)).astype(int)], np.arange(3))
    matrices = np.eye(3)[orders]
    # A turn about the gray axis (Rodrigues' formula with the axis (1, 1, 1) / sqrt 3): any, or mostly a small one.
    normal = np.sqrt(-2 * np.log(1 - u[:, 4])) * np.cos(2 * math.pi * u[:, 5])
    angle = np.where(u[:, 3] < 0.3, math.pi * (2 * u[:, 5] - 1), 0.3 * normal)
    angle = np.where(u[:, 2] < 0.5, angle, 0.0)[:, None, None]
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turns = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) / 3
    saturation = (0.2 + 1.6 * u[:, 6])[:, None, None]
    changed = (gray + saturation * (np.eye(3) - gray)) @ turns @ matrices
    return np.where((u[:, :1] < 0.12)[:, :, None], gray, changed).reshape(count, 3, 3)
