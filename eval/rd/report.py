"""The report of a rate-distortion evaluation: what `dcae eval rd` writes beside its rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from dcae.errors import DCAEError
from dcae.eval.environment import environment
from dcae.eval.rd.crops import Strip, strip
from dcae.eval.rd.curves import (
    Comparison,
    averaged,
    bpp_at,
    compare,
    mean_curves,
    published_curve,
    to_compressai,
    to_text,
)
from dcae.eval.rd.measure import Contestant, open_codec
from dcae.eval.rd.plots import (
    Line,
    Point,
    over_time,
    per_picture,
    rate_distortion,
    relative_bytes,
    to_png,
    to_svg,
)
from dcae.eval.rd.published import PublishedCurve
from dcae.eval.rd.rows import Row
from dcae.eval.rd.times import Times, Variant, cpu_times, variants
from dcae.eval.rivals import RIVALS
from dcae.files import write_bytes

_CROP_BPP = (0.15, 0.4)
"""About what rate our files have that are shown side by side: a small and a middle one."""
_PACKAGES = ("numpy", "imagecodecs", "pyvips-binary", "pillow-heif", "imageio-ffmpeg", "bjontegaard")
DOING = {"encode": "encoding", "decode": "decoding"}


@dataclass
class Report:
    """All that the page, the plots and the README are made of."""

    rows: list[Row]
    contestants: list[Contestant]
    anchor: str
    metrics: list[str]
    published: list[PublishedCurve] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    """Every codec over the anchor; empty if the anchor was not measured."""
    versus: list[Comparison] = field(default_factory=list)
    """The first model of ours over every other codec, named by `codec`."""
    equal: list[dict[str, Any]] = field(default_factory=list)
    """Per quality of that model: bpp, PSNR and the percentage of bytes saved against each codec at this PSNR."""
    times: dict[str, Times] = field(default_factory=dict)
    """CPU time of every codec."""
    variants: list[Variant] = field(default_factory=list)
    """What settings gain or cost: codecs over the same codec with other settings."""
    environment: dict[str, str] = field(default_factory=dict)

    @cached_property
    def sampled(self) -> dict[str, int]:
        """Codecs that were measured on some pictures alone -> on how many."""
        sampled = [c.label for c in self.contestants if c.every > 1]
        return {label: len({row.picture for row in self.rows if row.codec == label}) for label in sampled}

    @property
    def whole(self) -> list[Row]:
        """Rows of the other codecs, which averages are of."""
        return [row for row in self.rows if row.codec not in self.sampled]

    @property
    def labels(self) -> dict[str, str]:
        """How every codec is called in plots and tables."""
        sampled = {label: f" ({count} pictures)" for label, count in self.sampled.items()}
        return {c.label: c.title + sampled.get(c.label, "") for c in self.contestants}

    @property
    def pictures(self) -> list[str]:
        return sorted({row.picture for row in self.rows})

    @property
    def measured(self) -> dict[str, list[str]]:
        """Day and processor (:attr:`Row.measured`) -> the codecs that have rows of then and there."""
        found: dict[str, set[str]] = {}
        for row in self.rows:
            found.setdefault(row.measured, set()).add(row.codec)
        return {when: sorted(codecs) for when, codecs in sorted(found.items())}

    @property
    def our_titles(self) -> set[str]:
        """What our models are called."""
        return {c.title for c in self.contestants if c.name == "dcae"}

    @property
    def ours(self) -> str | None:
        """The first model of ours, of those on all pictures if there is one."""
        ours = sorted((c for c in self.contestants if c.name == "dcae"), key=lambda c: c.every > 1)
        return ours[0].label if ours else None


def make_report(
    rows: Sequence[Row],
    contestants: Sequence[Contestant],
    anchor: str,
    metrics: Sequence[str],
    published: Sequence[PublishedCurve] = (),
) -> Report:
    """Averages and comparisons of rows that were measured.

    Args:
        anchor: label of a contestant; without rows of it there are no comparisons over it.
    """
    measured = {row.codec for row in rows}
    shown = [c for c in contestants if c.label in measured]
    made_with = {"date": datetime.now(timezone.utc).date().isoformat()} | environment(_PACKAGES)
    report = Report(list(rows), shown, anchor, list(metrics), list(published), environment=made_with)
    whole, ours = report.whole, report.ours

    def pair(label: str, other: str | None) -> list[Row]:
        return [row for row in rows if row.codec in (label, other)]

    if anchor in measured:
        report.comparisons = compare(whole, anchor, metrics, published)
        for label in report.sampled:
            report.comparisons += compare(pair(label, anchor), anchor, metrics)
    if ours is not None:
        others = [c.label for c in shown if c.label != ours]
        for metric in metrics:
            for label in others:
                (found,) = (x for x in compare(pair(label, ours), label, [metric]) if x.codec == ours)
                report.versus.append(replace(found, codec=label))
        report.equal = _equal_psnr(whole, ours, [label for label in others if label not in report.sampled])
    report.times = cpu_times(whole, ours)
    for label in report.sampled:
        report.times |= {k: v for k, v in cpu_times(pair(label, ours), ours).items() if k == label}
    report.variants = variants(rows, shown, metrics, ours)
    return report


def _equal_psnr(rows: Sequence[Row], ours: str, others: Sequence[str]) -> list[dict[str, Any]]:
    curves = averaged(rows, "psnr")
    found = []
    for point in mean_curves(rows).get(ours, ()):  # none where ours was measured on a sample
        saved = {}
        for name in others:
            theirs = bpp_at(curves[name], point["psnr"])
            saved[name] = None if theirs is None else 100 * (1 - point["bpp"] / theirs)
        found.append({"quality": point["quality"], "bpp": point["bpp"], "psnr": point["psnr"], "saved": saved})
    return found


def write_report(report: Report, folder: Path, pictures: Sequence[Path], progress: Callable[[str], None]) -> None:
    """Write curves/CODEC.json, bd-rate.txt, summary.json, plots (SVG and PNG) and index.html into `folder`.

    Args:
        pictures: files of the rows' pictures, for the crops.

    Raises:
        DCAEError: a file cannot be written.
    """
    from dcae.eval.rd.page import page  # here, so that a plain install measures without what writes pages

    (folder / "curves").mkdir(exist_ok=True)
    for codec, points in mean_curves(report.whole).items():
        write_bytes(str(folder / "curves" / f"{codec.replace(' ', '-')}.json"), to_compressai(codec, points).encode())
    if report.comparisons:
        text = to_text(report.comparisons, report.anchor)
        write_bytes(str(folder / "bd-rate.txt"), (text + "\n").encode())
    write_bytes(str(folder / "summary.json"), summary_json(report).encode())
    plots: dict[str, bytes] = {}
    for name, figure in _figures(report):
        plots[name] = to_svg(figure)
        write_bytes(str(folder / f"{name}.svg"), plots[name])
        write_bytes(str(folder / f"{name}.png"), to_png(figure))
    strips = _strips(report, pictures, progress)
    write_bytes(str(folder / "index.html"), page(report, plots, strips).encode())


def _figures(report: Report) -> list[tuple[str, Any]]:
    """Every plot with the name of its file."""
    found: list[tuple[str, Any]] = []
    over, left_out = report.labels.get(report.anchor), _other_efforts(report)
    for metric in report.metrics:
        curves = {codec: curve for codec, curve in averaged(report.whole, metric).items() if codec not in left_out}
        titles = [report.labels[codec] for codec in curves]
        lines = [Line(t, c, t in report.our_titles) for t, c in zip(titles, curves.values(), strict=True)]
        lines += [
            Line(p.name, curve, published=True) for p in report.published if (curve := published_curve(p, metric))
        ]
        found.append((f"rd-{metric}", rate_distortion(lines, metric)))
        if over is not None:
            if curves[report.anchor]:
                found.append((f"relative-{metric}", relative_bytes(lines, over, metric)))
            shown = {report.labels[c.codec]: c for c in report.comparisons if c.metric == metric and c.codec in curves}
            found.append((f"pictures-{metric}", per_picture(shown, titles, report.our_titles, over, metric)))
    if over is not None:
        for way, doing in DOING.items():
            found.append((f"time-{way}", over_time(_points(report, way), over, doing, report.metrics[0])))
    return found


def _other_efforts(report: Report) -> set[str]:
    """Models of ours that differ from an earlier one in effort only: their curves would hide each other, and plots over
    time have them."""
    ours = [c for c in report.contestants if c.name == "dcae"]
    return {c.label for k, c in enumerate(ours) if c.family in {other.family for other in ours[:k]}}


def _points(report: Report, way: str) -> list[Point]:
    """Every codec that has a BD-rate by the first metric, and the anchor; `way` is "encode" or "decode"."""
    percent = {c.codec: c.percent for c in report.comparisons if c.metric == report.metrics[0]} | {report.anchor: 0.0}
    found = []
    for c in report.contestants:
        value, times = percent.get(c.label), report.times.get(c.label)
        if value is not None and times is not None and getattr(times, way) > 0:
            effort = RIVALS[c.name].effort if c.name in RIVALS else str(c.effort)
            if c.label in report.sampled:
                effort += f" ({report.sampled[c.label]} pictures)"
            found.append(Point(c.family, effort, getattr(times, way), value, c.name == "dcae"))
    return found


def _strips(report: Report, pictures: Sequence[Path], progress: Callable[[str], None]) -> list[Strip]:
    """The best, the middle and the worst picture of our first model against the anchor, at two rates."""
    own = next((c for c in report.comparisons if c.codec == report.ours and c.metric == report.metrics[0]), None)
    if own is None or not own.per_picture:
        return []
    paths = {path.name: path for path in pictures}
    ranked = sorted((n for n in own.per_picture if n in paths), key=own.per_picture.__getitem__)
    places = {ranked[len(ranked) // 2]: "middle", ranked[-1]: "worst", ranked[0]: "best"} if ranked else {}
    order = [report.ours, report.anchor, *(c.label for c in report.contestants)]
    codecs = {c.label: c for c in sorted(_one_of_each_family(report), key=lambda c: order.index(c.label))}
    strips = []
    for name, place in sorted(places.items(), key=lambda p: ("best", "middle", "worst").index(p[1])):
        rows = [row for row in report.rows if row.picture == name]
        mine = [(row.bpp, row.quality) for row in rows if row.codec == report.ours]
        qualities = {min((abs(math.log(bpp / target)), quality) for bpp, quality in mine)[1] for target in _CROP_BPP}
        over = report.labels[report.anchor]
        why = f"{place} of {len(ranked)} for us: {own.per_picture[name]:+.1f} % BD-rate over {over}"
        for quality in sorted(qualities):
            progress(f"crops of {name} at quality {quality:g}")
            try:
                opened = {label: open_codec(c) for label, c in codecs.items()}
                strips.append(strip(paths[name], why, opened, rows, quality))
            except DCAEError as error:
                progress(f"{name}: no crops, {error}")
    return strips


def _one_of_each_family(report: Report) -> list[Contestant]:
    """Codecs for the crops; of those that differ in effort only the fastest, which looks alike and is done in time."""
    shown = [c for c in report.contestants if c.label in (report.ours, report.anchor)]
    for c in sorted(report.contestants, key=lambda c: report.times[c.label].encode if c.label in report.times else 0):
        if c.family not in {other.family for other in shown}:
            shown.append(c)
    return shown


def summary_json(report: Report) -> str:
    """Everything but the rows; what has no value is null."""
    values = {
        "environment": report.environment,
        "measured": report.measured,
        "pictures": report.pictures,
        "anchor": report.anchor,
        "labels": report.labels,
        "sampled": report.sampled,
        "ours": report.ours,
        "curves": mean_curves(report.whole),
        "bd_rate_over_anchor": [asdict(c) for c in report.comparisons],
        "bd_rate_of_ours_over": [asdict(c) for c in report.versus],
        "bytes_saved_at_equal_psnr": report.equal,
        "cpu_seconds_per_megapixel": {codec: asdict(times) for codec, times in report.times.items()},
        "settings": {c.label: c.settings for c in report.contestants if c.settings},
        "variants": [asdict(v) for v in report.variants],
    }
    return json.dumps(_finite(values), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
