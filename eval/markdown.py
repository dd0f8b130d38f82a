"""Tables and numbers in Markdown, for reports."""

from __future__ import annotations

from collections.abc import Iterable


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """A table in Markdown, its first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *rows])


def number(value: float | None, digits: int) -> str:
    """Text of a number with so many digits after the point; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def seconds(value: float | None) -> str:
    """Text of a time in seconds with three significant digits, but nothing below microseconds; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else f"{value:.6f}"
