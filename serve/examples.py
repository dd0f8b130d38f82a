"""Example pictures of the page, drawn here so that nobody's photographs are needed.

Three kinds that codecs find differently hard: a landscape with air and grain, a lit scene with sharp edges, and a map
with thin lines and letters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dcae.errors import OptionError

SIZE = (768, 512)
"""Width and height of a whole example in pixels."""
LEAST_WIDTH = 64
Plane = NDArray[np.float64]


@lru_cache(maxsize=16)
def example_png(name: str, width: int = SIZE[0]) -> bytes:
    """An example as a PNG file; the same bytes each time on one machine.

    Args:
        name: one of `EXAMPLES`.
        width: in pixels, 64 to 768; below 768 the picture is reduced, as for a thumbnail.

    Raises:
        OptionError: an unknown name, or a width out of range.
    """
    if name not in EXAMPLES:
        raise OptionError(f"no example {name!r}; there are {', '.join(EXAMPLES)}")
    if not LEAST_WIDTH <= width <= SIZE[0]:
        raise OptionError(f"examples are {LEAST_WIDTH} to {SIZE[0]} pixels wide, got {width}")
    buffer = BytesIO()
    picture = _drawn(name)
    if width < SIZE[0]:
        picture = picture.resize((width, round(width * SIZE[1] / SIZE[0])), Image.Resampling.LANCZOS)
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@lru_cache(maxsize=4)
def _drawn(name: str) -> Image.Image:
    """An example in full size."""
    return _DRAW[name](np.random.default_rng(list(name.encode())))


def _picture(linear: Plane, rng: np.random.Generator, grain: float) -> Image.Image:
    """Light of 0 to 1 (rows, columns, 3) as a picture with a film's grain, in levels."""
    levels = 255 * np.clip(linear, 0, 1) ** (1 / 2.2)
    return Image.fromarray(np.uint8(np.clip(levels + rng.normal(0, grain, levels.shape), 0, 255) + 0.5))


def _noise(rng: np.random.Generator, shape: tuple[int, int], slope: float, stretch: float = 1.0) -> Plane:
    """Noise whose amplitude falls with frequency ** slope, mean 0 and deviation 1; `stretch` draws it out sideways."""
    down = np.fft.fftfreq(shape[0])[:, None] * shape[0]
    across = np.fft.rfftfreq(shape[1])[None] * shape[1] * stretch * shape[0] / shape[1]
    frequency = np.hypot(down, across)
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * frequency**-slope, shape)
    return (noise - noise.mean()) / noise.std()


def _mixed(a: Plane, b: Plane, share: Plane | float) -> Plane:
    """Between two colours or pictures (..., 3), by the share (...) of the second."""
    of_b: Plane = np.asarray(share, float)[..., None]
    mixed: Plane = a * (1 - of_b) + b * of_b
    return mixed


def _lake(rng: np.random.Generator) -> Image.Image:
    """Mountains behind a lake at dusk."""
    width, height = SIZE
    shore = int(0.66 * height)
    rows = (np.arange(shore) / shore)[:, None] + np.zeros((1, width))
    columns = (np.arange(width) / width)[None] + np.zeros((shore, 1))
    view = _mixed(np.array([0.07, 0.15, 0.34]), np.array([0.95, 0.52, 0.26]), rows**1.6)
    glow = np.exp(-(((columns - 0.64) / 0.22) ** 2 + ((rows - 0.72) / 0.3) ** 2))
    view += glow[..., None] * np.array([0.5, 0.3, 0.1])
    clouds = _noise(rng, (shore, width), 1.8, 3.5) + 0.25 * _noise(rng, (shore, width), 1.2, 3)
    cover = np.clip(clouds - 0.3, 0, 1.4) * np.clip(1.15 - rows, 0, 1) * 0.55
    view = _mixed(view, np.array([0.9, 0.5, 0.42]) * (0.35 + 0.8 * rows[..., None] ** 2), np.clip(cover, 0, 0.85))
    air = np.array([0.8, 0.46, 0.34])
    for near, (base, rough) in enumerate(((0.66, 0.05), (0.76, 0.07), (0.86, 0.06), (0.955, 0.03))):
        ridge = base - rough * _noise(rng, (1, width), 1.25)[0]
        ridge -= 0.004 * near * np.abs(_noise(rng, (1, width), 0.35)[0]) * (near > 1)
        inside = np.clip((rows - ridge) * shore + 0.5, 0, 1)
        rock = np.array([0.035, 0.05, 0.07]) * np.exp(0.45 * _noise(rng, (shore, width), 0.9))[..., None]
        haze = np.clip((0.62 - 0.19 * near) * (0.75 + (rows - ridge) * 1.5), 0, 1)
        view = _mixed(view, _mixed(rock, air, haze), inside)
    depth = np.arange(1, height - shore + 1)
    ripple = _noise(rng, (len(depth), width), 1.25, 7) * np.sqrt(depth)[:, None]
    source = np.clip(shore - 1 - depth[:, None] * 1.55 + ripple * 1.3, 0, shore - 1).astype(int)
    aside = np.clip(np.arange(width) + ripple * 0.6, 0, width - 1).astype(int)
    water = view[source, aside] * 0.72 + np.array([0.01, 0.02, 0.04]) + 0.004 * ripple[..., None]
    return _picture(np.vstack([view, water]), rng, 1.6)


def _still_life(rng: np.random.Generator) -> Image.Image:
    """Balls on a wooden table under a lamp, by rays, more than one for a pixel."""
    width, height = 3 * SIZE[0] // 2, 3 * SIZE[1] // 2
    y, x = np.indices((height, width)).reshape(2, -1)
    rays = np.stack([(x + 0.5) / width - 0.5, (0.5 - (y + 0.5) / height) * height / width - 0.16, 0 * x + 0.95], 1)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    light = _traced(np.array([0, 1.45, -3.6]), rays, rng, bounces=1)
    light = light.reshape(height, width, 3)
    return _picture(1 - np.exp(-1.05 * light), rng, 1.2).resize(SIZE, Image.Resampling.LANCZOS)


_CENTRES = np.array(
    [[-0.95, 0.6, 0.35], [0.28, 0.42, -0.35], [1.12, 0.72, 0.95], [-0.28, 0.24, -0.95], [0.86, 0.2, -1.0]]
)
_RADII = np.array([0.6, 0.42, 0.72, 0.24, 0.2])
_COLOURS = np.array([[0.72, 0.1, 0.06], [0.85, 0.8, 0.7], [0.05, 0.22, 0.34], [0.9, 0.55, 0.08], [0.12, 0.35, 0.14]])
_MIRRORS = np.array([0.08, 0.45, 0.2, 0.05, 0.06])
_LAMP = np.array([-2.6, 4.2, -2.2])


def _traced(begin: Plane, rays: Plane, rng: np.random.Generator, bounces: int) -> Plane:
    """Light that comes back along rays (N, 3) from their beginnings."""
    reach, ball = _nearest(begin, rays)
    floor = np.where(rays[:, 1] < -1e-4, -np.broadcast_to(begin, rays.shape)[:, 1] / rays[:, 1], np.inf)
    on_floor = floor < reach
    reach = np.minimum(reach, floor)
    hit = np.isfinite(reach)
    points = begin + rays * np.where(hit, reach, 0)[:, None]
    normals = np.where(on_floor[:, None], np.array([0, 1, 0]), (points - _CENTRES[ball]) / _RADII[ball][:, None])
    colours = np.where(on_floor[:, None], _wood(points), _COLOURS[ball])
    towards = _LAMP + rng.uniform(-0.22, 0.22, points.shape) - points
    far = np.linalg.norm(towards, axis=1)
    towards /= far[:, None]
    free = _nearest(points + 1e-3 * normals, towards)[0] > far
    facing = np.clip((normals * towards).sum(1), 0, None) * free
    ambient = 0.05 + 0.05 * normals[:, 1] - 0.085 * on_floor * np.exp(-3 * _clearance(points))
    lit = colours * (facing * 30 / far**2 + np.clip(ambient, 0.008, 1))[:, None]
    back = rays - 2 * (rays * normals).sum(1, keepdims=True) * normals
    lit += (0.9 * free * ~on_floor * np.clip((back * towards).sum(1), 0, 1) ** 90)[:, None]
    wall = _mixed(np.array([0.06, 0.05, 0.045]), np.array([0.008, 0.01, 0.013]), np.clip(rays[:, 1] * 1.6 + 0.3, 0, 1))
    light = _mixed(wall, lit, hit * np.exp(-0.05 * np.where(hit, reach, 0)))
    again = np.flatnonzero(hit & ~on_floor)
    if bounces and len(again):
        seen = _traced(points[again] + 1e-3 * normals[again], back[again], rng, bounces - 1)
        edge = (1 + (rays[again] * normals[again]).sum(1)) ** 4
        light[again] = _mixed(light[again], seen, np.clip(_MIRRORS[ball[again]] + 0.5 * edge, 0, 1))
    return light


def _nearest(begin: Plane, rays: Plane) -> tuple[Plane, NDArray[np.intp]]:
    """Distance to the first ball on each ray, inf where there is none, and which it is."""
    reach, ball = np.full(len(rays), np.inf), np.zeros(len(rays), np.intp)
    for k, (centre, radius) in enumerate(zip(_CENTRES, _RADII, strict=True)):
        away = begin - centre
        along = (rays * away).sum(1)
        inside = along**2 - (away**2).sum(-1) + radius**2
        distance = np.where(inside > 0, -along - np.sqrt(np.maximum(inside, 0)), -1)
        closer = (distance > 1e-4) & (distance < reach)
        reach[closer], ball[closer] = distance[closer], k
    return reach, ball


def _clearance(points: Plane) -> Plane:
    """Distance to the nearest ball."""
    apart = [np.linalg.norm(points - c, axis=1) - r for c, r in zip(_CENTRES, _RADII, strict=True)]
    return np.maximum(np.min(apart, 0), 0)


def _wood(points: Plane) -> Plane:
    """Colour of the table's boards."""
    board = np.floor(points[:, 2] / 0.62)
    shift = 7.3 * np.sin(board * 12.9898)
    grain = _noise(np.random.default_rng(1), (256, 1024), 0.9, 12)
    row = np.int64(np.abs(points[:, 2] * 160 + 60 * shift)) % 256
    column = np.int64(np.abs(points[:, 0] * 90 + 300 * shift)) % 1024
    rings = np.sin((points[:, 2] - board * 0.62) * 34 + 3 * np.sin(points[:, 0] * 0.9 + shift) + grain[row, column])
    gap = np.abs(points[:, 2] / 0.62 - np.round(points[:, 2] / 0.62)) < 0.012
    brightness = (1 + 0.14 * rings + 0.16 * grain[row, column] + 0.1 * np.sin(shift)) * np.where(gap, 0.35, 1)
    return np.array([0.36, 0.2, 0.1]) * np.clip(brightness, 0.2, 2)[:, None]


_PLACES = ((0.18, 0.22, "Nordholt"), (0.62, 0.16, "Great Fell"), (0.4, 0.52, "Mirror Tarn"), (0.74, 0.6, "Aldermoor"),
           (0.14, 0.76, "Low Mill"), (0.5, 0.86, "Ferry 3 km"))  # fmt: skip


def _map(rng: np.random.Generator) -> Image.Image:
    """A map of hills with lines of height and names."""
    width, height = 2 * SIZE[0], 2 * SIZE[1]
    hills = _noise(rng, (height, width), 2.3)
    level = (hills - hills.min()) / np.ptp(hills)
    down, across = np.gradient(level)
    shade = 1 + (across - down) * 110
    tones = np.array(
        [[0.72, 0.83, 0.87], [0.80, 0.86, 0.72], [0.93, 0.90, 0.76], [0.90, 0.80, 0.66], [0.97, 0.95, 0.93]]
    )
    paper = np.stack([np.interp(level, (0.28, 0.3, 0.5, 0.7, 0.95), tone) for tone in tones.T], -1)
    dry = level > 0.285
    paper *= np.where(dry, np.clip(shade, 0.72, 1.18), 1)[..., None]
    slope = np.hypot(down, across)
    for every, wide, dark in ((1 / 40, 1.1, 0.4), (1 / 8, 2.4, 0.62)):
        apart = np.abs((level / every + 0.5) % 1 - 0.5) * every / np.maximum(slope, 1e-9)
        paper = _mixed(paper, np.array([0.45, 0.27, 0.14]), dark * np.clip(wide - apart, 0, 1) * dry)
    sheet = Image.fromarray(np.uint8(255 * np.clip(paper, 0, 1) + 0.5))
    pen = ImageDraw.Draw(sheet)
    for x, y, name in _PLACES:
        at, font = (x * width, y * height), ImageFont.load_default(34)
        pen.ellipse((at[0] - 26, at[1] + 14, at[0] - 12, at[1] + 28), fill=(150, 30, 30))
        pen.text(at, name, (30, 30, 34), font, stroke_width=4, stroke_fill=(250, 248, 240))
    return sheet.resize(SIZE, Image.Resampling.BOX)


_DRAW: dict[str, Callable[[np.random.Generator], Image.Image]] = {"lake": _lake, "balls": _still_life, "map": _map}
EXAMPLES: dict[str, str] = {"lake": "A lake at dusk", "balls": "Balls on a table", "map": "A map"}
"""Names of the examples, and what people read."""
