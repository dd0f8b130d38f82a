"""What every drawn picture is drawn on: a Pillow image with its own random numbers, colours and kind of text."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dcae.train.drawn.fonts import Face, Font, font, tripled

Colour = tuple[int, int, int]
_T = TypeVar("_T")

_COMMON = """
the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you
were all her she there would their we him been has when who will no more if out so up said what its about than into them
can only other time new some could these two may first then do any like now over such our man me even most made after
also did many off before must well back through years much where your way down should because long each people how too
little state good very make world still see own work men day get here old life both between being under three never know
program business public number water letters another himself something government children national general without
"""


def _vocabulary() -> list[str]:
    syllables = random.Random(1)
    made = []
    for _ in range(400):
        parts = syllables.randint(1, 4)
        made.append("".join(syllables.choice("bcdfghklmnprstvw") + syllables.choice("aeiouy") for _ in range(parts)))
    return _COMMON.split() * 3 + made + [w.capitalize() for w in made[:80]] + [w.upper() for w in made[:20]]


_VOCABULARY = _vocabulary()


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Colour of a hue (any number, its fraction counts), saturation and value in 0..1."""
    r, g, b = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))
    return round(255 * r), round(255 * g), round(255 * b)


def mixed(a: Colour, b: Colour, share: float) -> Colour:
    """Colour between two; `share` of b."""
    r, g, b_ = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return r, g, b_


class Theme(NamedTuple):
    """Colours that go together."""

    dark: bool
    ground: Colour
    panel: Colour
    border: Colour
    ink: Colour
    faint: Colour
    accents: tuple[Colour, ...]


def theme(draw: random.Random) -> Theme:
    """A light or dark theme, near gray or coloured."""
    dark = draw.random() < 0.4
    hue, tint = draw.random(), draw.choice((0.0, 0.0, 0.05, 0.15, 0.5))
    if dark:
        ground = hsv(hue, tint, draw.uniform(0.0, 0.25))
        panel = mixed(ground, (255, 255, 255), draw.uniform(0.03, 0.1))
        ink = hsv(hue, 0.3 * tint, draw.uniform(0.75, 1.0))
    else:
        white = draw.random() < 0.5
        ground = (255, 255, 255) if white else hsv(hue, 0.3 * tint, draw.uniform(0.85, 1.0))
        panel = mixed(ground, (0, 0, 0), draw.uniform(0.0, 0.08))
        ink = hsv(hue, tint, draw.choice((0.0, draw.uniform(0.0, 0.3))))
    first, step = draw.random(), draw.uniform(0.1, 0.4)
    value, saturation = draw.uniform(0.6, 1.0), draw.uniform(0.4, 1.0)
    accents = tuple(hsv(first + k * step, saturation, value) for k in range(6))
    border, faint = mixed(ground, ink, draw.uniform(0.1, 0.4)), mixed(ground, ink, draw.uniform(0.4, 0.7))
    return Theme(dark, ground, panel, border, ink, faint, accents)


class Canvas:
    """A picture being drawn.

    Args:
        seed: of all its random choices.
        unit: pixels that stand for one of an ordinary screen; sizes of letters and lines are multiples of it.
        typefaces: at least one.
        photograph: (H, W, 3) uint8 that may be part of the picture, or none.
    """

    def __init__(
        self, seed: int, width: int, height: int, unit: float, typefaces: Sequence[Face],
        photograph: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.random = random.Random(seed)
        self.width, self.height, self.unit = width, height, unit
        self.typefaces, self.photograph = typefaces, photograph
        self.theme = theme(self.random)
        self.image = Image.new("RGB", (width, height), self.theme.ground)
        self.draw = ImageDraw.Draw(self.image)
        self.letters = self.random.choices(("smooth", "hard", "subpixel"), (0.72, 0.1, 0.18))[0]
        self.draw.fontmode = "1" if self.letters == "hard" else "L"
        self.face = self._choose([f for f in typefaces if not f.fixed_width or self.chance(0.1)])
        self.fixed_width = self._choose([f for f in typefaces if f.fixed_width])

    def _choose(self, among: list[Face]) -> Face:
        """A typeface, mostly a regular one; any where there is none to choose from."""
        regular = [f for f in among if f.regular]
        return self.pick((regular if self.chance(0.7) else among) or among or self.typefaces)

    def px(self, size: float) -> int:
        """Pixels of a length in units, at least one."""
        return max(1, round(size * self.unit))

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def pick(self, options: Sequence[_T]) -> _T:
        return self.random.choice(options)

    def accent(self) -> Colour:
        """A colour of the theme that stands out."""
        return self.random.choice(self.theme.accents)

    def colour(self) -> Colour:
        """Any colour, often a saturated one."""
        saturation = self.random.choice((1.0, self.random.random(), self.random.random()))
        return hsv(self.random.random(), saturation, self.random.choice((1.0, self.random.random())))

    def font(self, size: float, face: Face | None = None) -> Font:
        """The canvas's typeface, or another, at a size in units."""
        return font(face or self.face, max(6, self.px(size)))

    def words(self, letters: int) -> str:
        """Words of about this many letters together."""
        text = " ".join(self.random.choices(_VOCABULARY, k=max(1, letters // 4)))
        return text[: max(1, letters)].rstrip()

    def number(self) -> str:
        """A number as tables and axes have them."""
        kind, value = self.random.random(), self.random.random() * 10 ** self.random.randint(0, 5)
        if kind < 0.5:
            return f"{value:,.0f}"
        return f"{value:.2f}" if kind < 0.8 else f"{100 * self.random.random():.1f} %"

    def text(self, x: float, y: float, text: str, letters: Font, colour: Colour, stroke: int = 0) -> None:
        """Text whose upper left corner is at (x, y)."""
        if self.letters != "subpixel" or not isinstance(letters, ImageFont.FreeTypeFont):
            self.draw.text((x, y), text, colour, letters, stroke_width=stroke)
            return
        left, top, right, bottom = (int(v) for v in self.draw.textbbox((x, y), text, letters, stroke_width=stroke))
        left, top = max(left - 1, 0), max(top - 1, 0)
        right, bottom = min(right + 2, self.width), min(bottom + 2, self.height)
        if right <= left or bottom <= top:
            return
        mask = Image.new("L", (3 * (right - left), 3 * (bottom - top)))
        ImageDraw.Draw(mask).text((3 * (x - left), 3 * (y - top)), text, 255, tripled(letters), stroke_width=3 * stroke)
        # Columns of the mask are stripes of red, green and blue; each takes a third of its neighbours' ink.
        stripes = np.pad(np.asarray(mask.reduce((1, 3)), np.float32) / 255, ((0, 0), (1, 1)))
        ink = (stripes[:, :-2] + stripes[:, 1:-1] + stripes[:, 2:]) / 3
        region = np.asarray(self.image.crop((left, top, right, bottom)), np.float32)
        region = region + ink.reshape(region.shape) * (np.array(colour, np.float32) - region)
        self.image.paste(Image.fromarray((region + 0.5).astype(np.uint8)), (left, top))

    def box(
        self, x: float, y: float, width: float, height: float, fill: Colour | None, outline: Colour | None = None,
        radius: float = 0.0, line: int = 1,
    ) -> None:  # fmt: skip
        """A rectangle, with round corners where `radius` is positive; nothing when it is empty."""
        if width < 1 or height < 1:
            return
        corners = (round(x), round(y), round(x + width) - 1, round(y + height) - 1)
        if corners[2] < corners[0] or corners[3] < corners[1]:
            return
        if radius > 0:
            self.draw.rounded_rectangle(corners, min(radius, width / 2, height / 2), fill, outline, line)
        else:
            self.draw.rectangle(corners, fill, outline, line)

    def fill(self) -> None:
        """The whole picture, with the photograph, or with a gradient where there is none."""
        if self.photograph is None:
            self.paste(self.gradient(self.width, self.height), 0, 0)
        else:
            self.image.paste(Image.fromarray(self.photograph).resize((self.width, self.height)))

    def paste(self, pixels: np.ndarray, x: int, y: int) -> None:
        """An array (H, W, 3) uint8 with its upper left corner at (x, y)."""
        self.image.paste(Image.fromarray(pixels), (x, y))

    def gradient(self, width: int, height: int) -> np.ndarray:
        """A gradient between two colours, linear or radial, steep or slow: (height, width, 3) uint8."""
        rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        columns = np.linspace(-1, 1, width, dtype=np.float32)[None]
        a, b = self.colour(), self.colour()
        if self.chance(0.5):
            b = mixed(a, b, self.random.uniform(0.02, 0.3))
        if self.chance(0.35):
            t = np.hypot(rows - self.random.uniform(-1, 1), columns - self.random.uniform(-1, 1)) / 2
        else:
            down, right = self.pick(((0.0, 1.0), (1.0, 0.0), (self.random.uniform(-1, 1), self.random.uniform(-1, 1))))
            t = (down * rows + right * columns) / (abs(down) + abs(right) + 1e-6) / 2 + 0.5
        if self.chance(0.3):
            t = t * t * (3 - 2 * t)
        t = np.clip(t, 0, 1)[..., None]
        low, high = np.array(a, np.float32), np.array(b, np.float32)
        return (low + (high - low) * t + 0.5).astype(np.uint8)
