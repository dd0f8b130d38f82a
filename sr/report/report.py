"""The report of the field's protocol as one HTML page: means, published results, two upscalers side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from dcae.eval.crops import Box, Crop, cut, disagreement
from dcae.eval.environment import environment
from dcae.eval.page import Cell, Table, TableRow, number_cell, rendered, text_cell
from dcae.sr.evaluation import Row, load_rgb, restored
from dcae.sr.protocol.scores import luma, psnr
from dcae.sr.report.published import HEADER, published
from dcae.sr.upscalers import Upscaler


@dataclass(frozen=True)
class Strip:
    """One region of one picture: the original, then what every upscaler makes of it."""

    picture: str
    why: str
    """Why this picture is shown."""
    box: Box
    crops: tuple[Crop, ...]


def page(rows: Sequence[Row], strips: Sequence[Strip]) -> str:
    """The whole page.

    Args:
        rows: of one scale and kernel, all pictures of every upscaler; gains are over the first one's.
    """
    models = list(dict.fromkeys(row.model for row in rows))
    pictures = list(dict.fromkeys(row.picture for row in rows))
    scale = rows[0].scale
    others = published(scale)
    return rendered(
        "dcae.sr.report",
        title=f"Enlarging {len(pictures)} pictures by {scale}",
        scale=scale,
        kernel=rows[0].kernel,
        models=models,
        means=_means(rows, models),
        published=Table(
            [*HEADER, "source"],
            [
                TableRow([*(_parsed(text) for text in other.cells()), Cell(other.source, kind="text note")])
                for other in others
            ],
        ),
        strips=strips,
        every_picture=_every(rows, models[0]),
        filters=[(0, "picture", pictures), (2, "model", models)],
        environment={"date": datetime.now(timezone.utc).date().isoformat()} | environment(),
    )


def _parsed(text: str) -> Cell:
    """A cell of "33.11", "33.11 / 0.9" or other text, sorted by its number."""
    if text == "-":
        return number_cell(None)
    first = text.split(" / ")[0]
    return Cell(text, float(first)) if first.replace(".", "", 1).isdigit() else text_cell(text)


def gains(rows: Sequence[Row], model: str, over: str) -> dict[str, float]:
    """dB of Y that a model gains over another one, by picture; those that both restore without error are 0."""
    by = {(row.picture, row.model): row.psnr_y for row in rows}
    pairs = {p: (value, by[p, over]) for (p, name), value in by.items() if name == model}
    return {p: 0.0 if mine == theirs else mine - theirs for p, (mine, theirs) in pairs.items()}


def _means(rows: Sequence[Row], models: Sequence[str]) -> Table:
    first = models[0]
    header = ["model", "PSNR Y (dB)", "SSIM Y", "PSNR RGB (dB)", f"gain over {first} (dB)", "smallest", "largest"]
    header += ["better on", "s/MP", "parameters", "kMAC/px"]
    found = []
    for model in models:
        own = [row for row in rows if row.model == model]
        similar = [row.ssim_y for row in own if row.ssim_y is not None]
        megapixels = sum(row.width * row.height for row in own) / 1e6
        cells = [
            text_cell(model), number_cell(float(np.mean([row.psnr_y for row in own])), 3),
            number_cell(float(np.mean(similar)) if similar else None, 4),
            number_cell(float(np.mean([row.psnr_rgb for row in own])), 3), *_gain_cells(rows, model, first),
            number_cell(sum(row.seconds for row in own) / megapixels, 3), number_cell(own[0].parameters, 0),
            number_cell(own[0].kmacs, 3),
        ]  # fmt: skip
        found.append(TableRow(cells))
    return Table(header, found)


def _gain_cells(rows: Sequence[Row], model: str, first: str) -> list[Cell]:
    if model == first:
        return [number_cell(None)] * 4
    found = list(gains(rows, model, first).values())
    mean, wins = float(np.mean(found)), sum(gain > 0 for gain in found)
    return [
        number_cell(mean, 3, "+", kind="win" if mean > 0 else "lose"), number_cell(min(found), 2, "+"),
        number_cell(max(found), 2, "+"), Cell(f"{wins} of {len(found)}", wins),
    ]  # fmt: skip


def _every(rows: Sequence[Row], first: str) -> Table:
    header = ["picture", "size", "model", "PSNR Y (dB)", f"gain over {first} (dB)", "SSIM Y", "PSNR RGB (dB)", "s/MP"]
    by = {model: gains(rows, model, first) for model in {row.model for row in rows}}
    found = []
    for row in rows:
        megapixels = row.width * row.height / 1e6
        gain = None if row.model == first else by[row.model][row.picture]
        found.append(TableRow([
            text_cell(row.picture), Cell(f"{row.width}x{row.height}", megapixels), text_cell(row.model),
            number_cell(row.psnr_y, 3), number_cell(gain, 3, "+", kind="win" if gain and gain > 0 else "lose"),
            number_cell(row.ssim_y, 4), number_cell(row.psnr_rgb, 3), number_cell(row.seconds / megapixels, 3),
        ]))  # fmt: skip
    return Table(header, found, name="rows")


def strips_of(
    rows: Sequence[Row],
    paths: Mapping[str, str],
    upscalers: Sequence[Upscaler],
    kernel: str,
    say: Callable[[str], None],
) -> list[Strip]:
    """The best, the middle and the worst picture of the second upscaler against the first; none of a single one.

    Args:
        paths: of the rows' pictures, by name.
        upscalers: in the order of the rows; all are shown.
        say: told what is under way.
    """
    if len(upscalers) < 2:
        return []
    a, b = upscalers[:2]
    gain = gains(rows, b.name, a.name)
    ranked = sorted(gain, key=gain.__getitem__)
    places = {ranked[-1]: "best", ranked[0]: "worst", ranked[len(ranked) // 2]: "middle"}
    found = []
    for name, place in sorted(places.items(), key=lambda p: ("best", "middle", "worst").index(p[1])):
        say(f"crops of {name}")
        why = f"{place} of {len(ranked)} for {b.name}: {gain[name]:+.2f} dB of Y over {a.name}"
        found.append(_strip(name, paths[name], why, upscalers, kernel))
    return found


def _strip(name: str, path: str, why: str, upscalers: Sequence[Upscaler], kernel: str) -> Strip:
    pixels = load_rgb(path)
    results = [restored(pixels, upscaler, kernel) for upscaler in upscalers]
    reference, scale = results[0][0], upscalers[0].scale
    box = disagreement(reference, results[0][1], results[1][1])
    inside = slice(scale, -scale)
    crops = [Crop("original", cut(reference, box), float("inf"))]
    for upscaler, (_, enlarged, _) in zip(upscalers, results, strict=True):
        value = psnr(luma(reference[inside, inside]), luma(enlarged[inside, inside]))
        crops.append(Crop(upscaler.name, cut(enlarged, box), value))
    return Strip(name, why, box, tuple(crops))
