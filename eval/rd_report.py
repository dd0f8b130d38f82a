"""The report of a rate-distortion evaluation: what `dcae eval rd` writes beside its rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dcae.errors import DCAEError
from dcae.eval.crops import Strip, strip
from dcae.eval.environment import environment
from dcae.eval.published import PublishedCurve
from dcae.eval.rd import Contestant, open_codec
from dcae.eval.rd_plots import Line, per_picture, rate_distortion, to_png, to_svg
from dcae.eval.summary import (
    Comparison,
    averaged,
    bpp_at,
    compare,
    published_curve,
    to_compressai,
    to_text,
)
from dcae.eval.table import Row, mean_curves
from dcae.files import write_bytes

_CROP_BPP = (0.15, 0.4)
"""About what rate our files have that are shown side by side: a small and a middle one."""
_PACKAGES = ("numpy", "imagecodecs", "pillow-heif", "imageio-ffmpeg", "bjontegaard")


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
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """How every codec is called in plots and tables."""
        return {c.label: c.title for c in self.contestants}

    @property
    def pictures(self) -> list[str]:
        return sorted({row.picture for row in self.rows})

    @property
    def our_titles(self) -> set[str]:
        """What our models are called."""
        return {c.title for c in self.contestants if c.name == "dcae"}

    @property
    def ours(self) -> str | None:
        """The first model of ours."""
        return next((c.label for c in self.contestants if c.name == "dcae"), None)


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
    if anchor in measured:
        report.comparisons = compare(rows, anchor, metrics, published)
    if (ours := report.ours) is not None:
        for metric in metrics:
            for c in shown:
                if c.label != ours:
                    pair = [row for row in rows if row.codec in (c.label, ours)]
                    (found,) = (x for x in compare(pair, c.label, [metric]) if x.codec == ours)
                    report.versus.append(replace(found, codec=c.label))
        report.equal = _equal_psnr(rows, ours, [c.label for c in shown if c.label != ours])
    return report


def _equal_psnr(rows: Sequence[Row], ours: str, others: Sequence[str]) -> list[dict[str, Any]]:
    curves = averaged(rows, "psnr")
    found = []
    for point in mean_curves(rows)[ours]:
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
    from dcae.eval.page import page

    (folder / "curves").mkdir(exist_ok=True)
    for codec, points in mean_curves(report.rows).items():
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
    found = []
    for metric in report.metrics:
        lines = [
            Line(report.labels[codec], curve, report.labels[codec] in report.our_titles)
            for codec, curve in averaged(report.rows, metric).items()
        ]
        lines += [
            Line(p.name, curve, published=True) for p in report.published if (curve := published_curve(p, metric))
        ]
        measured = report.anchor in report.labels
        found.append((f"rd-{metric}", rate_distortion(lines, report.labels.get(report.anchor), metric)))
        if measured:
            shown = {
                report.labels[c.codec]: c for c in report.comparisons if c.metric == metric and c.codec in report.labels
            }
            titles, over = list(averaged(report.rows, metric)), report.labels[report.anchor]
            titles = [report.labels[codec] for codec in titles]
            found.append((f"pictures-{metric}", per_picture(shown, titles, report.our_titles, over, metric)))
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
    codecs = {c.label: c for c in sorted(report.contestants, key=lambda c: order.index(c.label))}
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


def summary_json(report: Report) -> str:
    """Everything but the rows; what has no value is null."""
    values = {
        "environment": report.environment,
        "pictures": report.pictures,
        "anchor": report.anchor,
        "labels": report.labels,
        "ours": report.ours,
        "curves": mean_curves(report.rows),
        "bd_rate_over_anchor": [asdict(c) for c in report.comparisons],
        "bd_rate_of_ours_over": [asdict(c) for c in report.versus],
        "bytes_saved_at_equal_psnr": report.equal,
    }
    return json.dumps(_finite(values), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
