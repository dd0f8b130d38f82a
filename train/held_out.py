"""The fixed pictures that validations look at, chosen from the held-out ones."""

from __future__ import annotations

import numpy as np

from dcae.train.data import Picture
from dcae.train.drawn import drawn_picture

SMALL, LARGE = 512, 1024
"""Greatest side in pixels of what is seen of a small and of a large picture: its centre. Drawn ones are small."""

_SEED = 20
_DRAWN = ("web page", "code", "chart", "page", "desktop", "headline", "table", "gradients", "line art", "logo")


def validation_pictures(held_out: list[Picture], count: int) -> list[np.ndarray]:
    """Pictures to validate on, (H, W, 3) uint8 each, the same at every call.

    A quarter of them are large (each of a source of its own while there are enough), a quarter drawn by code, the
    others small; large and small ones make up for each other where there are too few.

    Args:
        held_out: what training never sees (:func:`dcae.train.data.split`).
        count: how many are wanted; there are fewer when fewer are held out.
    """
    large = _one_of_each_source([p for p in held_out if p.large])
    sources = {p.source for p in large}
    # A small picture of a photograph that is among the large ones adds little: only when there are no others.
    small = sorted(_one_of_each_source([p for p in held_out if not p.large]), key=lambda p: p.source in sources)
    drawn = [
        drawn_picture(np.random.default_rng((_SEED, k)), SMALL, SMALL, kind=_DRAWN[k % len(_DRAWN)], installed=False)
        for k in range(count // 4)
    ]
    photographs = count - len(drawn)
    few = min(len(large), max(count // 4, photographs - len(small)))
    return (
        [centre(p.pixels, SMALL) for p in small[: photographs - few]]
        + [centre(p.pixels, LARGE) for p in large[:few]]
        + drawn
    )


def _one_of_each_source(pictures: list[Picture]) -> list[Picture]:
    """The first picture of each source, then the others."""
    first = {p.source: k for k, p in reversed(list(enumerate(pictures)))}
    return [pictures[k] for k in sorted(range(len(pictures)), key=lambda k: (first[pictures[k].source] != k, k))]


def centre(pixels: np.ndarray, side: int) -> np.ndarray:
    """The centre of a picture (H, W, 3), at most `side` pixels a side."""
    top, left = ((n - min(n, side)) // 2 for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])
