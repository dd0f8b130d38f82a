"""Rate-distortion plots, each narrow enough to be read on a telephone: curves, bytes and times beside an anchor."""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from dcae.eval.metrics import METRICS
from dcae.eval.rd.curves import Comparison, Curve, bpp_at

_OURS = ("#0b57d0", "#7b3fc4", "#0a8f8f", "#b01060")
_RIVALS = (
    "#d9480f", "#f59f00", "#2b8a3e", "#862e9c", "#5c940d", "#495057", "#a61e4d", "#087f5b", "#845ef7", "#c2255c",
    "#1098ad", "#9c6644", "#e8590c", "#364fc7", "#74b816", "#f06595",
)  # fmt: skip
_PUBLISHED = "#868e96"
_MOST_BPP = 2.0
_PERCENT = (-50.0, 100.0)
"""Visible range of bytes relative to the anchor."""
_WIDTH = 5.4
"""Inches of every plot: 390 pixels wide, its text is still some 9 pixels high."""
_GRID = "#e9ecef"


@dataclass(frozen=True)
class Line:
    """A curve and how it is drawn."""

    label: str
    curve: Curve
    ours: bool = False
    published: bool = False


@dataclass(frozen=True)
class Point:
    """A codec in a plot over time."""

    family: str
    """Points of one family are joined, and named together."""
    effort: str
    """Name of the point on its family's line; may be empty."""
    seconds: float
    """CPU seconds per megapixel."""
    percent: float
    """BD-rate over the anchor."""
    ours: bool = False


_LETTERS = 60
"""Most letters side by side in a legend, without the lines before them."""


def _figure(height: float, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    # A title is no wider than the whole figure, at whose left edge it begins.
    figure.suptitle(textwrap.fill(title, 70), fontsize=10, x=0.01, ha="left")
    axes.grid(color=_GRID)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(figure: Figure, count: int) -> None:
    lengths = [len(label) for label in figure.axes[0].get_legend_handles_labels()[1]]
    if not lengths:  # nothing could be drawn: no quality in common
        return
    columns = min(3, count)
    while columns > 1 and sum(max(column, default=0) for column in np.array_split(lengths, columns)) > _LETTERS:
        columns -= 1
    figure.legend(loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def _styles(lines: Sequence[Line]) -> list[dict[str, Any]]:
    colours = _colours([line.label for line in lines if not line.published], {n.label for n in lines if n.ours})
    found: list[dict[str, Any]] = []
    for line in lines:
        if line.published:
            found.append({"color": _PUBLISHED, "linestyle": (0, (4, 3)), "linewidth": 0.9, "zorder": 1})
        elif line.ours:
            found.append(
                {"color": colours[line.label], "linewidth": 2.6, "marker": "o", "markersize": 4.5, "zorder": 4}
            )
        else:
            found.append({"color": colours[line.label], "linewidth": 1.3, "marker": ".", "markersize": 4, "zorder": 3})
    return found


def _colours(labels: Iterable[str], ours: Container[str]) -> dict[str, str]:
    mine, theirs = itertools.cycle(_OURS), itertools.cycle(_RIVALS)
    return {label: next(mine if label in ours else theirs) for label in labels}


def _ours(lines: Sequence[Line]) -> Curve:
    """The points that decide what is visible: ours, or all."""
    return [p for line in lines if line.ours for p in line.curve] or [p for line in lines for p in line.curve]


def rate_distortion(lines: Sequence[Line], metric: str) -> Figure:
    """Curves of measured and published codecs over bits per pixel."""
    label = METRICS[metric].label
    figure, axes = _figure(5.6, f"{label} over bits per pixel: higher and to the left is better")
    for line, style in zip(lines, _styles(lines), strict=True):
        name = None if line.published else line.label
        axes.plot([p[0] for p in line.curve], [p[1] for p in line.curve], label=name and _plain(name), **style)
    if any(line.published for line in lines):
        axes.plot([], [], color=_PUBLISHED, linestyle=(0, (4, 3)), linewidth=0.8, label="published by others")
    if ours := _ours(lines):
        _curve_axes(axes, label, ours, lines)
    _legend(figure, len(lines))
    return figure


def relative_bytes(lines: Sequence[Line], anchor: str, metric: str) -> Figure:
    """Bytes that each codec needs relative to the anchor for the same value of the metric, over that value."""
    label = METRICS[metric].label
    over = next(line.curve for line in lines if line.label == anchor)
    figure, axes = _figure(
        5.6, f"Bytes relative to {_plain(anchor)} at equal {label.split(' (')[0]}: below the line is better"
    )
    ours = _ours(lines)
    low, high = min(p[1] for p in ours), max(p[1] for p in ours)
    names: list[tuple[float, float, str]] = []
    for line, style in zip(lines, _styles(lines), strict=True):
        if line.label != anchor and line.curve:
            needed = [(v, bpp_at(line.curve, v), bpp_at(over, v)) for v in np.linspace(low, high, 120)]
            percent = [(v, 100 * (a / b - 1)) for v, a, b in needed if a is not None and b is not None]
            style = {k: v for k, v in style.items() if not k.startswith("marker")}
            name = None if line.published else _plain(line.label)
            axes.plot([p[0] for p in percent], [p[1] for p in percent], label=name, **style)
            if line.published and percent:
                names.append((percent[-1][1], percent[-1][0], line.label))
    axes.axhline(0, color="#212529", linewidth=1, zorder=2)
    axes.set_ylim(*_PERCENT)
    axes.set_xlim(low, high + 0.32 * (high - low) * bool(names))
    _name_ends(axes, names)
    axes.set_xlabel(label)
    axes.set_ylabel(f"% bytes (more than {_PERCENT[1]:+.0f} is not shown)")
    _legend(figure, len(lines))
    return figure


def _name_ends(axes: Axes, ends: Iterable[tuple[float, float, str]]) -> None:
    """Names at the right ends of lines, moved apart where they would overlap."""
    gap = 0.032 * (_PERCENT[1] - _PERCENT[0])
    place = -math.inf
    for y, x, label in sorted(ends):
        if not _PERCENT[0] < y < _PERCENT[1]:
            continue
        place = max(y, place + gap)
        short = label.split(",")[0].split(" (")[0]
        axes.annotate(
            _plain(short), (x, y), (axes.get_xlim()[1], place), ha="right", va="center", fontsize=7, color=_PUBLISHED,
            arrowprops={"arrowstyle": "-", "color": "#ced4da", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def _curve_axes(axes: Axes, label: str, ours: Curve, lines: Sequence[Line]) -> None:
    axes.set_xscale("log")
    low = min(p[0] for p in ours) * 0.7
    high = max(min(_MOST_BPP, max(p[0] for p in ours) * 1.25), low * 2)
    axes.set_xlim(low, high)
    inside = [p[1] for line in lines for p in line.curve if low <= p[0] <= high] or [p[1] for p in ours]
    least = min(p[1] for p in ours) - 0.15 * (max(p[1] for p in ours) - min(p[1] for p in ours))
    axes.set_ylim(max(min(inside), least), max(inside) + 0.02 * (max(inside) - min(inside)))
    axes.set_xticks([t for t in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2) if low <= t <= high])
    _plain_ticks(axes)
    axes.set_xlabel("bits per pixel of the whole file")
    axes.set_ylabel(label)


def _plain_ticks(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def over_time(points: Sequence[Point], anchor: str, doing: str, metric: str) -> Figure:
    """BD-rate over CPU time: codecs that differ in effort only are one line, so that none is a flattering point.

    Args:
        anchor: what the BD-rates are over; it is among the points, at 0.
        doing: "encoding" or "decoding".
    """
    name = METRICS[metric].label.split(" (")[0]
    title = f"Bytes over {_plain(anchor)} ({name} BD-rate) and CPU time of {doing}: lower left is better"
    figure, axes = _figure(5.2, title)
    families = list(dict.fromkeys(p.family for p in points))
    colours = _colours(families, {p.family for p in points if p.ours})
    for family in families:
        _family(axes, sorted((p for p in points if p.family == family), key=lambda p: p.seconds), colours[family])
    axes.axhline(0, color="#212529", linewidth=1, zorder=2)
    axes.set_ylim(max(min((p.percent for p in points), default=0) - 8, -100), _PERCENT[1])
    axes.set_xscale("log")
    axes.margins(x=0.12)
    _plain_ticks(axes)
    axes.set_xlabel(f"CPU seconds per megapixel, {doing}")
    beyond = any(p.percent > _PERCENT[1] for p in points)
    axes.set_ylabel("BD-rate (%)" + (f", triangles: above {_PERCENT[1]:+.0f}" if beyond else ""))
    _legend(figure, len(families))
    return figure


def _family(axes: Axes, points: Sequence[Point], colour: str) -> None:
    """A line through points by rising time, each with its effort's name if there are several."""
    style: dict[str, Any] = {"color": colour, "marker": "o", "linewidth": 1.3, "markersize": 5, "zorder": 3}
    if any(p.ours for p in points):
        style |= {"markersize": 9, "marker": "*", "linewidth": 2.6, "zorder": 4}
    shown = [p for p in points if p.percent <= _PERCENT[1]]
    axes.plot([p.seconds for p in shown], [p.percent for p in shown], label=_plain(points[0].family), **style)
    beyond = [p.seconds for p in points if p.percent > _PERCENT[1]]
    if beyond:  # an empty artist that is not clipped would confuse the layout
        axes.plot(beyond, [_PERCENT[1]] * len(beyond), color=colour, marker="^", linestyle="", clip_on=False)
    for p in shown if len(points) > 1 else ():
        axes.annotate(
            _plain(p.effort), (p.seconds, p.percent), (0, 6), textcoords="offset points", ha="center", fontsize=7,
            color=colour,
        )  # fmt: skip


def per_picture(
    comparisons: Mapping[str, Comparison], labels: Sequence[str], ours: Container[str], anchor: str, metric: str
) -> Figure:
    """BD-rate of every picture by itself, a line of points per picture, sorted by the first codec's.

    Args:
        comparisons: by label, of one metric; those without pictures are left out.
        labels: of all codecs, as in the curves' plot, for the same colours.
        ours: labels of our own models.
    """
    shown = {label: c for label, c in comparisons.items() if c.per_picture}
    first = (next(iter(shown.values())).per_picture if shown else None) or {}
    names = sorted({n for c in shown.values() for n in c.per_picture or ()}, key=lambda n: (first.get(n, math.inf), n))
    title = f"BD-rate over {_plain(anchor)} of each picture by itself, {METRICS[metric].label}: left of 0 is better"
    figure, axes = _figure(1.9 + 0.19 * max(6, len(names)), title)
    colours = _colours(labels, ours)
    for label, c in shown.items():
        points = [(k, v) for k, name in enumerate(names) if (v := (c.per_picture or {}).get(name)) is not None]
        size, front = (7, 3) if label in ours else (4, 2)
        style: dict[str, Any] = {"markersize": size, "color": colours[label], "zorder": front, "linestyle": ""}
        inside = [p for p in points if p[1] <= _PERCENT[1]]
        beyond = [p[0] for p in points if p[1] > _PERCENT[1]]
        axes.plot([p[1] for p in inside], [p[0] for p in inside], marker="o", label=_plain(label), **style)
        if beyond:
            axes.plot([_PERCENT[1]] * len(beyond), beyond, marker=">", clip_on=False, **style)
    axes.axvline(0, color="#212529", linewidth=1)
    axes.set_yticks(range(len(names)), [_plain(_short(n)) for n in names], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel(f"BD-rate (%); triangles: above {_PERCENT[1]:+.0f}")
    axes.set_xlim(max(axes.get_xlim()[0], -100), min(axes.get_xlim()[1], _PERCENT[1]))
    _legend(figure, len(shown))
    return figure


def _short(name: str) -> str:
    """Beginning of a picture's name, no longer than leaves room for the points."""
    stem = name.rsplit(".", 1)[0]
    return stem if len(stem) <= 22 else stem[:21] + "…"


def _plain(text: str) -> str:
    """Names are not mathematics."""
    return text.replace("$", r"\$")


def to_svg(figure: Figure) -> bytes:
    """The same bytes for the same figure, text as paths."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "dcae"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def to_png(figure: Figure) -> bytes:
    """PNG of a figure, at 130 dots per inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()
