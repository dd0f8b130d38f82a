"""Settings of a training run from how they are written, on the command line (text) or in TOML and JSON (values).

Each function takes what is written and gives the value of a setting, or raises ValueError, TypeError or OverflowError
with what is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dcae.networks.config import anchor_lambdas


def whole(value: Any) -> int:
    """A whole number."""
    if isinstance(value, bool) or (isinstance(value, float) and value != int(value)):
        raise ValueError("must be a whole number")
    return int(value)


def number(value: Any) -> float:
    """A number."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return float(value)


def sizes(value: Any) -> tuple[int, ...]:
    """Whole numbers: one, several in a list, or several separated by commas."""
    values = value.split(",") if isinstance(value, str) else value
    return tuple(whole(v) for v in (values if isinstance(values, list | tuple) else [values]))


def span(value: Any) -> tuple[float, ...]:
    """Two numbers, "LOW..HIGH" or a list of both; one stands for both, nothing for none."""
    if isinstance(value, str):
        value = [part for part in value.split("..", 1) if part] if value else []
    found = tuple(number(v) for v in (value if isinstance(value, list | tuple) else [value]))
    if len(found) > 2 or not all(map(math.isfinite, found)) or found != tuple(sorted(found)):
        raise ValueError("a range is LOW..HIGH, two numbers in this order")
    return found * 2 if len(found) == 1 else found


def flag(value: Any) -> bool:
    """Yes or no."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def text(value: Any) -> str:
    """Text as it is."""
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


def table(value: Any) -> dict[str, Any]:
    """A table of TOML, with lists in the place of tuples."""
    if not isinstance(value, Mapping):
        raise ValueError("must be a table")
    return {k: list(v) if isinstance(v, tuple) else v for k, v in value.items()}


def parse_lambdas(value: Any) -> tuple[float, ...]:
    """λ as they are written: a number, several (in a list, or separated by commas), or a range "0.0009..0.115".

    A range becomes anchors an octave apart, both ends included; training draws λ between them as well.
    """
    if isinstance(value, str) and ".." in value:
        low, high = (float(v) for v in value.split("..", 1))
        if not 0 < low < high < float("inf"):
            raise ValueError("a range is LOW..HIGH, two positive numbers in this order")
        return anchor_lambdas(max(2, round(math.log2(high / low)) + 1), low, high)
    if isinstance(value, list | tuple):
        return tuple(sorted(v for part in value for v in parse_lambdas(part)))
    parts = [float(v) for v in value.split(",")] if isinstance(value, str) else [float(value)]
    if any(not 0 < v < float("inf") for v in parts):
        raise ValueError("λ must be positive")
    return tuple(sorted(parts))
