"""What layers on channels-last tensors (B, H, W, C) do with the rows of a band; see `dcae/networks/bands.py`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dcae.networks.bands import Band


def joined(band: Band, key: Any, x: Tensor) -> Tensor:
    """x below the rows that were kept under a key."""
    return x if band.first else torch.cat([band.kept.pop(key), x], 1)


def keep(band: Band, key: Any, x: Tensor, begin: int) -> None:
    """Keep the rows of x from `begin` on for the next band, if there is one."""
    if not band.last:
        band.kept[key] = x[:, begin:].clone()


def taken(band: Band, key: Any, x: Tensor, count: int) -> Tensor:
    """The next `count` rows of those that were kept and x; what is left is kept."""
    if band.whole:
        return x
    x = joined(band, key, x)
    keep(band, key, x, count)
    return x[:, :count]


def multiple(band: Band, key: Any, x: Tensor, size: int, beyond: int = 0) -> Tensor:
    """As many rows as make whole groups of `size`, `beyond` rows of the first being above the picture; all rows of the
    last band."""
    if band.whole:
        return x
    x = joined(band, key, x)
    above = beyond if band.first else 0
    count = x.shape[1] if band.last else max((x.shape[1] + above) // size * size - above, 0)
    keep(band, key, x, count)
    return x[:, :count]


def paired(band: Band, key: Any, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """As many of the next rows as there are of both a and b, which lag behind by different counts."""
    if band.whole:
        return a, b
    a, b = joined(band, (key, 0), a), joined(band, (key, 1), b)
    count = min(a.shape[1], b.shape[1])
    keep(band, (key, 0), a, count)
    keep(band, (key, 1), b, count)
    return a[:, :count], b[:, :count]


POSITIONS = 1024
"""Positions that a layer looking at each alone works on at once: what it makes of them stays in a processor's cache."""


def pieces(x: Tensor) -> tuple[Tensor, ...]:
    """x (positions, C) in pieces of about as many positions, which share its memory; whole on other devices."""
    return x.chunk(-(-len(x) // POSITIONS)) if len(x) and x.device.type == "cpu" else (x,)
