"""Curves that others published, to be drawn beside what was measured here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dcae.errors import OptionError
from dcae.eval.metrics import METRICS

_ALIASES = {"psnr-rgb": "psnr", "ms-ssim-rgb": "ms-ssim"}
"""What CompressAI's own tools call metrics."""
_FOLDER = Path(__file__).parent / "published"


@dataclass(frozen=True)
class PublishedCurve:
    """Points as published; nothing about them was measured here."""

    name: str
    source: str
    bpp: tuple[float, ...]
    """Bits per pixel, rising."""
    values: dict[str, tuple[float, ...]]
    """Values by metric, in the units of `dcae.eval.metrics`: "psnr" in dB, "ms-ssim" from 0 to 1."""


def published(name: str, pictures: Iterable[str]) -> list[PublishedCurve]:
    """The curves of a set.

    Args:
        name: "kodak", the set that the package brings (means over the 24 Kodak pictures), or a JSON file in the layout
            of CompressAI's `results/`: an object with `name` and `results`, or a list of such objects.
        pictures: names of those that the curves are going to stand beside.

    Raises:
        OptionError: no such set or file, not in that layout, or "kodak" beside anything but all Kodak pictures, whose
            means they are.
    """
    if name == "kodak" and {Path(p).stem for p in pictures} != {f"kodim{k:02}" for k in range(1, 25)}:
        raise OptionError(
            "--published kodak: those curves are means over the 24 Kodak pictures (kodim01 to kodim24) and mean "
            "nothing beside others; leave it out"
        )
    bundled = {path.stem: path for path in sorted(_FOLDER.glob("*.json"))}
    path = bundled.get(name, Path(name))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(
            f"--published {name}: neither one of {', '.join(bundled)} nor a readable JSON file ({error})"
        ) from error
    try:
        return [_curve(entry) for entry in (content if isinstance(content, list) else [content])]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OptionError(
            f'{path}: not in the layout of CompressAI\'s results, {{"name": ..., "results": {{"bpp": [...], '
            f'"psnr": [...]}}}} ({type(error).__name__}: {error})'
        ) from error


def _curve(entry: dict[str, object]) -> PublishedCurve:
    results = entry["results"]
    if not isinstance(results, dict):
        raise TypeError("`results` is no object")
    columns = {
        name: [math.nan if v is None else float(v) for v in values]
        for name, values in results.items()
        if isinstance(values, list)
    }
    order = sorted(range(len(columns["bpp"])), key=columns["bpp"].__getitem__)
    values = {
        _ALIASES.get(name, name): tuple(column[k] for k in order)
        for name, column in columns.items()
        if name != "bpp" and len(column) == len(order)
    }
    if not values.keys() & METRICS.keys():
        raise ValueError(f"no metric of {', '.join(METRICS)}")
    return PublishedCurve(
        str(entry["name"]), str(entry.get("description", "")), tuple(columns["bpp"][k] for k in order), values
    )
