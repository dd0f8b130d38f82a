"""Pictures of programs: windows with buttons and menus, tables, web pages."""

from __future__ import annotations

import numpy as np
from PIL import Image

from dcae.train.drawn.canvas import Canvas, Theme, mixed, theme
from dcae.train.drawn.writing import letter_width


def desktop(canvas: Canvas) -> None:
    """Windows in front of each other on a plain, graded or photographic ground."""
    draw = canvas.random
    if canvas.photograph is not None and canvas.chance(0.3):
        canvas.fill()
    elif canvas.chance(0.5):
        canvas.paste(canvas.gradient(canvas.width, canvas.height), 0, 0)
    for _ in range(draw.randint(1, 3)):
        width, height = (round(draw.uniform(0.5, 1.6) * n) for n in (canvas.width, canvas.height))
        x = round(draw.uniform(-0.4, 0.5) * canvas.width)
        y = round(draw.uniform(-0.4, 0.5) * canvas.height)
        _window(canvas, x, y, width, height, canvas.theme if canvas.chance(0.7) else theme(draw))


def _window(canvas: Canvas, x: int, y: int, width: int, height: int, look: Theme) -> None:
    draw, radius = canvas.random, canvas.px(canvas.pick((0, 0, 4, 8, 12))) - 1
    if canvas.chance(0.6):
        _shadow(canvas, x, y, width, height)
    canvas.box(x, y, width, height, look.ground, look.border, radius)
    bar = canvas.px(draw.choice((22, 28, 36)))
    title = canvas.pick((look.panel, look.panel, canvas.accent()))
    canvas.box(x, y, width, bar, title, look.border, radius)
    letters = canvas.font(draw.choice((10, 11, 12, 13)))
    canvas.text(x + canvas.px(34), y + bar * 0.25, canvas.words(draw.randint(5, 25)), letters, look.ink)
    for k in range(3):
        dot, size = x + canvas.px(6) + k * canvas.px(9), canvas.px(6)
        canvas.draw.ellipse((dot, y + bar // 3, dot + size, y + bar // 3 + size), canvas.accent())
    top = y + bar
    side = canvas.px(draw.uniform(60, 140)) if canvas.chance(0.5) else 0
    if side:
        canvas.box(x, top, side, height - bar, look.panel, look.border)
        _list(canvas, x, top, side, y + height, look)
    (_form if canvas.chance(0.6) else _cells)(canvas, x + side, top, width - side, y + height, look)


def _shadow(canvas: Canvas, x: int, y: int, width: int, height: int) -> None:
    """Darkness around a rectangle, drawn as frames that grow fainter."""
    reach = canvas.px(canvas.random.uniform(4, 14))
    pixels = np.asarray(canvas.image, np.float32)
    rows = np.arange(canvas.height, dtype=np.float32)[:, None]
    columns = np.arange(canvas.width, dtype=np.float32)[None]
    above, beside = np.maximum(y - rows, rows - y - height - reach / 2), np.maximum(x - columns, columns - x - width)
    distance = np.hypot(np.maximum(above, 0), np.maximum(beside, 0)) / reach
    shade = 1 - canvas.random.uniform(0.2, 0.6) * np.clip(1 - distance, 0, 1) ** 2
    canvas.paste((pixels * shade[..., None]).astype(np.uint8), 0, 0)


def _list(canvas: Canvas, x: int, top: int, width: int, bottom: int, look: Theme) -> None:
    """Entries below each other, one of them chosen, some with a symbol."""
    draw, size = canvas.random, canvas.random.choice((10, 11, 12, 13))
    letters, step = canvas.font(size), canvas.px(size * draw.uniform(1.5, 2.4))
    chosen, symbols = draw.randrange(8), canvas.chance(0.5)
    for k, y in enumerate(range(top + canvas.px(4), min(bottom, canvas.height), step)):
        ink = look.ink
        if k == chosen:
            canvas.box(x + 2, y, width - 4, step, canvas.accent(), radius=canvas.px(3) if symbols else 0)
            ink = (255, 255, 255)
        at = x + canvas.px(8)
        if symbols:
            _symbol(canvas, at, y + step // 5, round(step * 0.6))
            at += step
        canvas.text(
            at, y + step * 0.15, canvas.words(max(2, int((width - at + x) / letter_width(letters)) - 1)), letters, ink
        )


def _symbol(canvas: Canvas, x: float, y: float, size: int) -> None:
    corners, colour = (x, y, x + size, y + size), canvas.accent()
    kind = canvas.random.randrange(5)
    if kind == 0:
        canvas.draw.ellipse(corners, colour)
    elif kind == 1:
        canvas.box(x, y, size, size, colour, radius=size / 4)
    elif kind == 2:
        canvas.draw.polygon([(x, y), (x + size, y + size / 2), (x, y + size)], colour)
    elif kind == 3:
        canvas.draw.arc(corners, 30, 330, colour, max(1, size // 6))
    else:
        for k in range(3):
            canvas.box(x, y + k * size / 3, size, max(1, size // 6), colour)


def _form(canvas: Canvas, x: int, top: int, width: int, bottom: int, look: Theme) -> None:
    """Buttons, fields, boxes to tick, sliders, bars of progress, labels, in rows."""
    draw, size = canvas.random, canvas.random.choice((10, 11, 12, 13, 14))
    letters, y = canvas.font(size), top + canvas.px(8)
    radius, row = canvas.px(canvas.pick((0, 2, 4, 9))) - 1, canvas.px(size * 2.1)
    while y < min(bottom, canvas.height) - row:
        at = x + canvas.px(10)
        while at < min(x + width, canvas.width) - canvas.px(30):
            wide = min(canvas.px(draw.uniform(40, 150)), x + width - at - canvas.px(4))
            text = canvas.words(max(2, int(wide / letter_width(letters)) - 2))
            kind = draw.randrange(6)
            if kind == 0:
                accent = canvas.accent() if canvas.chance(0.5) else look.panel
                canvas.box(at, y, wide, row * 0.85, accent, look.border, radius)
                canvas.text(at + canvas.px(6), y + row * 0.15, text, letters, look.ink)
            elif kind == 1:
                canvas.box(at, y, wide, row * 0.85, mixed(look.ground, look.panel, 0.5), look.faint, radius)
                canvas.text(at + canvas.px(4), y + row * 0.15, text, letters, look.faint)
            elif kind == 2:
                square = round(row * 0.45)
                canvas.box(at, y + row * 0.2, square, square, look.ground, look.ink, radius / 2)
                if canvas.chance(0.5):
                    canvas.box(at + 2, y + row * 0.2 + 2, square - 4, square - 4, canvas.accent())
                canvas.text(at + square * 1.5, y + row * 0.15, text, letters, look.ink)
            elif kind == 3:
                canvas.box(at, y + row * 0.4, wide, canvas.px(4), look.border, radius=radius)
                canvas.box(at, y + row * 0.4, wide * draw.random(), canvas.px(4), canvas.accent(), radius=radius)
            elif kind == 4:
                canvas.text(at, y + row * 0.15, text, letters, canvas.pick((look.ink, look.faint, canvas.accent())))
            else:
                _symbol(canvas, at, y + row * 0.15, round(row * 0.6))
                wide = row
            at += wide + canvas.px(8)
        y += canvas.px(size * draw.uniform(2.2, 3.0))


def _cells(canvas: Canvas, x: int, top: int, width: int, bottom: int, look: Theme) -> None:
    """A table: a header, numbers and words, lines or stripes between rows, single cells coloured."""
    draw, size = canvas.random, canvas.random.choice((9, 10, 11, 12))
    letters, row = canvas.font(size), canvas.px(size * draw.uniform(1.4, 2.2))
    stripes, lines = canvas.chance(0.5), canvas.chance(0.7)
    edges = [x]
    while edges[-1] < min(x + width, canvas.width):
        edges.append(edges[-1] + canvas.px(draw.uniform(30, 110)))
    numeric = [canvas.chance(0.6) for _ in edges]
    head = canvas.accent() if canvas.chance(0.4) else look.panel
    end = min(bottom, canvas.height)
    for k, y in enumerate(range(top, end, row)):
        ground = head if k == 0 else look.panel if stripes and k % 2 else look.ground
        canvas.box(x, y, edges[-1] - x, row, ground)
        for left, right, number in zip(edges, edges[1:], numeric, strict=False):
            if k and canvas.chance(0.03):
                canvas.box(left, y, right - left, row, mixed(ground, canvas.accent(), 0.5))
            if canvas.chance(0.06):
                continue
            fit = max(1, int((right - left) / letter_width(letters)) - 1)
            text = canvas.number()[:fit] if number and k else canvas.words(fit)
            at = right - canvas.px(4) - letters.getlength(text) if number else left + canvas.px(4)
            canvas.text(at, y + row * 0.12, text, letters, look.ink)
        if lines:
            canvas.draw.line((x, y, edges[-1], y), look.border)
    if lines:
        for edge in edges:
            canvas.draw.line((edge, top, edge, end), look.border)


def table(canvas: Canvas) -> None:
    """A sheet of numbers and words that fills the picture."""
    x, y = (-canvas.px(canvas.random.uniform(0, 60)) if canvas.chance(0.5) else 0 for _ in range(2))
    _cells(canvas, x, y, 2 * canvas.width, canvas.height, canvas.theme)


def web_page(canvas: Canvas) -> None:
    """A bar, cards with a picture, a heading and text, and a button."""
    draw, look = canvas.random, canvas.theme
    y = canvas.px(draw.uniform(-20, 10))
    bar = canvas.px(draw.uniform(24, 50))
    canvas.box(0, y, canvas.width, bar, canvas.pick((look.panel, canvas.accent())))
    letters = canvas.font(12)
    for k in range(6):
        canvas.text(canvas.px(10 + 70 * k), y + bar * 0.3, canvas.words(8), letters, look.ink)
    y += bar + canvas.px(10)
    gap, radius = canvas.px(10), canvas.px(canvas.pick((0, 4, 10))) - 1
    wide, high = canvas.px(draw.uniform(90, 220)), canvas.px(draw.uniform(110, 240))
    for top in range(y, canvas.height, high + gap):
        for x in range(gap, canvas.width, wide + gap):
            canvas.box(x, top, wide, high, look.panel, look.border if canvas.chance(0.5) else None, radius)
            _card(canvas, x + 1, top + 1, wide - 2, high - 2)


def _card(canvas: Canvas, x: int, y: int, width: int, height: int) -> None:
    draw, look = canvas.random, canvas.theme
    picture = round(height * draw.uniform(0.3, 0.55))
    if canvas.photograph is not None and canvas.chance(0.8):
        thumbnail = Image.fromarray(canvas.photograph).resize(
            (width, picture), Image.Resampling.BILINEAR, reducing_gap=2
        )
        canvas.image.paste(thumbnail, (x, y))
    else:
        canvas.paste(canvas.gradient(width, picture), x, y)
    heading, letters = canvas.font(14), canvas.font(draw.choice((9, 10, 11)))
    at = y + picture + canvas.px(5)
    canvas.text(x + canvas.px(6), at, canvas.words(int(width / letter_width(heading)) - 3), heading, look.ink)
    step, fit = canvas.px(15), int(width / letter_width(letters)) - 3
    for line in range(at + canvas.px(20), min(y + height - 2 * step, canvas.height), step):
        canvas.text(x + canvas.px(6), line, canvas.words(fit), letters, look.faint)
    button = canvas.px(60)
    canvas.box(x + canvas.px(6), y + height - step - canvas.px(5), button, step, canvas.accent(), radius=canvas.px(3))
