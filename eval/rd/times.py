"""CPU time of codecs beside what they save: points of the plots over time, and what a codec's settings gain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dcae.eval.rd.curves import Curve, averaged, common_pictures, compare, mean_curves
from dcae.eval.rd.measure import Contestant
from dcae.eval.rd.rows import Row


@dataclass(frozen=True)
class Times:
    """CPU seconds per megapixel (10⁶ pixels) of one codec, all its threads and processes together."""

    encode: float
    decode: float


def cpu_times(rows: Sequence[Row], ours: str | None) -> dict[str, Times]:
    """Means per codec over the pictures that all have in common, at the codec's averaged points that count.

    Args:
        ours: codec whose span of PSNR decides: points of other codecs outside of it do not count, unless a codec has
            none inside; None for all points. Files of very different rates take very different times.
    """
    curves = averaged(rows, "psnr")
    span = _span(curves.get(ours or "", []))
    pictures = common_pictures(rows)
    size = {row.picture: row.width * row.height / 1e6 for row in rows if row.picture in pictures}
    megapixels = math.fsum(size.values()) / max(1, len(size))
    found = {}
    for codec, points in mean_curves(rows).items():
        inside = [p for p in points if span[0] <= p["psnr"] <= span[1]] or points
        if inside:
            encode, decode = (math.fsum(p[f"{way}_cpu"] for p in inside) / len(inside) for way in ("encode", "decode"))
            found[codec] = Times(encode / megapixels, decode / megapixels)
    return found


def _span(curve: Curve) -> tuple[float, float]:
    values = [value for _, value in curve]
    return (min(values), max(values)) if values else (-math.inf, math.inf)


@dataclass(frozen=True)
class Variant:
    """What other settings make of a codec."""

    codec: str
    over: str
    """The codec whose settings were changed."""
    percent: Mapping[str, float | None]
    """BD-rate of the averaged curves over it, by metric; None where there is none."""
    encode: float
    """CPU time of encoding, as a multiple."""
    decode: float


def variants(
    rows: Sequence[Row], contestants: Iterable[Contestant], metrics: Sequence[str], ours: str | None
) -> list[Variant]:
    """All measured codecs that are another measured one with other settings, on the pictures that both have.

    Args:
        ours: as of :func:`cpu_times`.
    """
    found = []
    for c in contestants:
        over = c.variant_of
        pair = [row for row in rows if row.codec in (c.label, over)]
        times = cpu_times([row for row in rows if row.codec in (c.label, over, ours)], ours)
        if over in times and c.label in times:
            percent = {x.metric: x.percent for x in compare(pair, over, metrics)}
            mine, theirs = times[c.label], times[over]
            encode, decode = _ratio(mine.encode, theirs.encode), _ratio(mine.decode, theirs.decode)
            found.append(Variant(c.label, over, percent, encode, decode))
    return found


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else math.nan
