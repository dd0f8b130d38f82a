"""Write README's results from what `dcae eval rd`, `dcae eval speed` and `exact_cost.py` left in docs.

    python tools/refresh_readme.py

Every folder of docs/rd is the report of one set of pictures. Nothing in those sections is written by hand; a test
compares them.
"""

from __future__ import annotations

import json
import math
import textwrap
from pathlib import Path
from typing import Any

from dcae.eval.markdown import number, seconds, table

README = Path(__file__).parent.parent / "README.md"
DOCS = README.parent / "docs"
_RIVALS_AT_EQUAL_PSNR = ("jpeg", "webp", "avif-psnr", "avif-s4-psnr", "avif")
_NAMES = {"psnr": "PSNR", "ms-ssim": "MS-SSIM"}
_SETS = {"kodak": "Kodak", "large": "large photographs"}
"""What sets of pictures are called, where it is not the name of their folder."""

_Summary = dict[str, Any]


def main() -> None:
    README.write_text(refreshed(README.read_text(encoding="utf-8")), encoding="utf-8")


def refreshed(text: str) -> str:
    """`text` with the section between its markers replaced."""
    begin, end = "<!-- results: begin -->\n", "<!-- results: end -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    if not tail:
        raise SystemExit(f"{README}: the markers {begin.strip()} and {end} are missing")
    sets = {path.parent.name: _json(path) for path in sorted((DOCS / "rd").glob("*/summary.json"))}
    speed, cost = _json(DOCS / "speed" / "speed.json"), _json(DOCS / "exact_cost.json")
    return head + begin + rate_distortion(sets) + _speed(speed) + _exact(cost) + end + tail


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.0f} %".replace("+0 %", "0 %").replace("-0 %", "0 %")


def _metrics(summary: _Summary) -> list[str]:
    return list(dict.fromkeys(c["metric"] for c in summary["bd_rate_of_ours_over"]))


def _over(summary: _Summary, metric: str) -> dict[str, _Summary]:
    """Comparisons of ours over every other codec."""
    return {c["codec"]: c for c in summary["bd_rate_of_ours_over"] if c["metric"] == metric}


def _encode(summary: _Summary, codec: str) -> float:
    times = summary["cpu_seconds_per_megapixel"].get(codec)
    return float(times["encode"]) if times else math.nan


def rate_distortion(sets: dict[str, _Summary]) -> str:
    """The section of the sets of pictures, the first of which is shown in full."""
    name, first = next(iter(sets.items()))
    sentences = [headline(_SETS.get(name, name), summary) for name, summary in sets.items()]
    parts = [
        f"![Rate and distortion](docs/rd/{name}/rd-psnr.svg) ![Bytes and time](docs/rd/{name}/time-encode.svg)",
        *map(_wrapped, sentences),
        _wrapped(_what(sets)),
        _versus(sets),
        _wrapped("Settings: " + "; ".join(f"{first['labels'][c]}: {s}" for c, s in first["settings"].items()) + "."),
    ]
    if any(s["variants"] for s in sets.values()):
        parts += ["What settings gain or cost, and their time as a multiple:", _variants(sets)]
    anchor = first["labels"][first["anchor"]]
    parts += [
        f"All over {anchor} on {_SETS.get(name, name)}; published points as their authors printed them:",
        _ranking(first),
        *(part for name, summary in sets.items() for part in _equal(_SETS.get(name, name), summary)),
    ]
    return "\n\n".join(parts) + "\n\n"


def headline(name: str, summary: _Summary) -> str:
    """What stands where our encoding time is, and what is best at any speed, by every metric."""
    own, time = summary["labels"][summary["ours"]], _encode(summary, summary["ours"])
    parts = []
    for metric in _metrics(summary):
        over = {c: o for c, o in _over(summary, metric).items() if not c.startswith("dcae ")}  # not our other models
        found = {c: o["percent"] for c, o in over.items() if o["percent"] is not None}
        if not found:
            continue
        strength = found | _on_all_pictures(summary, metric, found)
        strongest = max(strength, key=strength.__getitem__)
        fast = [c for c in strength if _encode(summary, c) <= time]
        near = max(fast, key=strength.__getitem__) if fast else min(found, key=lambda c: _encode(summary, c))
        what = "the strongest of the others that encode in no more CPU time" if fast else "the fastest of the others"
        text = f"by {_NAMES.get(metric, metric)} {_than(found[near])} {summary['labels'][near]}"
        text += f"{_mean_of_each(over[near])}, {what}"
        text += f" ({seconds(_encode(summary, near))} s per megapixel, ours {seconds(time)})"
        if strongest == near:
            text += ", and the strongest at any speed"
        else:
            at = seconds(_encode(summary, strongest))
            text += f", and {_than(found[strongest])} {summary['labels'][strongest]}, the strongest at any speed ({at})"
        parts.append(text)
    return f"**{name[:1].upper() + name[1:]}** ({len(summary['pictures'])} pictures): {own} needs {'; '.join(parts)}."


def _mean_of_each(comparison: _Summary) -> str:
    """The mean of the pictures' own BD-rates, where it is another number than that of the averaged curves, in which
    pictures that need many bytes weigh most."""
    own = list((comparison["per_picture"] or {}).values())
    mean = math.fsum(own) / len(own) if own else comparison["percent"]
    return "" if abs(mean - comparison["percent"]) < 2 else f" ({_percent(mean)} as the mean of each picture's)"


def _on_all_pictures(summary: _Summary, metric: str, found: dict[str, float]) -> dict[str, float]:
    """About what `found`, ours over the others, is on all pictures for codecs that were measured on some: by way of the
    anchor, over which they are on their pictures what they would be on all."""
    over = {c["codec"]: c["percent"] for c in summary["bd_rate_over_anchor"] if c["metric"] == metric}
    ours = found.get(summary["anchor"])
    sampled = [c for c in summary.get("sampled", ()) if c in found and over.get(c) is not None]
    return {} if ours is None else {c: 100 * ((100 + ours) / (100 + over[c]) - 1) for c in sampled}


def _than(percent: float) -> str:
    whole = round(percent)
    if whole == 0:
        return "as many bytes as"
    return f"{abs(whole)} % {'fewer' if whole < 0 else 'more'} bytes than"


def _what(sets: dict[str, _Summary]) -> str:
    which = "; ".join(
        f"{_SETS.get(name, name)}: {len(s['pictures'])} pictures ({s['pictures'][0]} to {s['pictures'][-1]}), "
        f"{s['labels'][s['ours']]}, {s['environment']['date']}"
        for name, s in sets.items()
    )
    return (
        f"Real files. {which}. BD-rate of ours over the others: bytes more (+) or fewer (-) at equal quality on the "
        "averaged curves, and the number of pictures on which ours needs fewer by itself"
        f"{_fewer(any(s.get('sampled') for s in sets.values()))}. Times are CPU seconds per "
        f"megapixel on {next(iter(sets.values()))['environment']['processor']}, all threads and processes together, "
        "at the qualities where PSNR is ours:"
    )


def _fewer(sampled: bool) -> str:
    """Why there are fewer pictures than a set has behind some codecs."""
    uneven = "where quality does not rise with the bytes of a picture it has no BD-rate"
    return f" (fewer in all, of codecs that were measured on a sample; and {uneven})" if sampled else f" ({uneven})"


def _versus(sets: dict[str, _Summary]) -> str:
    header = ["over", "encode", "decode"]
    header += [f"{_SETS.get(n, n)}, {_NAMES.get(m, m)}" for n, s in sets.items() for m in _metrics(s)]
    codecs = list(dict.fromkeys(c["codec"] for s in sets.values() for c in s["bd_rate_of_ours_over"]))
    rows = []
    for codec in codecs:
        labels = next(s["labels"] for s in sets.values() if codec in s["labels"])
        times = next(s["cpu_seconds_per_megapixel"][codec] for s in sets.values() if codec in s["labels"])
        row = [labels[codec], seconds(times["encode"]), seconds(times["decode"])]
        for s in sets.values():
            row += [_better(_over(s, metric).get(codec)) for metric in _metrics(s)]
        rows.append(row)
    times = next(iter(sets.values()))
    times = times["cpu_seconds_per_megapixel"][times["ours"]]
    ours = ["**ours**", seconds(times["encode"]), seconds(times["decode"]), *["–"] * (len(header) - 3)]
    return table(header, [ours, *rows])


def _better(c: _Summary | None) -> str:
    if c is None or c["percent"] is None:
        return "–"
    own = (c["per_picture"] or {}).values()
    return f"{_percent(c['percent'])} ({sum(v < 0 for v in own)} of {len(own)})"


def _variants(sets: dict[str, _Summary]) -> str:
    header = [""]
    sets = {name: summary for name, summary in sets.items() if summary["variants"]}
    for name, summary in sets.items():
        title = _SETS.get(name, name)
        header += [f"{title}, {what}" for what in (*(_NAMES.get(m, m) for m in _metrics(summary)), "encode", "decode")]
    found = {n: {(v["codec"], v["over"]): v for v in s["variants"]} for n, s in sets.items()}
    rows = []
    for pair in dict.fromkeys(pair for of in found.values() for pair in of):
        labels = next(s["labels"] for name, s in sets.items() if pair in found[name])
        row = [f"{labels[pair[0]]} over {labels[pair[1]]}"]
        for name, summary in sets.items():
            v, metrics = found[name].get(pair), _metrics(summary)
            row += ["–"] * (len(metrics) + 2) if v is None else [
                *(_percent(v["percent"].get(m)) for m in metrics), number(v["encode"], 1), number(v["decode"], 1)
            ]  # fmt: skip
        rows.append(row)
    return table(header, rows)


def _ranking(summary: _Summary) -> str:
    labels, anchor, metrics = summary["labels"], summary["anchor"], _metrics(summary)
    found = {(c["codec"], c["metric"]): c["percent"] for c in summary["bd_rate_over_anchor"]}
    found |= {(anchor, metric): 0.0 for metric in metrics}
    rows = []
    for codec in sorted({codec for codec, _ in found}, key=lambda codec: found.get((codec, "psnr")) or 0.0):
        name = labels.get(codec, f"{codec.split(',')[0].split(' (')[0]}, published")
        row = [name, *(_percent(found.get((codec, metric))) for metric in metrics)]
        rows.append([f"**{cell}**" for cell in row] if codec == summary["ours"] else row)
    return table(["codec", *(_NAMES.get(m, m) for m in metrics)], rows)


def _equal(name: str, summary: _Summary) -> list[str]:
    codecs = [c for c in _RIVALS_AT_EQUAL_PSNR if c in summary["labels"] and c not in summary.get("sampled", ())]
    rows = [
        [f"{p['quality']:g}", f"{p['bpp']:.3f}", f"{p['psnr']:.2f}", *(_percent(p["saved"].get(c)) for c in codecs)]
        for p in summary["bytes_saved_at_equal_psnr"]
    ]
    header = ["quality", "bpp", "PSNR (dB)", *(summary["labels"][c] for c in codecs)]
    return [f"Bytes saved at equal PSNR on {name}, by quality:", table(header, rows)]


def _wrapped(text: str) -> str:
    text = text.replace(" %", "\N{NO-BREAK SPACE}%")
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False).replace("\N{NO-BREAK SPACE}", " ")


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
        plain = " at effort 0" if direction == "encode" else ""
        lines.append(
            f"{verb}{plain} {ours:.2f} s, 1/{times['paper'] / ours:.0f} of the time of `paper` and "
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
    whole = f"A whole process `dcae decode` takes {process['decode']:.1f} s"
    if process.get("decode_torch") is None:  # measured when PyTorch was the default
        whole += f" ({process['import_torch']:.1f} of them to import torch)"
    else:
        whole += f", with `--engine torch` {process['decode_torch']:.1f} s"
    environment = results["environment"]
    text = (
        f"One run of `dcae eval speed` of {environment['model'].split(' (')[0]} on {environment['processor']}, "
        f"{threads} thread{'s' * (threads > 1)}, {small / 1e6:.2g} megapixels: "
        f"{lines[0]}; {lines[1]}. Encoding and decoding, and the larger peak of memory: {'; '.join(large)}. "
        f"{whole}. By stage, size and number of threads: [docs/speed/speed.md](docs/speed/speed.md)."
    )
    return f"![Time, memory and stages by picture size](docs/speed/speed.svg)\n\n{_wrapped(text)}\n\n"


def _exact(cost: dict[str, Any]) -> str:
    text = (
        f"Exact arithmetic (measured with {cost['name']}) "
        f"costs {cost['bd_rate_percent']:+.2f} % BD-rate against the same network in float32 (weights "
        f"{cost['float32_weights']}) and {cost['time_ratio']:.2f} times its time in the entropy model "
        f"({cost['pictures']} pictures, {cost['threads']} threads, `tools/exact_cost.py`)."
    )
    return _wrapped(text) + "\n"


def _size(m: dict[str, Any]) -> int:
    return int(m["width"] * m["height"])


def _seconds(m: dict[str, Any]) -> float:
    """Time of the codec alone, as in the report."""
    return float(sum(s for stage, s in m["stages"].items() if stage not in ("load", "write")))


def _of(results: dict[str, Any], threads: int, size: int, direction: str, codec: str = "") -> list[dict[str, Any]]:
    return [
        m
        for m in results["measurements"]
        if (m["threads"], _size(m), m["direction"]) == (threads, size, direction) and codec in ("", m["codec"])
    ]


if __name__ == "__main__":
    main()
