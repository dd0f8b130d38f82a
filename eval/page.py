"""The report as one HTML page without other files: plots, tables that sort, crops that flip to the original."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from dcae.eval.crops import Strip
from dcae.eval.metrics import METRICS
from dcae.eval.summary import Comparison
from dcae.eval.table import common_pictures

if TYPE_CHECKING:
    from dcae.eval.rd_report import Report

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #212529; max-width: 1180px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { margin-top: 2em; border-bottom: 1px solid #dee2e6; }
.note { color: #5c636a; font-size: .9em; }
table { border-collapse: collapse; font-size: .9em; } th, td { padding: .25em .7em; text-align: right; }
th { border-bottom: 2px solid #adb5bd; background: #fff; position: sticky; top: 0; vertical-align: bottom; }
td { border-bottom: 1px solid #e9ecef; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child, .text { text-align: left; } .ours { font-weight: 600; background: #eef4ff; }
.win { color: #2b8a3e; } .lose { color: #c92a2a; } .sort th { cursor: pointer; } .sort th:hover { background: #f1f3f5; }
.scroll { max-height: 34em; overflow: auto; border: 1px solid #dee2e6; }
figure { margin: 0; } figure svg { width: 100%; height: auto; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, 262px); gap: 10px; }
.strip figure { font-size: .82em; line-height: 1.3; }
.strip img { display: block; width: 256px; image-rendering: pixelated; }
select { font: inherit; margin-right: 1em; }
"""

_SCRIPT = """
for (const table of document.querySelectorAll('table.sort')) {
  table.querySelectorAll('th').forEach((th, k) => th.addEventListener('click', () => {
    const up = th.dataset.up = th.dataset.up === '1' ? '' : '1', body = table.tBodies[0];
    const key = row => { const c = row.cells[k], v = parseFloat(c.dataset.v); return isNaN(v) ? c.textContent : v; };
    const cmp = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === 'number' ? -1 : 1;
    body.append(...[...body.rows].map(r => [key(r), r]).sort((a, b) => cmp(a[0], b[0]) * (up ? 1 : -1)).map(p => p[1]));
  }));
}
const filters = document.querySelectorAll('select[data-column]');
const filter = () => { for (const row of document.querySelector('#rows').tBodies[0].rows)
  row.hidden = [...filters].some(f => f.value && row.cells[f.dataset.column].textContent !== f.value); };
filters.forEach(f => f.addEventListener('change', filter));
document.querySelectorAll('.strip').forEach(strip => { const original = strip.querySelector('img').src;
  strip.querySelectorAll('img').forEach(img => { const own = img.src;
    img.addEventListener('pointerdown', e => { img.src = original; e.preventDefault(); });
    for (const up of ['pointerup', 'pointerleave']) img.addEventListener(up, () => { img.src = own; }); }); });
"""


def page(report: Report, plots: Mapping[str, bytes], strips: Sequence[Strip]) -> str:
    """The whole page.

    Args:
        plots: SVG by name, as `dcae.eval.rd_report` names them.
    """
    title = f"Rate and distortion on {len(report.pictures)} pictures"
    sections = [
        _head(report, title),
        _versus(report),
        *(_plots(metric, plots) for metric in report.metrics),
        _anchored(report),
        _equal(report),
        _crops(report, strips),
        _rows(report),
        _made_with(report),
    ]
    body = "\n".join(s for s in sections if s)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>\n{body}\n'
        f"<script>{_SCRIPT}</script></html>\n"
    )


def _head(report: Report, title: str) -> str:
    names = sorted(common_pictures(report.rows))
    left_out = sorted(set(report.pictures) - set(names))
    without = f" Left out, since a codec has no row of them: {escape(', '.join(left_out))}." if left_out else ""
    which = "none" if not names else names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    return (
        f"<h1>{escape(title)}</h1><p>Bytes are those of whole files, written and read back by each codec's real "
        f"implementation; distortion is measured on the decoded 8-bit RGB pixels. Averages are means over the pictures "
        f"({escape(which)}) at each quality.{without} BD-rate: Akima interpolation of the logarithm of the rate over "
        "the whole range that both averaged curves cover (package <code>bjontegaard</code>); negative is fewer bytes. "
        "A picture by itself has no BD-rate where one of its two curves does not rise.</p>"
    )


def _table(header: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], kind: str = "", name: str = "") -> str:
    """`rows` are (class of the row, cells as HTML, each with its <td>)."""
    head = "".join(f"<th>{escape(h)}</th>" for h in header)
    body = "".join(f'<tr class="{c}">{"".join(cells)}</tr>' if c else f"<tr>{''.join(cells)}</tr>" for c, cells in rows)
    attributes = "".join(f' {k}="{v}"' for k, v in (("class", kind), ("id", name)) if v)
    return f"<table{attributes}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(value: str) -> str:
    return f'<td class="text">{escape(value)}</td>'


def _number(value: float | None, digits: int = 2, signed: bool = False, unit: str = "") -> str:
    if value is None or math.isnan(value):
        return "<td>–</td>"
    return f'<td data-v="{value:.8g}">{value:{"+" if signed else ""}.{digits}f}{unit}</td>'


def _percent(c: Comparison | None) -> str:
    if c is None:
        return "<td>–</td>"
    if c.percent is None:
        return f'<td class="note" title="{escape(c.reason)}">none: {escape(c.reason)}</td>'
    kind = "win" if c.percent < 0 else "lose"
    return (
        f'<td class="{kind}" data-v="{c.percent:.4f}" title="over {c.low:.2f} to {c.high:.2f}">{c.percent:+.1f} %</td>'
    )


def _spread(c: Comparison | None) -> str:
    if c is None or c.spread is None:
        return "<td>–</td>"
    return f'<td data-v="{c.spread[0]:.4f}">{c.spread[0]:+.1f} ± {c.spread[1]:.1f} % ({len(c.per_picture or ())})</td>'


def _range(c: Comparison | None) -> str:
    return "<td>–</td>" if c is None or c.percent is None else f"<td>{c.low:.1f} to {c.high:.1f}</td>"


def _wins(c: Comparison | None) -> str:
    if c is None or not c.per_picture:
        return "<td>–</td>"
    wins = sum(v < 0 for v in c.per_picture.values())
    return f'<td data-v="{wins}">{wins} of {len(c.per_picture)}</td>'


def _versus(report: Report) -> str:
    if not report.versus or report.ours is None:
        return ""
    by = {(c.codec, c.metric): c for c in report.versus}
    header = ["over"]
    for metric in report.metrics:
        header += [f"BD-rate, {METRICS[metric].label}", "better on"]
    rows = []
    for codec in dict.fromkeys(c.codec for c in report.versus):
        cells = [_text(report.labels[codec])]
        for metric in report.metrics:
            cells += [_percent(by.get((codec, metric))), _wins(by.get((codec, metric)))]
        rows.append(("", cells))
    return (
        f"<h2>Where {escape(report.labels[report.ours])} wins and loses</h2>"
        "<p>Bytes that it needs relative to each of the others at equal quality: "
        '<span class="win">fewer</span> or <span class="lose">more</span>; and on how many pictures it needs fewer.</p>'
        + _table(header, rows, "sort")
    )


def _plots(metric: str, plots: Mapping[str, bytes]) -> str:
    shown = [plots[name].decode() for name in (f"rd-{metric}", f"pictures-{metric}") if name in plots]
    figures = "".join(f"<figure>{svg[svg.index('<svg') :]}</figure>" for svg in shown)
    return f"<h2>{escape(METRICS[metric].label)}</h2>{figures}" if shown else ""


def _anchored(report: Report) -> str:
    if not report.comparisons:
        return ""
    by = {(c.codec, c.metric): c for c in report.comparisons}
    header = ["codec"]
    for metric in report.metrics:
        name = METRICS[metric].label
        header += [f"BD-rate, {name}", "mean ± deviation over pictures (their number)", "measured over"]
    rows = []
    for codec in dict.fromkeys(c.codec for c in report.comparisons):
        label = report.labels.get(codec, f"{codec} — published, not measured here")
        cells = [_text(label)]
        for metric in report.metrics:
            c = by.get((codec, metric))
            cells += [_percent(c), _spread(c), _range(c)]
        rows.append(("ours" if label in report.our_titles else "", cells))
    sources = "".join(f"<li>{escape(p.name)}: {escape(p.source)}</li>" for p in report.published)
    return (
        f"<h2>BD-rate over {escape(report.labels[report.anchor])}</h2>"
        + _table(header, rows, "sort")
        + (
            f'<p class="note">Published points, as their authors printed them:</p><ul class="note">{sources}</ul>'
            if sources
            else ""
        )
    )


def _equal(report: Report) -> str:
    if not report.equal or report.ours is None:
        return ""
    others = list(report.equal[0]["saved"])
    header = ["quality", "bpp", "PSNR (dB)", *(report.labels[name] for name in others)]
    rows = []
    for point in report.equal:
        cells = [_number(point["quality"], 1), _number(point["bpp"], 4), _number(point["psnr"])]
        for name in others:
            saved = point["saved"][name]
            cells.append(_number(saved, 1, True, " %").replace("<td", f'<td class="{_side(saved)}"', 1))
        rows.append(("", cells))
    return (
        f"<h2>Bytes saved at equal PSNR</h2><p>By {escape(report.labels[report.ours])} at each of its qualities, on "
        "the averaged curves, the logarithm of the rate interpolated over PSNR linearly. A dash: the other curve does "
        "not reach this PSNR.</p>" + _table(header, rows)
    )


def _side(saved: float | None) -> str:
    return "" if saved is None else "win" if saved > 0 else "lose"


def _crops(report: Report, strips: Sequence[Strip]) -> str:
    if not strips:
        return ""
    parts = [
        "<h2>Side by side at equal bytes</h2><p>The best, the middle and the worst picture for us against the anchor. "
        "Of each the region where our squared error and the anchor's differ most. The others are written at the "
        "quality that comes closest to our bytes. Press on a crop to see the original in its place.</p>"
    ]
    for s in strips:
        left, top, right, bottom = s.box
        parts.append(
            f"<h3>{escape(s.picture)}, {right - left}x{bottom - top} at ({left}, {top})</h3>"
            f'<p class="note">{escape(s.why)}</p><div class="strip">'
        )
        for crop in s.crops:
            label = report.labels.get(crop.label, crop.label)
            text = f"<b>{escape(label)}</b>"
            if crop.quality is not None:
                share = 100 * (crop.size / s.crops[1].size - 1)
                off = "" if abs(share) < 0.5 else f" ({share:+.0f} %)"
                text += f"<br>{crop.size} bytes{off}, {crop.psnr:.2f} dB, quality {crop.quality:g}"
            parts.append(
                f'<figure><img src="{crop.data_uri}" alt="{escape(label)}"><figcaption>{text}</figcaption></figure>'
            )
        parts.append("</div>")
    return "".join(parts)


def _rows(report: Report) -> str:
    names = [METRICS[m] for m in report.metrics]
    header = ["picture", "codec", "quality", "bytes", "bpp", *(m.label for m in names)]
    header += ["encode (s)", "decode (s)", "peak (MiB)"]
    rows = []
    for row in report.rows:
        cells = [_text(row.picture), _text(report.labels[row.codec]), _number(row.quality, 1)]
        cells += [_number(row.bytes, 0), _number(row.bpp, 4)]
        for m in names:
            value = getattr(row, m.field)
            cells.append(_number(None if value is None or math.isnan(value) else m.curve(value)))
        cells += [_number(row.encode_seconds, 3), _number(row.decode_seconds, 3), _number(row.peak_mib, 0)]
        rows.append(("", cells))
    choices = ""
    for column, name, values in (
        (0, "picture", report.pictures),
        (1, "codec", list(report.labels.values())),
    ):
        options = "".join(f"<option>{escape(v)}</option>" for v in values)
        choices += (
            f'<label>{name} <select data-column="{column}"><option value="">all</option>{options}</select></label>'
        )
    return (
        "<h2>Every file</h2><p>Click a column to sort by it. Times are wall clock on one thread while other processes "
        "measured beside, to be compared with care (<code>dcae eval speed</code> measures them in turn); memory is the "
        f'peak of the process.</p><p>{choices}</p><div class="scroll">{_table(header, rows, "sort", "rows")}</div>'
    )


def _made_with(report: Report) -> str:
    text = ", ".join(f"{escape(k)} {escape(v)}" for k, v in report.environment.items())
    settings = "".join(f"<li>{escape(c.title)}: {escape(c.settings)}</li>" for c in report.contestants if c.settings)
    by = "Written by <code>dcae eval rd</code>; rows may be from earlier runs."
    return f'<h2>Made with</h2><ul>{settings}</ul><p class="note">{text}. {by}</p>'
