"""The fixed pictures that validations look at, chosen from the held-out ones."""

from __future__ import annotations

import numpy as np

from dcae.train.data import Picture

SMALL, LARGE = 512, 1024
"""Greatest side in pixels of what is seen of a small and of a large picture: its centre."""


def validation_pictures(held_out: list[Picture], count: int) -> list[np.ndarray]:
    """Pictures to validate on, (H, W, 3) uint8 each, the same at every call.

    A quarter of them are large (each of a source of its own while there are enough), the others small; kinds that are
    missing are made up for by the other.

    Args:
        held_out: what training never sees (:func:`dcae.train.data.split`).
        count: how many are wanted; there are fewer when fewer are held out.
    """
    small = [centre(p.pixels, SMALL) for p in held_out if not p.large]
    large = [centre(p.pixels, LARGE) for p in _one_of_each_source([p for p in held_out if p.large])]
    few = min(len(large), max(count // 4, count - len(small)))
    return small[: count - few] + large[:few]


def _one_of_each_source(pictures: list[Picture]) -> list[Picture]:
    """The first picture of each source, then the others."""
    first = {p.source: k for k, p in reversed(list(enumerate(pictures)))}
    return [pictures[k] for k in sorted(range(len(pictures)), key=lambda k: (first[pictures[k].source] != k, k))]


def centre(pixels: np.ndarray, side: int) -> np.ndarray:
    """The centre of a picture (H, W, 3), at most `side` pixels a side."""
    top, left = ((n - min(n, side)) // 2 for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])
