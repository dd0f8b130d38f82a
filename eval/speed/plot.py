"""Time and memory over picture size, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dcae.eval.speed.results import AVIF, DIRECTIONS, OURS, PAPER, TORCH, Measurement, Results
from dcae.eval.speed.stages import AROUND, STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {OURS: "#0b5fa5", TORCH: "#6fa8d6", AVIF: "#c0561a", PAPER: "#5b5b5b"}
_NAMES = {OURS: "DCAE {model}", TORCH: "the same by torch", AVIF: "AVIF", PAPER: "DCAE paper"}
_MARKERS = {OURS: "o", TORCH: "D", AVIF: "s", PAPER: "^"}
_STAGE_COLOURS = dict(
    zip(STAGES, ("#9ecae1", "#0b5fa5", "#2f9e77", "#e0a526", "#c0561a", "#bdbdbd", "#d4b9da"), strict=True)
)
_TITLES = {"encode": "Encoding", "decode": "Decoding"}
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "dcae",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
}


def plot(results: Results, kind: str) -> bytes:
    """A picture of type "svg" or "png": a row per direction, in it time, peak memory and stages over size.

    The same results give the same bytes (with the same matplotlib).
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(12, 7.2), layout="constrained")
        axes = figure.subplots(2, 3, sharex="col", width_ratios=(1.15, 1.15, 1))
        for column in (1, 2):
            axes[1, column].sharey(axes[0, column])
        for row, direction in zip(axes, DIRECTIONS, strict=True):
            _seconds(row[0], results, direction)
            _memory(row[1], results, direction)
            _stages(row[2], results, direction)
        for axis in axes[1]:
            axis.set_xlabel("megapixels")
        about = results.environment
        figure.suptitle(f"{about['model']} at quality {about['quality']}, {about['processor']}", fontsize=10)
        handles, names = _stage_legend(axes[:, 2])
        figure.legend(handles, names, loc="outside lower right", ncols=len(names), frameon=False)
        buffer = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=130, metadata=metadata)
    return buffer.getvalue()


def _name(codec: str, results: Results) -> str:
    return _NAMES[codec].format(model=results.environment["model"].split(" ")[0])


def _lines(axis: Axes, results: Results, direction: str, value: str) -> None:
    """A line per codec and number of threads, the most threads solid; the codec's name where its lines end."""
    threads = results.threads
    ends: list[tuple[float, float, str, str]] = []
    for codec in results.labels:
        furthest: tuple[float, float] = (0.0, 0.0)
        for t in threads:
            found = [m for m in results.find(codec, t, direction) if getattr(m, value) is not None]
            if not found:
                continue
            most = t == threads[-1]
            x, y = [m.megapixels for m in found], [getattr(m, value) for m in found]
            axis.plot(
                x, y, color=_COLOURS[codec], marker=_MARKERS[codec], markersize=4.5, linewidth=1.6,
                linestyle="-" if most else "--", markerfacecolor=_COLOURS[codec] if most else "white",
            )  # fmt: skip
            if x[-1] >= furthest[0]:
                furthest = (x[-1], y[-1])
        if furthest[0]:
            ends.append((*furthest, _name(codec, results), _COLOURS[codec]))
    for x_end, y_end, name, colour in ends:
        axis.annotate(name, (x_end, y_end), xytext=(7, 0), textcoords="offset points", color=colour, va="center")
    _scales(axis, sorted({m.megapixels for m in results.measurements}))


def _scales(axis: Axes, sizes: list[float]) -> None:
    """Logarithmic axes, the lower one marked at the sizes themselves as far as they leave each other room."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(sizes[0] / 1.5, sizes[-1] * 6)  # room for the names
    marked: list[float] = []
    for size in sizes:
        if not marked or size >= 1.6 * marked[-1]:
            marked.append(size)
    axis.set_xticks(marked, [f"{size:.2g}" for size in marked])
    axis.xaxis.set_minor_locator(NullLocator())
    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(which="major", color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _seconds(axis: Axes, results: Results, direction: str) -> None:
    threads = results.threads
    _lines(axis, results, direction, "seconds")
    axis.set_title(f"{_TITLES[direction]}: seconds per picture")
    if len(threads) > 1:
        from matplotlib.lines import Line2D

        keys = [
            Line2D([], [], color="#444444", linestyle="-" if t == max(threads) else "--", label=_threads(t))
            for t in reversed(threads)
        ]
        axis.legend(handles=keys, loc="lower right", frameon=False)
    else:
        axis.text(0.97, 0.05, _threads(threads[0]), transform=axis.transAxes, ha="right")


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _memory(axis: Axes, results: Results, direction: str) -> None:
    _lines(axis, results, direction, "peak")
    axis.set_title(f"{_TITLES[direction]}: peak memory of the process (MiB)")


def _stages(axis: Axes, results: Results, direction: str) -> None:
    """Stacked bars of ours: seconds per megapixel, so that equal heights mean growth in proportion to the size."""
    # As many threads as possible, unless fewer were measured at more sizes.
    threads = max(results.threads, key=lambda t: (len(results.find(OURS, t, direction)), t))
    found = results.find(OURS, threads, direction)
    bottom = [0.0] * len(found)
    for stage in STAGES:
        heights = [_per_megapixel(m, stage) for m in found]
        if any(heights):
            axis.bar(
                range(len(found)), heights, 0.72, bottom, color=_STAGE_COLOURS[stage],
                label=_stage_name(stage),
            )  # fmt: skip
            bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    axis.set_xticks(range(len(found)), [f"{m.megapixels:.2g}" for m in found])
    axis.set_title(f"{_TITLES[direction]}, {_name(OURS, results)}: s per MP, {_threads(threads)}")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)


def _stage_legend(axes: Iterable[Axes]) -> tuple[list[Any], list[str]]:
    """Every stage that is drawn anywhere, once, in the order of stacking."""
    by_name: dict[str, Any] = {}
    for axis in axes:
        handles, names = axis.get_legend_handles_labels()
        by_name |= dict(zip(names, handles, strict=True))
    order = [_stage_name(stage) for stage in STAGES if _stage_name(stage) in by_name]
    return [by_name[name] for name in order], order


def _stage_name(stage: str) -> str:
    return f"{stage} file" if stage in AROUND else stage


def _per_megapixel(m: Measurement, stage: str) -> float:
    return m.stages.get(stage, 0.0) / m.megapixels
