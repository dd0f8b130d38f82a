"""Charts: lines, bars, areas, points, pies and coloured maps of numbers, with axes, grid and legend."""

from __future__ import annotations

import math

import numpy as np

from dcae.train.drawn.canvas import Canvas, hsv, mixed


def chart(canvas: Canvas) -> None:
    """One chart that is larger or smaller than the picture."""
    draw = canvas.random
    width, height = (draw.uniform(0.7, 1.5) * n for n in (canvas.width, canvas.height))
    left, top = draw.uniform(-0.2, 0.2) * canvas.width, draw.uniform(-0.2, 0.2) * canvas.height
    x, y, room = left + canvas.px(30), top + canvas.px(18), canvas.px(20)  # however small the picture
    frame = (x, y, max(left + width - canvas.px(8), x + room), max(top + height - canvas.px(24), y + room))
    kind = draw.random()
    if kind < 0.18:
        _pie(canvas, frame)
    else:
        _axes(canvas, frame)
        if kind < 0.5:
            _lines(canvas, frame)
        elif kind < 0.75:
            _bars(canvas, frame)
        elif kind < 0.88:
            _points(canvas, frame)
        else:
            _map(canvas, frame)
    if canvas.chance(0.7):
        canvas.text(left + width * 0.3, top + 1, canvas.words(draw.randint(8, 40)), canvas.font(13), canvas.theme.ink)
    if canvas.chance(0.5):
        _legend(canvas, frame)


Frame = tuple[float, float, float, float]


def _axes(canvas: Canvas, frame: Frame) -> None:
    left, top, right, bottom = frame
    look, letters, line = canvas.theme, canvas.font(canvas.random.choice((8, 9, 10, 11))), canvas.px(1)
    if canvas.chance(0.3):
        canvas.box(left, top, right - left, bottom - top, look.panel)
    across, down = canvas.random.randint(3, 9), canvas.random.randint(3, 8)
    grid, dashed = canvas.chance(0.7), canvas.chance(0.3)
    colour = mixed(look.ground, look.border, 0.7)
    for k in range(across + 1):
        x = round(left + (right - left) * k / across)
        if grid:
            _stroke(canvas, (x, top, x, bottom), colour, dashed)
        canvas.draw.line((x, bottom, x, bottom + canvas.px(4)), look.ink, line)
        canvas.text(
            x - canvas.px(8),
            bottom + canvas.px(5),
            canvas.pick((str(2000 + k), canvas.number()[:4])),
            letters,
            look.ink,
        )
    for k in range(down + 1):
        y = round(bottom - (bottom - top) * k / down)
        if grid:
            _stroke(canvas, (left, y, right, y), colour, dashed)
        text = canvas.number()[:5]
        canvas.text(left - canvas.px(6) - letters.getlength(text), y - canvas.px(6), text, letters, look.ink)
    canvas.draw.line((left, top, left, bottom, right, bottom), look.ink, line)


def _stroke(canvas: Canvas, ends: Frame, colour: tuple[int, int, int], dashed: bool) -> None:
    if not dashed:
        canvas.draw.line(ends, colour, canvas.px(1))
        return
    x0, y0, x1, y1 = ends
    pieces = max(1, int(math.hypot(x1 - x0, y1 - y0) / canvas.px(7)))
    for k in range(pieces):
        a, b = k / pieces, (k + 0.6) / pieces
        canvas.draw.line((x0 + (x1 - x0) * a, y0 + (y1 - y0) * a, x0 + (x1 - x0) * b, y0 + (y1 - y0) * b), colour)


def _series(canvas: Canvas, count: int) -> list[float]:
    """Values in 0..1 that wander, swing or jump."""
    draw, kind = canvas.random, canvas.random.random()
    if kind < 0.5:
        value, values, wild = draw.random(), [], draw.uniform(0.01, 0.2)
        for _ in range(count):
            value = min(max(value + draw.gauss(0, wild), 0.0), 1.0)
            values.append(value)
        return values
    if kind < 0.8:
        phase, rate, high = draw.random() * 6, draw.uniform(2, 15) / count, draw.uniform(0.1, 0.45)
        return [0.5 + high * math.sin(phase + rate * k) for k in range(count)]
    return [draw.random() for _ in range(count)]


def _lines(canvas: Canvas, frame: Frame) -> None:
    left, top, right, bottom = frame
    filled = canvas.chance(0.25)
    for k in range(canvas.random.randint(1, 5)):
        count = canvas.random.choice((5, 12, 40, 150))
        points = [
            (left + (right - left) * j / (count - 1), bottom - (bottom - top) * v)
            for j, v in enumerate(_series(canvas, count))
        ]
        colour = canvas.theme.accents[k]
        if filled:
            canvas.draw.polygon([(left, bottom), *points, (right, bottom)], mixed(canvas.theme.ground, colour, 0.5))
        canvas.draw.line(points, colour, canvas.px(canvas.random.choice((1, 1.5, 2, 3))), joint="curve")
        if count < 20 and canvas.chance(0.5):
            for x, y in points:
                reach = canvas.px(3)
                canvas.draw.ellipse((x - reach, y - reach, x + reach, y + reach), colour)


def _bars(canvas: Canvas, frame: Frame) -> None:
    left, top, right, bottom = frame
    groups, series = canvas.random.randint(2, 12), canvas.random.randint(1, 4)
    gap, outline = canvas.random.uniform(0.1, 0.5), canvas.theme.ink if canvas.chance(0.3) else None
    stacked, lying = canvas.chance(0.3), canvas.chance(0.25)
    for group in range(groups):
        base = 0.0
        for k, value in enumerate(_series(canvas, series)):
            start, thick = (group + gap / 2) / groups, (1 - gap) / groups
            if stacked:
                low, high = base, base + value / series
                base = high
            else:
                start, thick, low, high = start + thick * k / series, thick / series, 0.0, value
            if lying:
                box = (
                    left + low * (right - left),
                    top + start * (bottom - top),
                    (high - low) * (right - left),
                    thick * (bottom - top),
                )
            else:
                box = (
                    left + start * (right - left),
                    bottom - high * (bottom - top),
                    thick * (right - left),
                    (high - low) * (bottom - top),
                )
            canvas.box(*box, canvas.theme.accents[k], outline)


def _points(canvas: Canvas, frame: Frame) -> None:
    left, top, right, bottom = frame
    for k in range(canvas.random.randint(1, 4)):
        x0, y0, wide = canvas.random.random(), canvas.random.random(), canvas.random.uniform(0.05, 0.3)
        reach = canvas.px(canvas.random.uniform(1, 4))
        for _ in range(canvas.random.choice((15, 60, 150))):
            x = left + (right - left) * canvas.random.gauss(x0, wide)
            y = top + (bottom - top) * canvas.random.gauss(y0, wide)
            canvas.draw.ellipse((x - reach, y - reach, x + reach, y + reach), canvas.theme.accents[k])


def _map(canvas: Canvas, frame: Frame) -> None:
    """Numbers as colours, in cells or smooth."""
    left, top, right, bottom = (round(v) for v in frame)
    rows, columns = canvas.random.randint(3, 24), canvas.random.randint(3, 24)
    values = np.array([_series(canvas, columns) for _ in range(rows)], np.float32)
    low, high = canvas.random.random(), canvas.random.uniform(0.2, 0.8)
    ramp = np.array([hsv(low + high * k / 63, 0.9, 0.2 + 0.8 * k / 63) for k in range(64)], np.uint8)
    height, width = bottom - top, right - left
    if canvas.chance(0.6):
        cells = values[np.arange(height) * rows // height][:, np.arange(width) * columns // width]
    else:
        y, x = np.linspace(0, 9, height, dtype=np.float32)[:, None], np.linspace(0, 9, width, dtype=np.float32)[None]
        a, b, c = (canvas.random.uniform(0.2, 1.2) for _ in range(3))
        cells = 0.5 + 0.25 * np.sin(a * x + b * y) + 0.25 * np.cos(c * y - b * x)
    canvas.paste(ramp[(63 * np.clip(cells, 0, 1)).astype(np.uint8)], left, top)


def _pie(canvas: Canvas, frame: Frame) -> None:
    left, top, right, bottom = frame
    reach = min(right - left, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    corners = (x - reach, y - reach, x + reach, y + reach)
    edges = sorted(canvas.random.uniform(0, 360) for _ in range(canvas.random.randint(2, 7)))
    outline = canvas.pick((None, canvas.theme.ground, canvas.theme.ink))
    for k, (start, end) in enumerate(zip(edges, [*edges[1:], edges[0] + 360], strict=True)):
        colour = hsv(k / len(edges) + 0.1, 0.7, 0.9) if k >= 6 else canvas.theme.accents[k]
        canvas.draw.pieslice(corners, start, end, colour, outline, canvas.px(2))
        middle = math.radians((start + end) / 2)
        place = (x + 0.6 * reach * math.cos(middle), y + 0.6 * reach * math.sin(middle))
        canvas.text(*place, canvas.number()[:4], canvas.font(10), canvas.theme.ink)
    if canvas.chance(0.4):
        hole = reach * canvas.random.uniform(0.3, 0.7)
        canvas.draw.ellipse((x - hole, y - hole, x + hole, y + hole), canvas.theme.ground)


def _legend(canvas: Canvas, frame: Frame) -> None:
    x, y = frame[0] + canvas.px(canvas.random.uniform(5, 120)), frame[1] + canvas.px(canvas.random.uniform(5, 80))
    rows, step, letters = canvas.random.randint(2, 5), canvas.px(14), canvas.font(10)
    canvas.box(x, y, canvas.px(84), step * rows + canvas.px(6), canvas.theme.ground, canvas.theme.border)
    for k in range(rows):
        top = y + canvas.px(3) + k * step
        canvas.box(x + canvas.px(4), top + canvas.px(3), canvas.px(12), canvas.px(6), canvas.theme.accents[k])
        canvas.text(x + canvas.px(20), top, canvas.words(9), letters, canvas.theme.ink)
