"""Pictures of text: pages, headlines, source code."""

from __future__ import annotations

import math

from dcae.train.drawn.canvas import Canvas, hsv, mixed
from dcae.train.drawn.fonts import Font

_KEYWORDS = (
    "if", "else", "for", "while", "return", "def", "class", "import", "from", "in", "not", "with", "try", "const",
)  # fmt: skip


def letter_width(letters: Font) -> float:
    """Mean width of a letter in pixels."""
    return max(1.0, letters.getlength("the quick brown fox") / 19)


def page(canvas: Canvas) -> None:
    """Paragraphs in one to three columns, with headings, links and marks, as in a book, a letter or on a web page."""
    theme, draw = canvas.theme, canvas.random
    columns = canvas.pick((1, 1, 1, 2, 3))
    width = canvas.width * draw.uniform(0.7, 2.0) / columns
    size = draw.choice((9, 10, 11, 12, 13, 14, 16, 18, 24))
    spacing = draw.uniform(1.1, 1.7)
    left = draw.uniform(-0.3, 0.15) * canvas.width
    for column in range(columns):
        x, y = left + column * width * 1.08, draw.uniform(-1.0, 1.5) * size
        while y < canvas.height and x < canvas.width:
            if canvas.chance(0.2):
                heading = canvas.font(size * draw.uniform(1.2, 2.0))
                canvas.text(x, y, canvas.words(draw.randint(8, 30)), heading, canvas.pick((theme.ink, canvas.accent())))
                y += 1.6 * heading.getbbox("Hg")[3]
            y += _paragraph(canvas, x, y, width, size, spacing) + canvas.px(size * draw.uniform(0.4, 1.2))


def _paragraph(canvas: Canvas, x: float, y: float, width: float, size: float, spacing: float) -> float:
    """Lines of a width in pixels; returns their height."""
    letters = canvas.font(size)
    step = canvas.px(size) * spacing
    fit = width / letter_width(letters)
    first = max(0, math.floor(-x / letter_width(letters)))
    lines = canvas.random.randint(2, 9)
    ink = canvas.theme.ink if canvas.chance(0.8) else canvas.theme.faint
    for line in range(lines):
        top = y + line * step
        if not -step < top < canvas.height:
            continue
        share = canvas.random.uniform(0.9, 1.0) if line < lines - 1 else canvas.random.uniform(0.2, 0.9)
        # Only what is seen is set: a line may be several times as long as the picture is wide.
        seen = int(min(fit * share, first + canvas.width / letter_width(letters) + 2)) - first
        if seen < 1:
            continue
        at = x + first * letter_width(letters)
        if canvas.chance(0.04):
            canvas.box(
                at, top, seen * letter_width(letters) * 0.6, step, mixed(canvas.theme.ground, canvas.accent(), 0.4)
            )
        canvas.text(at, top, canvas.words(seen), letters, canvas.accent() if canvas.chance(0.06) else ink)
    return lines * step


def headline(canvas: Canvas) -> None:
    """A few large words over a plain ground, a gradient or a photograph, sometimes outlined, as on posters."""
    draw = canvas.random
    if canvas.photograph is not None and canvas.chance(0.5):
        canvas.fill()
    elif canvas.chance(0.5):
        canvas.paste(canvas.gradient(canvas.width, canvas.height), 0, 0)
    else:
        canvas.box(0, 0, canvas.width, canvas.height, canvas.colour())
    y = draw.uniform(-0.1, 0.3) * canvas.height
    while y < canvas.height:
        size = draw.uniform(16, 0.4 * canvas.height / canvas.unit)
        letters = canvas.font(size)
        colour = canvas.pick(((255, 255, 255), (0, 0, 0), canvas.colour(), canvas.colour()))
        x = draw.uniform(-0.2, 0.4) * canvas.width
        words = canvas.words(draw.randint(3, 16))
        if canvas.chance(0.15):
            canvas.draw.text((x, y), words, colour, letters, stroke_width=canvas.px(2), stroke_fill=canvas.colour())
        else:
            canvas.text(x, y, words, letters, colour)
        y += canvas.px(size) * draw.uniform(1.1, 2.0)


def code(canvas: Canvas) -> None:
    """Source code in an editor or output in a terminal: coloured words, line numbers, a selection, a current line."""
    theme, draw = canvas.theme, canvas.random
    size = draw.choice((10, 11, 12, 13, 14, 16))
    letters = canvas.font(size, canvas.fixed_width)
    wide, step = letter_width(letters), round(canvas.px(size) * draw.uniform(1.2, 1.6))
    gutter = int(4.5 * wide) if canvas.chance(0.7) else canvas.px(4)
    colours = [hsv(draw.random(), draw.uniform(0.3, 0.8), 0.9 if theme.dark else 0.5) for _ in range(4)]
    current, number, indent = draw.randrange(12), draw.randrange(900), 0
    canvas.box(0, 0, gutter - wide / 2, canvas.height, theme.panel)
    for line in range(canvas.height // step + 1):
        y = line * step
        if line == current:
            canvas.box(gutter - wide / 2, y, canvas.width, step, mixed(theme.ground, theme.ink, 0.08))
        if gutter > 3 * wide:
            canvas.text(wide * 0.5, y, f"{number + line:3d}", letters, theme.faint)
        if canvas.chance(0.12):
            continue
        indent = min(max(indent + draw.choice((-1, 0, 0, 1)), 0), 5)
        x = gutter + 4 * indent * wide
        if canvas.chance(0.12):
            canvas.text(x, y, "# " + canvas.words(draw.randint(10, 50)), letters, theme.faint)
            continue
        if canvas.chance(0.03):
            canvas.box(x, y, wide * draw.randint(3, 30), step, mixed(theme.ground, (60, 120, 255), 0.4))
        for _ in range(draw.randint(1, 6)):
            token, colour = _token(canvas)
            canvas.text(x, y, token, letters, theme.ink if colour is None else colours[colour])
            x += wide * (len(token) + draw.choice((0, 1, 1, 1)))
            if x > canvas.width:
                break


def _token(canvas: Canvas) -> tuple[str, int | None]:
    """A piece of source code and which colour it has."""
    kind = canvas.random.random()
    if kind < 0.25:
        return canvas.pick(_KEYWORDS), 0
    if kind < 0.4:
        return '"' + canvas.words(canvas.random.randint(3, 16)) + '"', 1
    if kind < 0.5:
        return canvas.number(), 2
    if kind < 0.7:
        return canvas.pick(("=", "(", ")", "[i]", "{", "}", "+=", "->", "==", ":", ";", "()", "&&")), None
    return canvas.words(canvas.random.randint(3, 10)).replace(" ", "_") + canvas.pick(("", "", "(")), 3
