"""The table that an evaluation writes: one row per picture, codec and quality, as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcae.errors import DCAEError
from dcae.eval.metrics import METRICS, Metric
from dcae.files import replacing


@dataclass(frozen=True)
class Row:
    """One picture through one codec at one quality; the columns of the CSV file are these fields, nan is empty."""

    picture: str
    """Name of the picture's file."""
    codec: str
    """Name of the codec as the evaluation labels it; of our models with the first half of the model's id."""
    quality: float
    width: int
    height: int
    bytes: int
    """Size of the whole file."""
    bpp: float
    """Bits of the file per pixel."""
    psnr: float
    """dB over the RGB samples of 8 bits; inf when identical, nan when not asked for."""
    ms_ssim: float
    """0 to 1, on RGB; nan when not asked for, and for pictures with a side below 161 pixels."""
    encode_seconds: float
    """Wall clock, of a loaded picture to bytes."""
    encode_cpu: float
    """CPU seconds of the same, all threads and processes."""
    decode_seconds: float
    decode_cpu: float
    peak_mib: float
    """Most memory resident while encoding and decoding, of the whole process; nan where the system does not tell, and
    for codecs that are programs of their own."""
    measured: str = ""
    """Day and processor, like "2026-11-22 AMD EPYC (family 26 model 2)"; empty in rows of before this column."""

    @property
    def key(self) -> tuple[str, str, float]:
        """Picture, codec and quality that the row is of."""
        return self.picture, self.codec, self.quality

    def has(self, metrics: Iterable[Metric]) -> bool:
        """Whether it holds every value of `metrics` that there is for a picture of its size."""
        return not any(math.isnan(getattr(self, m.field)) and m.applies(self.width, self.height) for m in metrics)

    def completed_by(self, old: Row) -> Row:
        """This row, with the metrics that only `old` has if that is of a file of the same size."""
        if self.bytes != old.bytes:
            return self
        fields = [m.field for m in METRICS.values()]
        return dataclasses.replace(self, **{f: getattr(old, f) for f in fields if math.isnan(getattr(self, f))})


_COLUMNS = [field.name for field in dataclasses.fields(Row)]


def _float(cell: str) -> float:
    return float(cell) if cell else math.nan


_PARSERS: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": _float}


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

    def add(self, rows: Sequence[Row]) -> None:
        """Append rows, or replace those of the same key, and have them on the disk.

        Raises:
            DCAEError: the file cannot be written.
        """
        places = {row.key: k for k, row in enumerate(self.rows)}
        new = []
        for row in rows:
            if row.key in places:
                place = places[row.key]
                self.rows[place] = row.completed_by(self.rows[place])
            else:
                new.append(row)
        self.rows += new
        if len(new) < len(rows):
            self._rewrite()
            return
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                if file.tell() == 0:
                    file.write(_lines([_COLUMNS]))
                file.write(_lines(map(_cells, new)))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DCAEError(f"{self.path}: cannot be written ({error.strerror or error})") from error


def _cells(row: Row) -> list[str]:
    return ["" if value != value else str(value) for value in dataclasses.astuple(row)]


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
    if table and table[0] == _COLUMNS[:-1]:
        table[1:] = [[*cells, ""] for cells in table[1:]]
    elif table and table[0] != _COLUMNS:
        raise DCAEError(f"{path}: a table of something else; choose another folder for the report")
    rows = []
    for number, cells in enumerate(table[1:], 2):
        try:
            rows.append(Row(*(kind(cell) for kind, cell in zip(kinds, cells, strict=True))))
        except ValueError as error:
            raise DCAEError(f"{path}: line {number} is damaged ({error}); delete it or the file") from error
    return rows
