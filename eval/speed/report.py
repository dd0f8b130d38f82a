"""What `dcae eval speed` measured, as Markdown."""

from __future__ import annotations

from dcae.eval.markdown import number, seconds, table
from dcae.eval.rivals import RIVALS
from dcae.eval.speed.results import AVIF, DIRECTIONS, OURS, PAPER, TORCH, Results
from dcae.eval.speed.stages import STAGES

_DOING = {"encode": "Encoding", "decode": "Decoding"}


def to_markdown(results: Results) -> str:
    """The report, which shows `speed.svg` beside it."""
    sections = [
        _head(results),
        _failures(results) if results.failures else "",
        _times(results) if results.measurements else "",
        _stages(results) if results.measurements else "",
        _memory(results) if results.measurements else "",
        _odd(results) if results.odd else "",
        _complexity(results) if results.complexity else "",
        _process(results) if results.process else "",
    ]
    return "\n\n".join(s for s in sections if s) + "\n"


def ratio(value: float | None) -> str:
    """3.1 for three times as slow, 1/3.1 for three times as fast, a dash for None."""
    if value is None:
        return "–"
    digits = 1 if max(value, 1 / value) < 100 else 0
    return f"{value:.{digits}f}" if value >= 1 else f"1/{1 / value:.{digits}f}"


def _head(results: Results) -> str:
    rows = [[name, value] for name, value in results.environment.items()]
    runs = f"one run ({results.runs[0]})" if len(results.runs) == 1 else f"{len(results.runs)} runs"
    if len(results.runs) > 1:
        runs += f" ({', '.join(results.runs)}); all codecs of one size and number of threads are of one run"
    text = "# Speed and memory\n\nWritten by `dcae eval speed`"
    return text + (f" from {runs}" if results.runs else "") + ".\n\n" + table(["", ""], rows)


def _failures(results: Results) -> str:
    return "Not measured:\n\n" + "\n".join(f"- {line}" for line in results.failures)


def _times(results: Results) -> str:
    labels = results.labels
    notes = [
        "Every picture is a mosaic of the folder's pictures at their own resolution: portraits turned by 90°, tiles in "
        "rows from the top left, mirrored whenever all have been used, cut to sides that are multiples of 64. Each "
        "measurement runs in a fresh process, where the codecs take turns and the fastest of a few calls counts "
        "(large pictures: of one, the process's first); times are wall clock of the codec, models loaded before, "
        "without loading and writing files. Ours encodes at effort 0, without search. Ratios are ours over the "
        "other's, of the same picture.",
    ]
    if qualities := sorted({m.quality for m in results.measurements if m.codec == AVIF}):
        written = " and ".join(f"{q:g}" for q in qualities)
        notes.append(
            f"{labels[AVIF]} ({RIVALS[AVIF].settings}) is at quality {written}, where its files are as large as "
            "ours. Its number of threads is set through Pillow's `DEFAULT_MAX_THREADS`, for the encoder and the "
            "decoder; how many of them they use is up to libaom and dav1d. Ours are those of ONNX Runtime or torch; "
            "range coding uses one."
        )
    if any(m.codec == TORCH for m in results.measurements):
        notes.append(
            f"{labels[OURS]} is run by the default engine, {labels[TORCH]} by PyTorch; each reads the other's files."
        )
    if any(m.codec == PAPER for m in results.measurements):
        notes.append(
            "`paper` has random weights, for which the network's arithmetic takes the same time as for trained ones; "
            "its file size says nothing, and its range coding sees untypical symbols. It is measured on small pictures "
            "only."
        )
    parts = ["## Time by picture size\n\n![Time, memory and stages by picture size](speed.svg)", *notes]
    for direction in DIRECTIONS:
        parts.append(f"### {_DOING[direction]}\n\n" + _time_table(results, direction))
    return "\n\n".join(parts)


def _time_table(results: Results, direction: str) -> str:
    others = [c for c in (TORCH, AVIF, PAPER) if any(m.codec == c for m in results.measurements)]
    header = ["megapixels", "threads", "bpp", f"{results.labels[OURS]} (s)", "s/MP"]
    header += [f"{results.labels[c]} (s)" for c in others] + [f"ours / {c}" for c in others]
    rows = []
    for threads in results.threads:
        ratios = {c: results.ratios(c, threads, direction) for c in others}
        times = {c: {(m.width, m.height): m.seconds for m in results.find(c, threads, direction)} for c in others}
        for m in results.find(OURS, threads, direction):
            size = (m.width, m.height)
            row = [
                f"{m.megapixels:.3g} ({m.width}x{m.height})",
                str(threads),
                number(8 * m.bytes / m.megapixels / 1e6, 3),
            ]
            row += [seconds(m.seconds), seconds(m.seconds / m.megapixels)]
            row += [seconds(times[c].get(size)) for c in others] + [ratio(ratios[c].get(size)) for c in others]
            rows.append(row)
    return table(header, rows)


def _stages(results: Results) -> str:
    parts = [
        "## Time by stage\n\nSeconds. load: the picture's file to pixels, or the coded file through its checks. "
        "transform: analysis or synthesis. entropy model: hyper analysis, hyper synthesis and slice networks. coding: "
        "symbols, range coder and the check over them. write: container and file, or a PNG at compression level 1. "
        "codec: all between, of codecs that cannot be looked into. other: the rest, such as conversion between "
        "pixels and tensors. Files are in the system's cache, and are not flushed to the disk."
    ]
    for direction in DIRECTIONS:
        used = [s for s in STAGES if any(s in m.stages for m in results.measurements if m.direction == direction)]
        rows = [
            [results.labels[m.codec], str(m.threads), f"{m.megapixels:.3g}"]
            + [seconds(m.stages[s]) if s in m.stages else "" for s in used]
            for m in results.measurements
            if m.direction == direction
        ]
        rows.sort(key=lambda row: list(results.labels.values()).index(row[0]))
        parts.append(f"### {_DOING[direction]}, by stage\n\n" + table(["codec", "threads", "megapixels", *used], rows))
    return "\n\n".join(parts)


def _memory(results: Results) -> str:
    imports = [f"`import {name}` alone takes {number(mib, 0)} MiB" for name, mib in results.baselines.items()]
    columns = [(c, d) for c in results.labels for d in DIRECTIONS if any(m.codec == c for m in results.measurements)]
    rows = []
    for threads in results.threads:
        peaks = {(c, d): {(m.width, m.height): m.peak for m in results.find(c, threads, d)} for c, d in columns}
        sizes = sorted({size for found in peaks.values() for size in found}, key=lambda s: s[0] * s[1])
        for w, h in sizes:
            row = [f"{w * h / 1e6:.3g} ({w}x{h})", str(threads)]
            rows.append([*row, *(number(peaks[key].get((w, h)), 0) for key in columns)])
    return (
        "## Memory\n\nPeak of a process that only encodes, or only decodes, this picture, in MiB; "
        f"{', '.join(imports)}.\n\n"
        + table(["megapixels", "threads", *(f"{results.labels[c]}, {d}" for c, d in columns)], rows)
    )


def _odd(results: Results) -> str:
    rows = [
        [
            f"{s.width}x{s.height}",
            str(s.bytes),
            number(8 * s.bytes / (s.width * s.height), 3),
            "identical" if s.psnr is None else number(s.psnr, 2),
            number(s.encode_peak, 0),
            number(s.decode_peak, 0),
        ]
        for s in results.odd
    ]
    header = ["width x height", "bytes", "bpp", "PSNR (dB)", "encode (MiB)", "decode (MiB)"]
    return (
        f"## Odd sizes\n\n{results.labels[OURS]} at quality {results.environment['quality']}, from file to file in a "
        "process each.\n\n" + table(header, rows)
    )


def _complexity(results: Results) -> str:
    header = ["preset", "parameters", "analysis", "hyper analysis", "hyper synthesis", "slices", "synthesis"]
    rows = [
        [name, f"{c.parameters / 1e6:.2f} M"]
        + [number(v, 1) for v in (c.analysis, c.hyper_analysis, c.hyper_synthesis, c.slices, c.synthesis)]
        + [number(c.encoder, 1), number(c.decoder, 1)]
        for name, c in results.complexity.items()
    ]
    return (
        "## Complexity\n\nIn kMAC per pixel (matrix products and convolutions at 768x512). Encoding runs the analyses, "
        "the hyper synthesis and the slices; decoding runs the hyper synthesis, the slices and the synthesis.\n\n"
        + table([*header, "encoding", "decoding"], rows)
    )


def _process(results: Results) -> str:
    process = results.process
    assert process is not None
    rows = [
        [name, number(value, 2), number(value - process.import_torch, 2)]
        for name, value in (
            ('`python -c "import torch"`', process.import_torch),
            ("`dcae encode`", process.encode),
            ("`dcae decode`", process.decode),
            ("`dcae encode --engine torch`", process.encode_torch),
            ("`dcae decode --engine torch`", process.decode_torch),
        )
        if value is not None
    ]
    return (
        f"## Whole process\n\nFrom start to exit on the folder's first picture, medians of {process.runs} runs that "
        "alternate between the commands, which are as they are typed: encoding is at its default effort. Only the "
        "engine torch imports torch.\n\n" + table(["command", "seconds", "above the import (s)"], rows)
    )
