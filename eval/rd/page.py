"""The report as one HTML page without other files, from the template `page.html.j2` beside this module."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from dcae.eval.metrics import METRICS
from dcae.eval.page import DASH, Cell, Table, TableRow, number_cell, rendered, text_cell
from dcae.eval.rd.crops import Strip
from dcae.eval.rd.curves import Comparison, common_pictures
from dcae.eval.rd.rows import Row

if TYPE_CHECKING:
    from dcae.eval.rd.report import Report


def page(report: Report, plots: Mapping[str, bytes], strips: Sequence[Strip]) -> str:
    """The whole page.

    Args:
        plots: SVG by name, as `dcae.eval.rd.report` names them.
    """
    common = sorted(common_pictures(report.whole))
    return rendered(
        "dcae.eval.rd",
        report=report,
        title=f"Rate and distortion on {len(report.pictures)} pictures",
        common=common,
        left_out=sorted(set(report.pictures) - set(common)),
        ours=report.labels.get(report.ours or ""),
        anchor=report.labels.get(report.anchor),
        plots=_plots(report, plots),
        versus=_versus(report),
        anchored=_anchored(report),
        variants=_variants(report),
        equal=_equal(report),
        strips=strips,
        share=_share,
        every_file=_rows(report),
        filters=[(0, "picture", report.pictures), (1, "codec", list(report.labels.values()))],
        settings=[(c.title, c.settings) for c in report.contestants if c.settings],
    )


def _plots(report: Report, plots: Mapping[str, bytes]) -> list[tuple[str, list[Markup]]]:
    """Sections of plots, each with its heading; the XML header of an SVG file does not belong into a page."""
    sections = [("Bytes and CPU time", ["time-encode", "time-decode"])]
    sections += [(METRICS[m].label, [f"{kind}-{m}" for kind in ("rd", "relative", "pictures")]) for m in report.metrics]
    found = []
    for heading, names in sections:
        shown = [plots[name].decode() for name in names if name in plots]
        if shown:
            found.append((heading, [Markup(svg[svg.index("<svg") :]) for svg in shown]))
    return found


def _percent(c: Comparison | None) -> Cell:
    if c is None:
        return Cell(DASH)
    if c.percent is None:
        return Cell(f"none: {c.reason}", kind="note")
    kind = "win" if c.percent < 0 else "lose"
    return Cell(f"{c.percent:+.1f} %", c.percent, kind, f"over {c.low:.2f} to {c.high:.2f}")


def _spread(c: Comparison | None) -> Cell:
    if c is None or c.spread is None:
        return Cell(DASH)
    return Cell(f"{c.spread[0]:+.1f} ± {c.spread[1]:.1f} % ({len(c.per_picture or ())})", c.spread[0])


def _range(c: Comparison | None) -> Cell:
    return Cell(DASH if c is None or c.percent is None else f"{c.low:.1f} to {c.high:.1f}")


def _wins(c: Comparison | None) -> Cell:
    if c is None or not c.per_picture:
        return Cell(DASH)
    wins = sum(v < 0 for v in c.per_picture.values())
    return Cell(f"{wins} of {len(c.per_picture)}", wins)


def _times(report: Report, codec: str) -> list[Cell]:
    times = report.times.get(codec)
    return [number_cell(getattr(times, way, None), 3) for way in ("encode", "decode")]


_TIMES = ["encode (CPU s/MP)", "decode (CPU s/MP)"]


def _names(comparisons: Iterable[Comparison]) -> list[str]:
    return list(dict.fromkeys(c.codec for c in comparisons))


def _versus(report: Report) -> Table | None:
    """Our first model over every other codec."""
    if not report.versus or report.ours is None:
        return None
    by = {(c.codec, c.metric): c for c in report.versus}
    header = ["over"]
    for metric in report.metrics:
        header += [f"BD-rate, {METRICS[metric].label}", "better on"]
    rows = []
    for codec in _names(report.versus):
        cells = [text_cell(report.labels[codec])]
        for metric in report.metrics:
            cells += [_percent(by.get((codec, metric))), _wins(by.get((codec, metric)))]
        rows.append(TableRow([*cells, *_times(report, codec)]))
    return Table([*header, *_TIMES], rows)


def _anchored(report: Report) -> Table | None:
    """Every codec, and every published curve, over the anchor."""
    if not report.comparisons:
        return None
    by = {(c.codec, c.metric): c for c in report.comparisons}
    header = ["codec"]
    for metric in report.metrics:
        header += [f"BD-rate, {METRICS[metric].label}", "mean ± deviation over pictures (number)", "measured over"]
    rows = []
    for codec in _names(report.comparisons):
        label = report.labels.get(codec, f"{codec}: published, not measured here")
        cells = [text_cell(label)]
        for metric in report.metrics:
            c = by.get((codec, metric))
            cells += [_percent(c), _spread(c), _range(c)]
        rows.append(TableRow([*cells, *_times(report, codec)], "ours" if label in report.our_titles else ""))
    return Table([*header, *_TIMES], rows)


def _variants(report: Report) -> Table | None:
    """What settings gain or cost."""
    if not report.variants:
        return None
    header = ["codec", "over", *(f"BD-rate, {METRICS[m].label}" for m in report.metrics), "encode time", "decode time"]
    rows = []
    for v in report.variants:
        cells = [text_cell(report.labels[v.codec]), text_cell(report.labels[v.over])]
        for metric in report.metrics:
            percent = v.percent.get(metric)
            cells.append(number_cell(percent, 1, "+", " %", "win" if percent is not None and percent < 0 else "lose"))
        rows.append(
            TableRow([*cells, number_cell(v.encode, 2, unit=" times"), number_cell(v.decode, 2, unit=" times")])
        )
    return Table(header, rows)


def _equal(report: Report) -> Table | None:
    """Bytes saved at equal PSNR."""
    if not report.equal or report.ours is None:
        return None
    others = list(report.equal[0]["saved"])
    rows = []
    for point in report.equal:
        cells = [number_cell(point["quality"], 1), number_cell(point["bpp"], 4), number_cell(point["psnr"])]
        for name in others:
            saved = point["saved"][name]
            cells.append(number_cell(saved, 1, "+", " %", "win" if saved is not None and saved > 0 else "lose"))
        rows.append(TableRow(cells))
    return Table(["quality", "bpp", "PSNR (dB)", *(report.labels[name] for name in others)], rows, sortable=False)


def _share(strip: Strip, size: int) -> str:
    """How many more or fewer bytes a file has than ours; empty if as many."""
    share = 100 * (size / strip.crops[1].size - 1)
    return "" if abs(share) < 0.5 else f" ({share:+.0f} %)"


def _rows(report: Report) -> Table:
    """Every file."""
    header = ["picture", "codec", "quality", "bytes", "bpp", *(METRICS[m].label for m in report.metrics)]
    header += ["encode (CPU s)", "decode (CPU s)", "peak (MiB)"]
    return Table(header, [TableRow(_file(report, row)) for row in report.rows], name="rows")


def _file(report: Report, row: Row) -> list[Cell]:
    cells = [text_cell(row.picture), text_cell(report.labels[row.codec]), number_cell(row.quality, 1)]
    cells += [number_cell(row.bytes, 0), number_cell(row.bpp, 4)]
    for m in (METRICS[name] for name in report.metrics):
        value = getattr(row, m.field)
        cells.append(number_cell(None if value is None or math.isnan(value) else m.curve(value)))
    return [*cells, number_cell(row.encode_cpu, 3), number_cell(row.decode_cpu, 3), number_cell(row.peak_mib, 0)]
