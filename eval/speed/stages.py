"""Where a codec's time goes, without timers inside the codec: named places are wrapped while a clock runs.

A place's time is its own: what a wrapped place inside it takes is charged to that one's stage instead. What no place
takes is charged to "other", so that the stages of one call always add up to all of it.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

# What is patched for a while must be as before afterwards, also where the name was inherited.
from unittest.mock import patch

LOAD, TRANSFORM, ENTROPY, CODING, CODEC, OTHER, WRITE = (
    "load", "transform", "entropy model", "coding", "codec", "other", "write",
)  # fmt: skip
STAGES = (LOAD, TRANSFORM, ENTROPY, CODING, CODEC, OTHER, WRITE)
"""All stages; "codec" is all between loading and writing of codecs that cannot be looked into."""
AROUND = frozenset({LOAD, WRITE})
"""Stages that are of files and not of the codec."""


class Place(NamedTuple):
    """A function or method whose time belongs to a stage."""

    owner: str
    """A module, "module:Class", or "network" for the network of the codec that is watched."""
    name: str
    stage: str


_CODEC, _CODER = "dcae.codec.codec", "dcae.codec.coder"
PLACES = (
    Place(_CODEC, "open_picture", LOAD),
    Place(_CODEC, "to_pixels", LOAD),
    Place(_CODEC, "read_container", LOAD),
    Place("network", "analysis", TRANSFORM),
    Place("network", "synthesis", TRANSFORM),
    Place("network", "hyper_analysis", ENTROPY),
    Place(f"{_CODEC}:Codec", "_walk", ENTROPY),  # hyper synthesis and slice networks; the coding inside counts as such
    Place(_CODEC, "_symbols", CODING),
    Place(_CODEC, "_channel_rows", CODING),
    Place(f"{_CODEC}:_Check", "add", CODING),
    Place(f"{_CODER}:SymbolTables", "clamp", CODING),
    Place(f"{_CODER}:SymbolEncoder", "encode", CODING),
    Place(f"{_CODER}:SymbolEncoder", "finish", CODING),
    Place(f"{_CODER}:SymbolDecoder", "decode", CODING),
    Place(f"{_CODER}:SymbolDecoder", "finish", CODING),
    Place(_CODEC, "write_container", WRITE),
)
"""Everything of the codec that is timed, the only list of it."""


class Clock:
    """Charges the time since its making to stages, until `stop`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """Wall clock by stage, so far."""
        self._inside = [OTHER]
        self._mark = time.perf_counter()

    def _charge(self) -> None:
        now = time.perf_counter()
        self.seconds[self._inside[-1]] = self.seconds.get(self._inside[-1], 0.0) + now - self._mark
        self._mark = now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Charge the block to a stage of `STAGES`."""
        self._charge()
        self._inside.append(name)
        try:
            yield
        finally:
            self._charge()
            self._inside.pop()

    def stop(self) -> dict[str, float]:
        """Seconds by stage, in the order of `STAGES`."""
        self._charge()
        return {name: self.seconds[name] for name in STAGES if name in self.seconds}


@contextmanager
def watched(codec: Any, clock: Clock) -> Iterator[None]:
    """Charge the places of a :class:`dcae.Codec` on the CPU to `clock` inside the block; others are left alone.

    On a GPU the times would be those of starting its work.
    """
    with ExitStack() as patches:
        if hasattr(codec, "network"):
            for place in PLACES:
                owner = owner_of(place, codec.network)
                patches.enter_context(patch.object(owner, place.name, _timed(getattr(owner, place.name), place, clock)))
        yield


def owner_of(place: Place, network: Any) -> Any:
    """The module, class or network that a place's name is looked up in."""
    if place.owner == "network":
        return network
    module, _, name = place.owner.partition(":")
    owner = importlib.import_module(module)
    return getattr(owner, name) if name else owner


def _timed(function: Callable[..., Any], place: Place, clock: Clock) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with clock.stage(place.stage):
            return function(*args, **kwargs)

    return wrapper
