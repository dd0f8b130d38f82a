"""Rate-distortion plots: curves, bytes relative to an anchor, and every picture's own BD-rate."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from dcae.eval.metrics import METRICS
from dcae.eval.summary import Comparison, Curve, bpp_at

_OURS = ("#0b57d0", "#7b3fc4", "#0a8f8f", "#b01060")
_RIVALS = ("#d9480f", "#f59f00", "#2b8a3e", "#862e9c", "#5c940d", "#495057", "#a61e4d", "#087f5b", "#845ef7", "#c2255c")
_PUBLISHED = "#868e96"
_MOST_BPP = 2.0
_PERCENT = (-50.0, 100.0)
"""What is visible of bytes relative to the anchor."""


@dataclass(frozen=True)
class Line:
    """A curve and how it is drawn."""

    label: str
    curve: Curve
    ours: bool = False
    published: bool = False


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


def _colours(labels: Sequence[str], ours: Container[str]) -> dict[str, str]:
    mine, theirs = itertools.cycle(_OURS), itertools.cycle(_RIVALS)
    return {label: next(mine if label in ours else theirs) for label in labels}


def rate_distortion(lines: Sequence[Line], anchor: str | None, metric: str) -> Figure:
    """Left the curves; right the bytes that each needs relative to the anchor for the same value of the metric.

    Args:
        lines: measured and published ones.
        anchor: label of one of them, or None for the curves alone.
    """
    over = next((line.curve for line in lines if line.label == anchor), None)
    figure = Figure(figsize=(12 if over else 6.5, 5.2), layout="constrained")
    left, *rest = figure.subplots(1, 2 if over else 1, squeeze=False)[0]
    label = METRICS[metric].label
    ours = [p for line in lines if line.ours for p in line.curve] or [p for line in lines for p in line.curve]
    for line, style in zip(lines, _styles(lines), strict=True):
        name = None if line.published else line.label
        left.plot([p[0] for p in line.curve], [p[1] for p in line.curve], label=name and _plain(name), **style)
    if any(line.published for line in lines):
        left.plot([], [], color=_PUBLISHED, linestyle=(0, (4, 3)), linewidth=0.8, label="published by others")
    if ours:
        _curve_axes(left, label, ours, lines)
    if over and ours:
        _relative(rest[0], lines, over, str(anchor), label, (min(p[1] for p in ours), max(p[1] for p in ours)))
    figure.legend(loc="outside lower center", ncols=min(5, len(lines)), fontsize=8, frameon=False)
    return figure


def _relative(
    axes: Axes, lines: Sequence[Line], over: Curve, anchor: str, label: str, span: tuple[float, float]
) -> None:
    low, high = span
    values = np.linspace(low, high, 120)
    names: list[tuple[float, float, str]] = []
    hidden = ""
    for line, style in zip(lines, _styles(lines), strict=True):
        if line.label != anchor and line.curve:
            needed = [(v, bpp_at(line.curve, v), bpp_at(over, v)) for v in values]
            percent = [(v, 100 * (a / b - 1)) for v, a, b in needed if a is not None and b is not None]
            style = {k: v for k, v in style.items() if not k.startswith("marker")}
            if any(p[1] > _PERCENT[1] for p in percent):
                hidden = f" (more than {_PERCENT[1]:+.0f} % not shown)"
            axes.plot([p[0] for p in percent], [p[1] for p in percent], **style)
            if line.published and percent:
                names.append((percent[-1][1], percent[-1][0], line.label))
    axes.axhline(0, color="#212529", linewidth=1, zorder=2)
    axes.set_ylim(*_PERCENT)
    axes.set_xlim(low, high + 0.28 * (high - low) * bool(names))
    _name_ends(axes, names)
    axes.set_xlabel(label)
    axes.set_ylabel(f"bytes relative to {_plain(anchor)} (%)")
    axes.set_title(f"Bytes at equal quality: below the line is better{hidden}", fontsize=10, loc="left")
    axes.grid(color="#e9ecef")


def _name_ends(axes: Axes, ends: Iterable[tuple[float, float, str]]) -> None:
    """Names at the right ends of lines, moved apart where they would overlap."""
    gap = 0.028 * (_PERCENT[1] - _PERCENT[0])
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
    ticks = [t for t in (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2) if low <= t <= high]
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("bits per pixel of the whole file")
    axes.set_ylabel(label)
    axes.set_title("Rate and distortion: higher and to the left is better", fontsize=10, loc="left")
    axes.grid(color="#e9ecef")


def per_picture(
    comparisons: Mapping[str, Comparison], labels: Sequence[str], ours: Container[str], anchor: str, metric: str
) -> Figure:
    """BD-rate of every picture by itself, a column of points per codec, sorted by the first codec's.

    Args:
        comparisons: by label, of one metric; those without pictures are left out.
        labels: of all codecs, as in the curves' plot, for the same colours.
        ours: labels of our own models.
    """
    shown = {label: c for label, c in comparisons.items() if c.per_picture}
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    axes = figure.subplots()
    first = (next(iter(shown.values())).per_picture if shown else None) or {}
    names = sorted({n for c in shown.values() for n in c.per_picture or ()}, key=lambda n: (first.get(n, math.inf), n))
    colours = _colours(labels, ours)
    for label, c in shown.items():
        points = [(k, v) for k, name in enumerate(names) if (v := (c.per_picture or {}).get(name)) is not None]
        size, front = (7, 3) if label in ours else (4, 2)
        style: dict[str, Any] = {"markersize": size, "color": colours[label], "zorder": front, "linestyle": ""}
        inside = [p for p in points if p[1] <= _PERCENT[1]]
        above = [p[0] for p in points if p[1] > _PERCENT[1]]
        axes.plot([p[0] for p in inside], [p[1] for p in inside], marker="o", label=_plain(label), **style)
        axes.plot(above, [_PERCENT[1]] * len(above), marker="^", clip_on=False, **style)
    axes.axhline(0, color="#212529", linewidth=1)
    axes.set_xticks(
        range(len(names)), [_plain(n.rsplit(".", 1)[0]) for n in names], rotation=60, fontsize=7, ha="right"
    )
    axes.set_ylabel(f"BD-rate over {_plain(anchor)} (%)")
    title = f"Each picture by itself, {METRICS[metric].label}: below the line is better (triangles: beyond the top)"
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(color="#e9ecef")
    axes.set_ylim(max(axes.get_ylim()[0], -100), min(axes.get_ylim()[1], _PERCENT[1]))
    figure.legend(loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    return figure


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
    """At 130 dots per inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()
