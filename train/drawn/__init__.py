"""Pictures that are not photographs, drawn by code: text, interfaces, charts, line art, plain colours, patterns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from dcae.train.drawn.canvas import Canvas
from dcae.train.drawn.charts import chart
from dcae.train.drawn.fonts import faces
from dcae.train.drawn.interface import desktop, table, web_page
from dcae.train.drawn.patterns import dithered, flat, gradients, line_art, logo, photograph, pixel_art, regular
from dcae.train.drawn.writing import code, headline, page

KINDS: dict[str, tuple[float, Callable[[Canvas], None]]] = {
    "page": (0.17, page), "headline": (0.06, headline), "code": (0.11, code), "desktop": (0.14, desktop),
    "table": (0.07, table), "web page": (0.08, web_page), "chart": (0.13, chart), "flat": (0.05, flat),
    "line art": (0.05, line_art), "regular": (0.03, regular), "gradients": (0.05, gradients), "logo": (0.03, logo),
    "pixel art": (0.015, pixel_art), "photograph": (0.015, photograph),
}  # fmt: skip
"""Kinds of pictures: their shares and what draws them."""

_FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def drawn_picture(
    rng: np.random.Generator, height: int, width: int, cut: np.ndarray | None = None, *, kind: str | None = None,
    installed: bool = True,
) -> np.ndarray:  # fmt: skip
    """A drawn picture, (height, width, 3) uint8.

    Some are drawn larger and reduced: then edges are smooth, or a screen is shown at less than its size. A few are gray
    or in few colours.

    Args:
        cut: a photograph (H, W, 3) uint8 that may be shown in it, or none.
        kind: one of :data:`KINDS`; drawn by their shares when not given.
        installed: whether typefaces of the machine are used; without them the picture is the same everywhere.
    """
    names = list(KINDS)
    if kind is None:
        kind = names[int(rng.choice(len(names), p=np.array([KINDS[n][0] for n in names])))]
    seed, scale, plain = int(rng.integers(2**32)), rng.random(), kind in ("regular", "gradients", "photograph")
    soft = 0.6 if kind in ("chart", "line art", "flat") else 0.15
    if plain or scale > soft + 0.15:
        factor, unit = 1.0, float(rng.choice((1.0, 1.0, 1.25, 1.5, 2.0)))
    elif scale < soft:
        factor = unit = 2.0  # smooth edges
    else:
        factor, unit = float(rng.uniform(1.2, 2.0)), 1.0  # a screen, reduced
    canvas = Canvas(seed, round(width * factor), round(height * factor), unit, faces(installed), cut)
    KINDS[kind][1](canvas)
    if kind == "photograph" or (factor == 1 and canvas.chance(0.04)):
        canvas.image = dithered(canvas)
    image = canvas.image
    if factor > 1:
        image = image.resize((width, height), Image.Resampling.BOX if factor == 2 else canvas.pick(_FILTERS))
    if canvas.chance(0.06):
        image = image.convert("L").convert("RGB")
    return np.array(image)
