"""What the rows of an evaluation say: averaged curves, BD-rates, bytes at equal quality."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dcae.errors import OptionError
from dcae.eval.bdrate import bd_rate
from dcae.eval.metrics import METRICS, Metric
from dcae.eval.rd.published import PublishedCurve
from dcae.eval.rd.rows import Row

Curve = list[tuple[float, float]]
"""(bpp, value on the metric's curve scale: dB for PSNR and MS-SSIM), rising in bpp."""


TIMES = ("encode_seconds", "encode_cpu", "decode_seconds", "decode_cpu")
"""Columns of times that averaged curves have beside the metrics."""


def common_pictures(rows: Iterable[Row]) -> set[str]:
    """The pictures that every codec among the rows was measured on, at one quality or more."""
    by_codec: dict[str, set[str]] = {}
    for row in rows:
        by_codec.setdefault(row.codec, set()).add(row.picture)
    return set.intersection(*by_codec.values()) if by_codec else set()


def _mean(values: Sequence[float]) -> float:
    """Mean of the values that are there: a metric has none, of any codec, for pictures that are too small for it."""
    there = [v for v in values if not math.isnan(v)]
    return math.fsum(there) / len(there) if there else math.nan


def mean_curves(rows: Iterable[Row]) -> dict[str, list[dict[str, float]]]:
    """Per codec the mean over pictures at each quality, in the order of rising rate.

    So that curves are comparable, the means are over the pictures that all codecs have in common, and only qualities
    measured on each of those count.
    """
    rows = list(rows)
    pictures = common_pictures(rows)
    by_codec: dict[str, dict[float, list[Row]]] = {row.codec: {} for row in rows}
    for row in rows:
        if row.picture in pictures:
            by_codec[row.codec].setdefault(row.quality, []).append(row)
    fields = ("bpp", *(metric.field for metric in METRICS.values()), *TIMES)
    curves: dict[str, list[dict[str, float]]] = {}
    for codec, qualities in by_codec.items():
        points = []
        for quality, found in qualities.items():
            if len(found) == len(pictures):
                means = {name: _mean([getattr(r, name) for r in found]) for name in fields}
                points.append({"quality": quality} | means)
        curves[codec] = sorted(points, key=lambda p: p["bpp"])
    return curves


@dataclass(frozen=True)
class Comparison:
    """One codec over the anchor by one metric."""

    codec: str
    metric: str
    percent: float | None
    """BD-rate of the averaged curves; None when there is none, for the `reason`."""
    low: float = math.nan
    """Beginning of the overlap, on the metric's curve scale."""
    high: float = math.nan
    reason: str = ""
    per_picture: Mapping[str, float] | None = None
    """BD-rate of every picture that has one, by the picture's name; None for published curves."""

    @property
    def spread(self) -> tuple[float, float] | None:
        """Mean and standard deviation of the pictures' own BD-rates."""
        if not self.per_picture or len(self.per_picture) < 2:
            return None
        return statistics.fmean(self.per_picture.values()), statistics.stdev(self.per_picture.values())


def averaged(rows: Iterable[Row], metric: str) -> dict[str, Curve]:
    """Per codec the curve of the means over pictures; qualities at which the metric has no value are left out."""
    found = METRICS[metric]
    return {codec: _on_curve(points, found) for codec, points in mean_curves(rows).items()}


def _on_curve(points: Iterable[dict[str, float]], metric: Metric) -> Curve:
    curve = [(p["bpp"], metric.curve(p[metric.field])) for p in points if not math.isnan(p.get(metric.field, math.nan))]
    return [(bpp, value) for bpp, value in curve if math.isfinite(value)]


def published_curve(curve: PublishedCurve, metric: str) -> Curve:
    """A published curve on the metric's curve scale; empty if it has no such values."""
    values = curve.values.get(metric, ())
    found = METRICS[metric]
    return [(bpp, found.curve(v)) for bpp, v in zip(curve.bpp, values, strict=False) if math.isfinite(v)]


def compare(
    rows: Sequence[Row], anchor: str, metrics: Iterable[str], others: Sequence[PublishedCurve] = ()
) -> list[Comparison]:
    """BD-rate of every codec over `anchor`, as the field does (mean over pictures per quality, then the curve), and
    of every picture by itself; then that of the published curves `others`.

    Raises:
        OptionError: no row of the anchor.
    """
    codecs = list(dict.fromkeys(row.codec for row in rows))
    if anchor not in codecs:
        raise OptionError(f"the anchor {anchor!r} was not measured; there are {', '.join(codecs)}")
    found = []
    for metric in metrics:
        curves = averaged(rows, metric)
        own = per_picture_curves(rows, metric)
        for codec in codecs:
            if codec != anchor:
                pictures = _per_picture(own, anchor, codec)
                found.append(_comparison(codec, metric, curves[anchor], curves[codec], pictures))
        for other in others:
            if curve := published_curve(other, metric):
                found.append(_comparison(other.name, metric, curves[anchor], curve, None))
    return found


def per_picture_curves(rows: Iterable[Row], metric: str) -> dict[tuple[str, str], Curve]:
    """The curve of every (codec, picture)."""
    found = METRICS[metric]
    curves: dict[tuple[str, str], Curve] = {}
    for row in rows:
        value = getattr(row, found.field)
        if value is not None and not math.isnan(value) and math.isfinite(scaled := found.curve(value)):
            curves.setdefault((row.codec, row.picture), []).append((row.bpp, scaled))
    return {key: sorted(curve) for key, curve in curves.items()}


def _per_picture(curves: Mapping[tuple[str, str], Curve], anchor: str, codec: str) -> dict[str, float]:
    found = {}
    for (name, picture), curve in sorted(curves.items()):
        if name == codec:
            try:
                found[picture] = bd_rate(curves.get((anchor, picture), []), curve).percent
            except OptionError:  # a curve of one picture need not rise; the averages' do
                continue
    return found


def _comparison(
    codec: str, metric: str, over: Curve, test: Curve, per_picture: Mapping[str, float] | None
) -> Comparison:
    try:
        result = bd_rate(over, test)
    except OptionError as error:
        return Comparison(codec, metric, None, reason=str(error), per_picture=per_picture)
    return Comparison(codec, metric, result.percent, result.low, result.high, "", per_picture)


def bpp_at(curve: Curve, value: float) -> float | None:
    """Bits per pixel that `curve` needs for `value` on its metric's scale; None beyond its ends.

    The logarithm of the rate is interpolated linearly over the value between the measured points.
    """
    rising: Curve = []
    for point in sorted(curve, key=lambda p: p[1]):
        if not rising or point[1] > rising[-1][1]:
            rising.append(point)
    if len(rising) < 2 or not rising[0][1] <= value <= rising[-1][1]:
        return None
    return math.exp(float(np.interp(value, [p[1] for p in rising], [math.log(p[0]) for p in rising])))


def to_text(comparisons: Sequence[Comparison], anchor: str) -> str:
    """A table for people."""
    lines = [f"BD-rate over {anchor} (Akima, averaged curves; negative is fewer bytes)"]
    for c in comparisons:
        name = c.codec if c.per_picture is not None else f"{c.codec} (published)"
        if c.percent is None:
            lines.append(f"{c.metric:8} {name:42} no BD-rate: {c.reason}")
            continue
        line = f"{c.metric:8} {name:42} {c.percent:+7.2f} %  over {c.low:.2f} to {c.high:.2f} dB"
        if c.spread:
            line += f"; {len(c.per_picture or ())} pictures by themselves {c.spread[0]:+.2f} ± {c.spread[1]:.2f} %"
        lines.append(line)
    return "\n".join(lines)


def to_compressai(codec: str, points: Sequence[dict[str, float]]) -> str:
    """One codec's averaged curve in the JSON layout of CompressAI's `results/`."""
    names = {"encoding_time": "encode_seconds", "decoding_time": "decode_seconds", "quality": "quality"}
    names = {"bpp": "bpp"} | {name: metric.field for name, metric in METRICS.items()} | names
    results = {}
    for name, field in names.items():
        values = [p.get(field, math.nan) for p in points]
        if any(math.isfinite(v) for v in values):
            results[name] = [v if math.isfinite(v) else None for v in values]
    description = "means over the pictures per quality, of real file bytes; written by dcae eval rd"
    return json.dumps({"name": codec, "description": description, "results": results}, indent=2) + "\n"
