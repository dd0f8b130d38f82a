"""Flat colours, line drawings, checkerboards, gradients, logos, pixel art and dithered pictures."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from dcae.train.drawn.canvas import Canvas, Colour, mixed


def flat(canvas: Canvas) -> None:
    """A few plain shapes of any colour on a plain ground, as in clip art and flags; sometimes only the ground."""
    draw = canvas.random
    canvas.box(0, 0, canvas.width, canvas.height, canvas.colour())
    for _ in range(draw.choice((0, 1, 2, 4, 8, 16))):
        _shape(canvas.draw, canvas, canvas.colour(), canvas.chance(0.2))


def _shape(draw: ImageDraw.ImageDraw, canvas: Canvas, colour: Colour | tuple[int, ...], outlined: bool) -> None:
    numbers, big = canvas.random, max(canvas.width, canvas.height)
    x, y, size = numbers.uniform(-0.1, 1) * canvas.width, numbers.uniform(-0.1, 1) * canvas.height, 0.0
    size = big * 0.03 * 20 ** numbers.random()
    height = size * numbers.uniform(0.3, 1.5)
    corners = tuple(round(v) for v in (x, y, x + size, y + height))
    line = canvas.px(numbers.choice((1, 2, 4, 8)))
    fill, outline = (None, colour) if outlined else (colour, None)
    kind = numbers.randrange(5)
    if kind == 0:
        draw.rectangle(corners, fill, outline, line)
    elif kind == 1:
        draw.ellipse(corners, fill, outline, line)
    elif kind == 2:
        # Corners need room: Pillow refuses those of a shape hardly larger than its line.
        draw.rounded_rectangle(
            corners, size / 6 if min(size, height) > size / 3 + 2 * line + 4 else 0, fill, outline, line
        )
    elif kind == 3:
        turn, points = numbers.random() * 7, numbers.choice((3, 5, 6, 10, 16))
        inner = numbers.uniform(0.4, 1.0)
        draw.polygon(
            [
                (x + size * (inner if k % 2 else 1) * math.cos(turn + 2 * math.pi * k / points) / 2,
                 y + size * (inner if k % 2 else 1) * math.sin(turn + 2 * math.pi * k / points) / 2)
                for k in range(points)
            ],
            fill, outline, line,
        )  # fmt: skip
    else:
        draw.pieslice(corners, numbers.uniform(0, 360), numbers.uniform(0, 360), fill, outline, line)


def line_art(canvas: Canvas) -> None:
    """Curves, straight lines, hatching and outlines, thin or bold, as in drawings, plans and maps."""
    numbers, look = canvas.random, canvas.theme
    single, thin = canvas.chance(0.6), canvas.px(numbers.choice((1, 1, 1.5, 2, 3)))
    for _ in range(numbers.choice((3, 8, 20, 40))):
        colour = look.ink if single else canvas.accent()
        x, y = numbers.uniform(-0.1, 1.1) * canvas.width, numbers.uniform(-0.1, 1.1) * canvas.height
        kind = numbers.randrange(5)
        if kind == 0:
            canvas.draw.line(
                (x, y, numbers.uniform(-0.1, 1.1) * canvas.width, numbers.uniform(-0.1, 1.1) * canvas.height),
                colour,
                thin,
            )
        elif kind == 1:
            canvas.draw.line(_curve(canvas, x, y), colour, thin, joint="curve")
        elif kind == 2:
            _shape(canvas.draw, canvas, colour, True)
        elif kind == 3:
            turn, gap = numbers.random() * math.pi, canvas.px(numbers.uniform(3, 9))
            along = (math.cos(turn) * canvas.px(40), math.sin(turn) * canvas.px(40))
            for k in range(numbers.randint(4, 20)):
                a, b = x - math.sin(turn) * gap * k, y + math.cos(turn) * gap * k
                canvas.draw.line((a, b, a + along[0], b + along[1]), colour, thin)
        else:
            canvas.draw.arc(
                (x, y, x + canvas.px(60), y + canvas.px(60)),
                numbers.uniform(0, 360),
                numbers.uniform(0, 360),
                colour,
                thin,
            )


def _curve(canvas: Canvas, x: float, y: float) -> list[tuple[float, float]]:
    """A line that bends as a hand's does."""
    turn, bend, points = canvas.random.random() * 7, 0.0, []
    step = canvas.px(4)
    for _ in range(canvas.random.choice((15, 40, 80))):
        points.append((x, y))
        bend = 0.9 * bend + canvas.random.gauss(0, 0.06)
        turn += bend
        x, y = x + step * math.cos(turn), y + step * math.sin(turn)
    return points


def regular(canvas: Canvas) -> None:
    """Checkerboards, stripes, dots, bricks and rings, coarse or as fine as one pixel."""
    numbers = canvas.random
    rows, columns = np.arange(canvas.height)[:, None], np.arange(canvas.width)[None]
    cell = max(1, round(canvas.unit * numbers.choice((1, 2, 3, 4, 5, 8, 12, 16, 24, 32, 50))))
    down, right = (rows + numbers.randrange(50)) // cell, (columns + numbers.randrange(50)) // cell
    kind = numbers.randrange(6)
    if kind == 0:
        chosen = down + right
    elif kind == 1:
        chosen = down + 0 * right
    elif kind == 2:
        chosen = (rows + numbers.choice((1, 2, -1)) * columns) // cell
    elif kind == 3:
        chosen = 1 * (
            np.hypot(rows % (2 * cell) - cell, columns % (2 * cell) - cell) < cell * numbers.uniform(0.3, 1.0)
        )
    elif kind == 4:
        joint = (rows % (cell + 2) == 0) | ((columns + cell * (rows // (cell + 2) % 2)) % (2 * cell + 2) == 0)
        chosen = joint * 1
    else:
        middle = numbers.random() * canvas.height, numbers.random() * canvas.width
        chosen = (np.hypot(rows - middle[0], columns - middle[1]) / cell).astype(int)
    first = canvas.colour()
    colours = [first, mixed(first, canvas.colour(), numbers.choice((0.1, 0.5, 1.0)))]
    if canvas.chance(0.3):
        colours = [(0, 0, 0), (255, 255, 255)]
    if canvas.chance(0.2):
        colours.append(canvas.colour())
    canvas.paste(np.array(colours, np.uint8)[chosen % len(colours)], 0, 0)


def gradients(canvas: Canvas) -> None:
    """One gradient, or several in bands or cells, as in skies, colour charts and pickers of colours."""
    numbers = canvas.random
    canvas.paste(canvas.gradient(canvas.width, canvas.height), 0, 0)
    if canvas.chance(0.3):
        count = numbers.randint(2, 6)
        for k in range(count):
            top = canvas.height * k // count
            canvas.paste(canvas.gradient(canvas.width, canvas.height * (k + 1) // count - top), 0, top)
    elif canvas.chance(0.3):
        hue, saturation = np.linspace(0, 255, canvas.width), np.linspace(0, 255, canvas.height)
        value = numbers.randint(80, 255)
        planes = [
            np.broadcast_to(hue, (canvas.height, canvas.width)),
            np.broadcast_to(saturation[:, None], (canvas.height, canvas.width)),
        ]
        cube = np.stack([*planes, np.full((canvas.height, canvas.width), value)], -1).astype(np.uint8)
        canvas.image.paste(Image.frombytes("HSV", (canvas.width, canvas.height), cube.tobytes()).convert("RGB"))
    if canvas.chance(0.3):
        _shape(canvas.draw, canvas, canvas.colour(), False)


def logo(canvas: Canvas) -> None:
    """Soft-edged shapes and a word with transparency, laid over a plain ground."""
    if canvas.chance(0.6):
        canvas.box(0, 0, canvas.width, canvas.height, canvas.pick(((255, 255, 255), (0, 0, 0), canvas.colour())))
    # Twice as large and then reduced: its edges are smooth in the transparency.
    double = Canvas(
        canvas.random.getrandbits(32), 2 * canvas.width, 2 * canvas.height, 2 * canvas.unit, canvas.typefaces
    )
    layer = Image.new("RGBA", (double.width, double.height))
    draw = ImageDraw.Draw(layer)
    for _ in range(canvas.random.randint(1, 5)):
        _shape(draw, double, (*canvas.accent(), canvas.random.choice((255, 255, 200, 128, 60))), canvas.chance(0.3))
    if canvas.chance(0.7):
        place = (canvas.random.uniform(0, 1.2) * canvas.width, canvas.random.uniform(0, 1.6) * canvas.height)
        letters = double.font(canvas.random.uniform(14, 60))
        draw.text(place, canvas.words(canvas.random.randint(2, 10)), (*canvas.theme.ink, 255), letters)
    layer = layer.reduce(2)
    canvas.image.paste(layer, (0, 0), layer)


def pixel_art(canvas: Canvas) -> None:
    """Blocks of one colour each: small symbols enlarged without interpolation, mirrored as in old games."""
    numbers, block = canvas.random, canvas.px(canvas.random.choice((2, 3, 4, 6, 8)))
    rows, columns = canvas.height // block + 1, canvas.width // block + 1
    colours = np.array([canvas.colour() for _ in range(numbers.randint(3, 8))], np.uint8)
    cells = np.zeros((rows, columns), np.uint8)
    figure = numbers.choice((6, 8, 12))
    for top in range(0, rows, figure + 1):
        for left in range(0, columns, figure + 1):
            half = [
                [numbers.randrange(len(colours)) * (numbers.random() < 0.6) for _ in range(figure // 2)]
                for _ in range(figure)
            ]
            whole = np.array(half, np.uint8)
            whole = np.concatenate([whole, whole[:, ::-1]], 1)
            room = cells[top : top + figure, left : left + figure]
            room[:] = whole[: room.shape[0], : room.shape[1]]
    large = colours[np.repeat(np.repeat(cells, block, 0), block, 1)]
    canvas.paste(np.ascontiguousarray(large[: canvas.height, : canvas.width]), 0, 0)


def photograph(canvas: Canvas) -> None:
    """A photograph, which is then reduced to few colours (:func:`dithered`); a gradient where there is none."""
    canvas.fill()


def _bayer(side: int) -> np.ndarray:
    matrix = np.zeros((1, 1))
    while len(matrix) < side:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return ((matrix + 0.5) / matrix.size - 0.5).astype(np.float32)


def dithered(canvas: Canvas) -> Image.Image:
    """The picture in few colours: ordered or by diffusion of the error, black and white or of a palette."""
    numbers, image = canvas.random, canvas.image
    kind = numbers.random()
    if kind < 0.4:
        levels, pattern = numbers.choice((2, 2, 3, 4, 6)), _bayer(numbers.choice((2, 4, 8)))
        pixels = np.asarray(image.convert("L").convert("RGB") if canvas.chance(0.3) else image, np.float32)
        threshold = np.tile(pattern, (canvas.height // len(pattern) + 1, canvas.width // len(pattern) + 1))
        scaled = pixels / 255 * (levels - 1) + threshold[: canvas.height, : canvas.width, None]
        return Image.fromarray((np.clip(np.round(scaled), 0, levels - 1) * (255 / (levels - 1))).astype(np.uint8))
    if kind < 0.6:
        return image.convert("1").convert("RGB")
    palette = image.quantize(numbers.choice((4, 8, 16, 32, 64)), Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    if kind < 0.85:
        palette = image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    return palette.convert("RGB")
