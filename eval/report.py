"""The results of a benchmark as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from dcae.errors import OptionError
from dcae.eval.bdrate import bd_rate
from dcae.eval.benchmark import PAPER_LABEL, Results, TimeRow
from dcae.eval.rate import Curve, bpp_at
from dcae.eval.rivals import RIVALS

LOW_RATE = 0.6
"""bpp below which the comparison at equal PSNR is made: where JPEG is worst, and small files are wanted."""


def to_json(results: Results) -> str:
    """Everything that was measured, numbers unrounded; an infinite PSNR becomes null."""
    values = asdict(results)
    values["curves"] = {name: [p._asdict() for p in curve] for name, curve in results.curves.items()}
    return json.dumps(_finite(values), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_markdown(results: Results) -> str:
    """The report."""
    sections = [
        _head(results),
        _complexity(results) if results.complexity else "",
        _rate(results) if results.curves else "",
        _sizes(results) if results.sizes else "",
        _times(results) if results.times else "",
        _process(results) if results.process else "",
    ]
    return "\n\n".join(s for s in sections if s) + "\n"


def _table(header: list[str], rows: Iterable[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *rows])


def _number(value: float | None, digits: int, unit: str = "") -> str:
    return "–" if value is None else f"{value:.{digits}f}{unit}"


def _head(results: Results) -> str:
    names = results.pictures
    which = f"one picture, {names[0]}" if len(names) == 1 else f"{len(names)} pictures ({names[0]} to {names[-1]})"
    rows = [[name, value] for name, value in results.environment.items()]
    return (
        "# Benchmark\n\n"
        f"Written by `dcae benchmark` from one run on {which}. Sizes are those of whole files, "
        "PSNR is over the RGB samples of 8-bit decoded pictures, times are wall clock.\n\n" + _table(["", ""], rows)
    )


def _complexity(results: Results) -> str:
    header = ["preset", "parameters", "analysis", "hyper analysis", "hyper synthesis", "slices", "synthesis"]
    rows = [
        [name, f"{c.parameters / 1e6:.2f} M"]
        + [_number(v, 1) for v in (c.analysis, c.hyper_analysis, c.hyper_synthesis, c.slices, c.synthesis)]
        + [_number(c.encoder, 1), _number(c.decoder, 1)]
        for name, c in results.complexity.items()
    ]
    return (
        "## Complexity\n\nIn kMAC per pixel (matrix products and convolutions at 768x512). Encoding runs the analyses, "
        "the hyper synthesis and the slices; decoding runs the hyper synthesis, the slices and the synthesis.\n\n"
        + _table([*header, "encoding", "decoding"], rows)
    )


def _rate(results: Results) -> str:
    labels = {"dcae": results.label} | {name: rival.label for name, rival in RIVALS.items()}
    settings = "\n".join(f"- {r.label}: {r.settings} (Pillow)" for n, r in RIVALS.items() if n in results.curves)
    rows = [
        [
            labels[name] if k == 0 else "",
            f"{point.quality:g}",
            _number(point.bpp, 4),
            _number(point.psnr, 2),
            _number(point.ms_ssim if math.isfinite(point.ms_ssim) else None, 4),
        ]
        for name, curve in results.curves.items()
        for k, point in enumerate(curve)
    ]
    parts = [
        f"## Rate and distortion\n\nMeans over the pictures at each quality.\n\n{settings}",
        _table(["codec", "quality", "bpp", "PSNR (dB)", "MS-SSIM"], rows),
        _bd_rates(results, labels),
        _equal_psnr(results, labels),
    ]
    return "\n\n".join(p for p in parts if p)


def _bd_rates(results: Results, labels: dict[str, str]) -> str:
    rows = []
    for name in (n for n in results.curves if n != "dcae"):
        row = [labels[name]]
        for metric in ("psnr", "ms_ssim_db"):
            ours, theirs = (
                [(p.bpp, getattr(p, metric)) for p in results.curves[n] if math.isfinite(getattr(p, metric))]
                for n in ("dcae", name)
            )
            try:
                found = bd_rate(theirs, ours)
                row.append(f"{found.percent:+.1f} % ({found.low:.1f} to {found.high:.1f} dB)")
            except OptionError as error:
                row.append(f"– ({error})")
        rows.append(row)
    if not rows:
        return ""
    return (
        f"### BD-rate of {results.label}\n\nBytes more (+) or fewer (-) than the other codec's at equal quality, over "
        "the range both curves cover: averaged curves, Akima interpolation (package `bjontegaard`); MS-SSIM in dB, "
        "-10 log10(1 - mean).\n\n" + _table(["over", "PSNR", "MS-SSIM"], rows)
    )


def _equal_psnr(results: Results, labels: dict[str, str]) -> str:
    rivals = [name for name in results.curves if name != "dcae"]
    low: Curve = [p for p in results.curves["dcae"] if p.bpp < LOW_RATE]
    if not rivals or not low:
        return ""
    header = ["quality", "PSNR (dB)", "bpp", "bytes"]
    for name in rivals:
        header += [f"{labels[name]}, bytes", "saved"]
    rows = []
    for point in low:
        row = [f"{point.quality:g}", _number(point.psnr, 2), _number(point.bpp, 4)]
        row.append(_number(point.bpp * results.mean_pixels / 8, 0))
        for name in rivals:
            theirs = bpp_at(results.curves[name], point.psnr)
            row.append(_number(theirs and theirs * results.mean_pixels / 8, 0))
            row.append(_number(theirs and 100 * (1 - point.bpp / theirs), 1, " %"))
        rows.append(row)
    return (
        f"### Bytes at equal PSNR\n\n{results.label} below {LOW_RATE} bpp, against what the others need for the same "
        "PSNR: bytes per picture on the averaged curves, the logarithm of the rate interpolated over PSNR "
        "linearly. A dash means that a curve does not reach this PSNR.\n\n" + _table(header, rows)
    )


def _sizes(results: Results) -> str:
    rows = [
        [
            f"{r.width}x{r.height}",
            str(r.bytes),
            _number(8 * r.bytes / (r.width * r.height), 3),
            "identical" if r.psnr is None else _number(r.psnr, 2),
            _number(r.encode, 3),
            _number(r.decode, 3),
            _number(r.encode_peak, 0),
            _number(r.decode_peak, 0),
        ]
        for r in results.sizes
    ]
    header = ["width x height", "bytes", "bpp", "PSNR (dB)", "encode (s)", "decode (s)"]
    return (
        "## Sizes\n\n"
        f"{results.label} at quality {results.quality:g}. Every picture is a "
        "mosaic of the folder's pictures at their own resolution: portraits turned by 90°, tiles in rows from the top "
        "left, mirrored whenever all have been used, cut to size. Encoder and decoder run in a fresh process each; "
        "times are of the first call, without loading the model; memory is the peak of the process.\n\n"
        + _table([*header, "encode (MiB)", "decode (MiB)"], rows)
    )


def _times(results: Results) -> str:
    rows = [
        [
            r.codec,
            f"{r.quality:g}",
            str(r.pictures),
            _number(r.bpp, 3),
            _number(r.encode, 3),
            _number(r.decode, 3),
            _number(r.encode_peak, 0),
            _number(r.decode_peak, 0),
        ]
        for r in results.times
    ]
    header = ["codec", "quality", "pictures", "bpp", "encode (s)", "decode (s)", "encode (MiB)", "decode (MiB)"]
    imports = [f"`import {name}` alone takes {_number(mib, 0)} MiB" for name, mib in results.baselines.items()]
    by_name = {r.codec: r for r in results.times}
    text = (
        "## Time and memory\n\nOne picture in memory to the bytes of a file and back, networks and coding together, "
        "models loaded before; the median over the pictures of each picture's fastest run. Memory is the peak "
        f"of a process that only encodes, or only decodes, all of them; {', '.join(imports)}.\n\n"
        + _table(header, rows)
    )
    if paper := by_name.get(PAPER_LABEL):
        text += (
            "\n\n`paper` has random weights, for which the network's arithmetic takes the same time as for trained "
            "ones; its file size says nothing, and its range coding, well below one percent of its time, sees "
            "untypical symbols."
        )
        text += "\n\n" + _ratio(by_name[results.label], paper, " (goal for decoding: at most 1/8)")
    for row in results.times[1:]:
        if row is not paper:
            text += "\n\n" + _ratio(by_name[results.label], row, "")
    return text


def _ratio(ours: TimeRow, theirs: TimeRow, goal: str) -> str:
    encode = ours.encode_per_megapixel / theirs.encode_per_megapixel
    decode = ours.decode_per_megapixel / theirs.decode_per_megapixel
    return (
        f"Time of {ours.codec} relative to {theirs.codec}: encoding {_times_or_part(encode)}, "
        f"decoding {_times_or_part(decode)}{goal}."
    )


def _times_or_part(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio >= 1 else f"1/{1 / ratio:.1f}"


def _process(results: Results) -> str:
    process = results.process
    assert process is not None
    rows = [
        [name, _number(seconds, 2), _number(seconds - process.import_torch, 2)]
        for name, seconds in (
            ('`python -c "import torch"`', process.import_torch),
            ("`dcae encode`", process.encode),
            ("`dcae decode`", process.decode),
        )
    ]
    return (
        f"## Whole process\n\nFrom start to exit on {results.pictures[0]}, medians of {process.runs} runs that "
        "alternate between the commands (goal for decoding: at most 1.0 s above the import).\n\n"
        + _table(["command", "seconds", "above the import (s)"], rows)
    )
