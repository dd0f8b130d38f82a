"""What the rows of an evaluation say: averaged curves and BD-rates."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dcae.errors import OptionError
from dcae.eval.bdrate import bd_rate
from dcae.eval.metrics import ms_ssim_db
from dcae.eval.table import Row, mean_curves

METRICS = ("psnr", "ms-ssim")


@dataclass(frozen=True)
class Comparison:
    """One codec over the anchor by one metric."""

    codec: str
    metric: str
    percent: float | None
    """BD-rate of the averaged curves; None when there is none, for the `reason`."""
    low: float = math.nan
    """dB, where the overlap begins."""
    high: float = math.nan
    reason: str = ""
    per_picture: tuple[float, ...] = ()
    """BD-rate of every picture that has one."""

    @property
    def spread(self) -> tuple[float, float] | None:
        """Mean and standard deviation of the pictures' own BD-rates."""
        if len(self.per_picture) < 2:
            return None
        return statistics.fmean(self.per_picture), statistics.stdev(self.per_picture)


def compare(rows: Sequence[Row], anchor: str, metrics: Iterable[str] = METRICS) -> list[Comparison]:
    """BD-rate of every codec over `anchor`, as the field does (mean over pictures per quality, then the curve), and
    of every picture by itself.

    Raises:
        OptionError: no row of the anchor, or an unknown metric.
    """
    codecs = list(dict.fromkeys(row.codec for row in rows))
    if anchor not in codecs:
        raise OptionError(f"the anchor {anchor!r} was not measured; there are {', '.join(codecs)}")
    curves = mean_curves(rows)
    pictures = sorted({row.picture for row in rows})
    found = []
    for metric in metrics:
        if metric not in METRICS:
            raise OptionError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")
        field = metric.replace("-", "_")
        for codec in codecs:
            if codec == anchor:
                continue
            over, test = (_points([(p["bpp"], p[field]) for p in curves[c]], metric) for c in (anchor, codec))
            own = []
            for picture in pictures:
                first, second = (
                    _points([(r.bpp, getattr(r, field)) for r in rows if (r.picture, r.codec) == (picture, c)], metric)
                    for c in (anchor, codec)
                )
                try:
                    own.append(bd_rate(first, second).percent)
                except OptionError:
                    continue
            try:
                result = bd_rate(over, test)
                found.append(Comparison(codec, metric, result.percent, result.low, result.high, "", tuple(own)))
            except OptionError as error:
                found.append(Comparison(codec, metric, None, reason=str(error), per_picture=tuple(own)))
    return found


def _points(points: Iterable[tuple[float, float]], metric: str) -> list[tuple[float, float]]:
    """(rate, dB), without what is identical to the original or has no value."""
    if metric == "ms-ssim":
        points = [(rate, ms_ssim_db(value)) for rate, value in points if not math.isnan(value)]
    return [(rate, value) for rate, value in points if math.isfinite(value)]


def to_text(comparisons: Sequence[Comparison], anchor: str) -> str:
    """A table for people."""
    lines = [f"BD-rate over {anchor} (Akima, averaged curves; negative is fewer bytes)"]
    for c in comparisons:
        if c.percent is None:
            lines.append(f"{c.metric:8} {c.codec:32} no BD-rate: {c.reason}")
            continue
        line = f"{c.metric:8} {c.codec:32} {c.percent:+7.2f} %  over {c.low:.2f} to {c.high:.2f} dB"
        if c.spread:
            line += f"; pictures by themselves {c.spread[0]:+.2f} ± {c.spread[1]:.2f} %"
        lines.append(line)
    return "\n".join(lines)


def to_compressai(codec: str, points: Sequence[dict[str, float]]) -> str:
    """One codec's averaged curve in the JSON layout of CompressAI's `results/`."""
    results = {
        "bpp": [p["bpp"] for p in points],
        "psnr": [p["psnr"] for p in points],
        "ms-ssim": [p["ms_ssim"] for p in points],
        "encoding_time": [p["encode_seconds"] for p in points],
        "decoding_time": [p["decode_seconds"] for p in points],
        "quality": [p["quality"] for p in points],
    }
    finite = {k: [v if math.isfinite(v) else None for v in values] for k, values in results.items()}
    description = "means over the pictures per quality, of real file bytes; written by dcae eval rd"
    return json.dumps({"name": codec, "description": description, "results": finite}, indent=2) + "\n"
