"""Results that others published for the field's sets of pictures, for a table of their own beside what is measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dcae.sr.evaluation import in_columns

SETS = ("Set5", "Set14", "B100", "Urban100", "Manga109")
_FILE = Path(__file__).with_name("published.json")
_DASH = "-"


@dataclass(frozen=True)
class Published:
    """Results of one method; nothing about them was measured here."""

    method: str
    size: str
    """Parameters, or bytes of tables, as its authors write them; may be empty."""
    kmacs: float | None
    """Thousand multiplications with addition per pixel of the enlarged picture, of a picture of 1280x720."""
    source: str
    """Where the numbers were read."""
    results: dict[str, list[float]]
    """Set of pictures -> PSNR of Y in dB and, where it was given, SSIM of Y."""

    def cells(self) -> list[str]:
        """Method, size, complexity, and "PSNR / SSIM" of every set."""
        found = [self.results.get(name, []) for name in SETS]
        scores = [" / ".join(f"{v:.{2 if k == 0 else 4}f}" for k, v in enumerate(pair)) or _DASH for pair in found]
        return [self.method, self.size or _DASH, _DASH if self.kmacs is None else f"{self.kmacs:g}", *scores]


HEADER = ("method", "size", "kMAC/px", *SETS)


def published(scale: int) -> list[Published]:
    """The methods that results at a scale are known of."""
    content = json.loads(_FILE.read_text(encoding="utf-8"))
    return [
        Published(r["method"], r["size"], r["kmacs"], content["sources"][r["source"]], r["results"])
        for r in content["results"]
        if r["scale"] == scale
    ]


def published_text(scale: int) -> str:
    """The methods as text in columns, and the sources."""
    methods = published(scale)
    lines = in_columns([HEADER, *(tuple(method.cells()) for method in methods)])
    named: dict[str, list[str]] = {}
    for method in methods:
        named.setdefault(method.source, []).append(method.method)
    sources = "; ".join(f"{', '.join(names)}: {source}" for source, names in named.items())
    return f"published, on other pictures (PSNR / SSIM of Y, x{scale}):\n{lines}\n{sources}"
