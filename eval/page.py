"""Reports as one HTML page without other files: the frame of the page, its tables, and their cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

DASH = "–"


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    value: float | None = None
    """Number that the column is sorted by; the text where there is none."""
    kind: str = ""
    """Class of the style: "text", "win", "lose", "note"."""
    title: str = ""
    """Shown beside the pointer."""


@dataclass(frozen=True)
class TableRow:
    """Cells, and the class of the whole row."""

    cells: Sequence[Cell]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """What the template's macro writes as a table."""

    header: Sequence[str]
    rows: Sequence[TableRow]
    sortable: bool = True
    name: str = ""
    """Id of the table in the page."""


def text_cell(value: str) -> Cell:
    """A cell of text."""
    return Cell(value, kind="text")


def number_cell(value: float | None, digits: int = 2, sign: str = "", unit: str = "", kind: str = "") -> Cell:
    """A cell of a number with so many digits after the point; a dash for None and nan."""
    if value is None or math.isnan(value):
        return Cell(DASH)
    return Cell(f"{value:{sign}.{digits}f}{unit}", value, kind)


def rendered(package: str, /, **context: object) -> str:
    """The page of a package's template `page.html.j2`, which extends `frame.html.j2` of this folder.

    Args:
        context: `title`, and what else the template names.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ""), PackageLoader("dcae.eval", "")]), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.j2").render(**context)
