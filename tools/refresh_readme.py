"""Write README's results from what `dcae eval rd`, `dcae eval speed` and `exact_cost.py` left in this folder.

    python docs/refresh_readme.py

Nothing in those sections is written by hand; a test compares them.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from dcae.eval.rivals import RIVALS
from dcae.eval.speed.report import table

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


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.0f} %".replace("+0 %", "0 %").replace("-0 %", "0 %")


def _short(label: str) -> str:
    return label.split(",")[0].split(" (")[0]


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
    anchored = {(c["codec"], c["metric"]): c["percent"] for c in summary["bd_rate_over_anchor"]}
    anchored |= {(anchor, metric): 0.0 for metric in metrics}
    ranking = sorted({codec for codec, _ in anchored}, key=lambda codec: anchored.get((codec, "psnr")) or 0.0)
    ranked = [
        [
            labels.get(codec, f"{_short(codec)}, published"),
            *(_percent(anchored.get((codec, metric))) for metric in metrics),
        ]
        for codec in ranking
    ]
    ranked = [[f"**{cell}**" for cell in row] if row[0] == own else row for row in ranked]
    verdict = []
    for metric in metrics:
        found = [(c["percent"], labels[c["codec"]]) for c in over.values() if c["metric"] == metric]
        wins = [f"{label} ({_percent(p)})" for p, label in sorted(found) if round(p) < 0]
        losses = [f"{label} ({_percent(p)})" for p, label in sorted(found) if round(p) > 0]
        level = [label for p, label in found if round(p) == 0]
        text = f"By {_NAMES.get(metric, metric)}: fewer bytes than {_list(wins)}"
        text += f"; level with {_list(level)}" if level else ""
        verdict.append(text + (f"; more than {_list(losses)}." if losses else "."))
    first, last = summary["pictures"][0], summary["pictures"][-1]
    environment = summary["environment"]
    equal = []
    for point in summary["bytes_saved_at_equal_psnr"]:
        saved = [point["saved"].get(name) for name in _RIVALS_AT_EQUAL_PSNR]
        equal.append([f"{point['quality']:g}", f"{point['bpp']:.3f}", f"{point['psnr']:.2f}", *map(_percent, saved)])
    text = (
        f"{own} on {len(summary['pictures'])} pictures ({first} to {last}), real files, {environment['date']}. BD-rate "
        "of ours over the others: bytes more (+) or fewer (-) at equal quality on the averaged curves, and the number "
        "of pictures on which ours needs fewer by itself:"
    )
    return f"""\
![Rate and distortion of DCAE and of other codecs](docs/rd/rd-psnr.svg)

{_wrapped(" ".join(verdict))}

{_wrapped(text)}

{table(header, rows)}

{_wrapped("Settings: " + "; ".join(f"{RIVALS[n].label}: {RIVALS[n].settings}" for n in labels if n in RIVALS) + ".")}

All over {labels[anchor]}; published points as their authors printed them:

{table(["codec", *(_NAMES.get(m, m) for m in metrics)], ranked)}

Bytes saved at equal PSNR, by quality:

{table(["quality", "bpp", "PSNR (dB)", *(labels[n] for n in _RIVALS_AT_EQUAL_PSNR)], equal)}

"""


def _list(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or "none"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


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
            f"{ours / times['avif-psnr']:.2g} times that of AVIF"
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
    text = (
        f"One run of `dcae eval speed` on {environment['processor']}, {threads} threads, {small / 1e6:.2g} megapixels: "
        f"{lines[0]}; {lines[1]}. Encoding and decoding, and the larger peak of memory: {'; '.join(large)}. A whole "
        f'process `dcae decode` takes {beyond:.1f} s beyond `python -c "import torch"`. By stage, size and number of '
        "threads: [docs/speed/speed.md](docs/speed/speed.md)."
    )
    return f"![Time, memory and stages by picture size](docs/speed/speed.svg)\n\n{_wrapped(text)}\n\n"


def _exact(cost: dict[str, Any]) -> str:
    text = (
        f"Exact arithmetic costs {cost['bd_rate_percent']:+.2f} % BD-rate against the same network in float32 (weights "
        f"{cost['float32_weights']}) and {cost['time_ratio']:.2f} times its time in the entropy model "
        f"({cost['pictures']} pictures, {cost['threads']} threads, `docs/exact_cost.py`)."
    )
    return _wrapped(text) + "\n"


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
