"""The table that an evaluation writes: one row per picture, codec and quality, as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dcae.errors import DCAEError
from dcae.files import replacing


@dataclass(frozen=True)
class Row:
    """One picture through one codec at one quality; the columns of the CSV file are these fields."""

    picture: str
    """Name of the picture's file."""
    codec: str
    """As the evaluation labels it; of our models with the first half of the model's id."""
    quality: float
    width: int
    height: int
    bytes: int
    """Of the whole file."""
    bpp: float
    """Bits of the file per pixel."""
    psnr: float
    """dB over the RGB samples of 8 bits; inf when identical."""
    ms_ssim: float
    """0 to 1, on RGB; nan for pictures with a side below 161 pixels."""
    encode_seconds: float
    """Wall clock, of a loaded picture to bytes."""
    encode_cpu: float
    """CPU seconds of the same, all threads."""
    decode_seconds: float
    decode_cpu: float
    peak_mib: float
    """Most memory resident while encoding and decoding, of the whole process; nan where the system does not tell."""

    @property
    def key(self) -> tuple[str, str, float]:
        """What a row measures."""
        return self.picture, self.codec, self.quality


_COLUMNS = [field.name for field in dataclasses.fields(Row)]
_PARSERS = {"str": str, "int": int, "float": float}


class Table:
    """Rows in a CSV file, appended as they are measured, so that an interrupted evaluation keeps them.

    Args:
        path: read if it exists.

    Raises:
        DCAEError: it exists and is no such table, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        if path.exists():
            self.rows = _read(path)
            self._rewrite()  # without the half line that a kill may have left

    def _rewrite(self) -> None:
        with replacing(self.path) as file:
            file.write(_lines([_COLUMNS, *map(_cells, self.rows)]).encode())

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows and have them on the disk.

        Raises:
            DCAEError: the file cannot be written.
        """
        rows = list(rows)
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                if file.tell() == 0:
                    file.write(_lines([_COLUMNS]))
                file.write(_lines(map(_cells, rows)))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DCAEError(f"{self.path}: cannot be written ({error.strerror or error})") from error
        self.rows += rows


def _cells(row: Row) -> list[str]:
    return [str(v) for v in dataclasses.astuple(row)]


def _lines(rows: Iterable[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _read(path: Path) -> list[Row]:
    kinds = [_PARSERS[str(field.type)] for field in dataclasses.fields(Row)]
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise DCAEError(f"{path}: cannot be read ({error})") from error
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    table = list(csv.reader(lines))
    if table and table[0] != _COLUMNS:
        raise DCAEError(f"{path}: a table of something else; choose another folder for the report")
    rows = []
    for number, cells in enumerate(table[1:], 2):
        try:
            rows.append(Row(*(kind(cell) for kind, cell in zip(kinds, cells, strict=True))))
        except ValueError as error:
            raise DCAEError(f"{path}: line {number} is damaged ({error}); delete it or the file") from error
    return rows


def mean_curves(rows: Iterable[Row]) -> dict[str, list[dict[str, float]]]:
    """Per codec the mean over pictures at each quality, in the order of rising rate.

    Only qualities measured on every picture of the codec count, so that points are comparable.
    """
    by_codec: dict[str, dict[float, dict[str, Row]]] = {}
    for row in rows:
        by_codec.setdefault(row.codec, {}).setdefault(row.quality, {})[row.picture] = row
    curves: dict[str, list[dict[str, float]]] = {}
    for codec, qualities in by_codec.items():
        pictures = set().union(*(set(found) for found in qualities.values()))
        points = []
        for quality, found in qualities.items():
            if set(found) != pictures:
                continue
            point = {"quality": quality}
            for name in ("bpp", "psnr", "ms_ssim", "encode_seconds", "decode_seconds"):
                point[name] = math.fsum(getattr(r, name) for r in found.values()) / len(found)
            points.append(point)
        curves[codec] = sorted(points, key=lambda p: p["bpp"])
    return curves
