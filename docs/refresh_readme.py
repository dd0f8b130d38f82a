"""Write README's results from what `dcae eval rd`, `dcae eval speed` and `exact_cost.py` left in this folder.

    python docs/refresh_readme.py

Nothing in those sections is written by hand; a test compares them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
_RIVALS_AT_EQUAL_PSNR = ("jpeg", "webp", "avif-psnr", "avif")
_NAMES = {"psnr": "PSNR", "ms-ssim": "MS-SSIM"}


def main() -> None:
    README.write_text(refreshed(README.read_text(encoding="utf-8")), encoding="utf-8")


def refreshed(text: str) -> str:
    """`text` with the section between its markers replaced."""
    begin, end = "<!-- results: begin -->\n", "<!-- results: end -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    if not tail:
        raise SystemExit(f"{README}: the markers {begin.strip()} and {end} are missing")
    rate = json.loads((DOCS / "rd" / "summary.json").read_text(encoding="utf-8"))
    speed = json.loads((DOCS / "speed" / "speed.json").read_text(encoding="utf-8"))
    cost = json.loads((DOCS / "exact_cost.json").read_text(encoding="utf-8"))
    return head + begin + _rate_distortion(rate) + _speed(speed) + _exact(cost) + end + tail


def _table(header: list[str], rows: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *rows])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.0f} %".replace("+0 %", "0 %").replace("-0 %", "0 %")


def _short(label: str) -> str:
    return label.split(",")[0]


def _rate_distortion(summary: dict[str, Any]) -> str:
    labels, ours, anchor = summary["labels"], summary["ours"], summary["anchor"]
    own = labels[ours]
    metrics = list(dict.fromkeys(c["metric"] for c in summary["bd_rate_of_ours_over"]))
    over = {(c["codec"], c["metric"]): c for c in summary["bd_rate_of_ours_over"]}
    rows = []
    for codec in dict.fromkeys(c["codec"] for c in summary["bd_rate_of_ours_over"]):
        row = [labels[codec]]
        for metric in metrics:
            c = over[codec, metric]
            own_rates = (c["per_picture"] or {}).values()
            row += [_percent(c["percent"]), f"{sum(v < 0 for v in own_rates)} of {len(own_rates)}"]
        rows.append(row)
    header = ["over"]
    for metric in metrics:
        header += [_NAMES.get(metric, metric), "better on"]
    anchored = [c for c in summary["bd_rate_over_anchor"] if c["metric"] == "psnr" and c["percent"] is not None]
    ranking = sorted([*((c["percent"], c["codec"]) for c in anchored), (0.0, anchor)])
    listed = ", ".join(
        f"{_short(labels.get(codec, codec))}{'' if codec in labels else ' (published)'} {_percent(percent)}"
        for percent, codec in ranking
    )
    first, last = summary["pictures"][0], summary["pictures"][-1]
    environment = summary["environment"]
    equal = []
    for point in summary["bytes_saved_at_equal_psnr"]:
        saved = [point["saved"].get(name) for name in _RIVALS_AT_EQUAL_PSNR]
        equal.append([f"{point['quality']:g}", f"{point['bpp']:.3f}", f"{point['psnr']:.2f}", *map(_percent, saved)])
    return f"""\
![Rate and distortion of DCAE and of other codecs](docs/rd/rd-psnr.svg)

{own} on {len(summary["pictures"])} pictures ({first} to {last}), whole files, {environment["date"]}. BD-rate of \
{own} over the others: bytes more or fewer (-) at equal quality on the averaged curves, and the number of pictures on
which it needs fewer by itself:

{_table(header, rows)}

All by PSNR over {labels[anchor]}, published curves as their authors printed them: {listed}.

Bytes saved at equal PSNR, by quality:

{_table(["quality", "bpp", "PSNR (dB)", *(labels[n] for n in _RIVALS_AT_EQUAL_PSNR)], equal)}

"""


def _speed(results: dict[str, Any]) -> str:
    threads = max(m["threads"] for m in results["measurements"])
    sizes = sorted({m["width"] * m["height"] for m in results["measurements"]})
    small = max(
        size for size in sizes if {m["codec"] for m in results["measurements"] if _size(m) == size} >= {"paper", "dcae"}
    )
    lines = []
    for direction, verb in (("encode", "encoding"), ("decode", "decoding")):
        times = {m["codec"]: _seconds(m) for m in _of(results, threads, small, direction)}
        ours = times["dcae"]
        lines.append(
            f"{verb} {ours:.2f} s, 1/{times['paper'] / ours:.0f} of the time of `paper` and "
            f"{ours / times['avif-psnr']:.0f} times that of AVIF"
        )
    large = []
    for size in sizes:
        if size < 5e6:
            continue
        found = {m["direction"]: m for d in ("encode", "decode") for m in _of(results, threads, size, d, "dcae")}
        if len(found) == 2:
            peak = max(m["peak"] for m in found.values()) / 1024
            seconds = " and ".join(f"{_seconds(found[d]):.1f}" for d in ("encode", "decode"))
            large.append(f"{size / 1e6:.0f} megapixels {seconds} s, {peak:.1f} GiB")
    process = results["process"]
    beyond = process["decode"] - process["import_torch"]
    environment = results["environment"]
    return f"""\
![Time, memory and stages by picture size](docs/speed/speed.svg)

Time and memory from one run of `dcae eval speed` on {environment["processor"]}, {threads} threads: {lines[0]};
{lines[1]} ({small / 1e6:.2g} megapixels). Encoding and decoding, and the larger peak of memory: {"; ".join(large)}.
A whole process `dcae decode` takes {beyond:.1f} s beyond `python -c "import torch"`. By stage, size and number of
threads: [docs/speed/speed.md](docs/speed/speed.md).

"""


def _exact(cost: dict[str, Any]) -> str:
    return f"""\
Exact arithmetic costs {cost["bd_rate_percent"]:+.2f} % BD-rate against the same network in float32, weights \
{cost["float32_weights"]}, and
{cost["time_ratio"]:.2f} times its time in the entropy model ({cost["pictures"]} pictures, {cost["threads"]} threads, \
`docs/exact_cost.py`).
"""


def _size(m: dict[str, Any]) -> int:
    return int(m["width"] * m["height"])


def _seconds(m: dict[str, Any]) -> float:
    """Of the codec alone, as in the report."""
    return float(sum(s for stage, s in m["stages"].items() if stage not in ("load", "write")))


def _of(results: dict[str, Any], threads: int, size: int, direction: str, codec: str = "") -> list[dict[str, Any]]:
    return [
        m
        for m in results["measurements"]
        if (m["threads"], _size(m), m["direction"]) == (threads, size, direction) and codec in ("", m["codec"])
    ]


if __name__ == "__main__":
    main()
