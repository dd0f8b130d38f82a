"""Checks that configurations share, of networks as of training runs: what is refused, and in which words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable

from dcae.errors import OptionError


def check_names(names: Iterable[str], kind: type, what: str) -> None:
    """Refuse names that are no fields of the dataclass `kind`.

    Args:
        what: what has such names, for the message: "settings".

    Raises:
        OptionError: there are some.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    if unknown := sorted(set(names) - set(known)):
        shown = ", ".join(f"{name:.60}" for name in unknown[:3])
        raise OptionError(f"unknown {what} {shown}; known: {', '.join(known)}")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Refuse a value that is not one of several.

    Raises:
        OptionError: it is not.
    """
    if value not in choices:
        raise OptionError(f"unknown {name} {value!r:.60}; known: {', '.join(choices)}")


def check_between(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a number outside of `low` to `high`, both of which are allowed; nan is outside.

    Raises:
        OptionError: it is outside.
    """
    if not low <= value <= high:
        allowed = f"in {low:g}..{high:g}" if high < math.inf else f"at least {low:g}"
        raise OptionError(f"{name} must be {allowed}, got {value!r:.60}")


def check_positive(name: str, value: float, below: float = math.inf) -> None:
    """Refuse a number that is not above zero and under `below`; nan is not.

    Raises:
        OptionError: it is not.
    """
    if not 0 < value < below:
        raise OptionError(f"{name} must be positive, got {value!r:.60}")
