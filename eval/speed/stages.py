"""Where a codec's time goes: a clock that is told of the stages of encoding and decoding.

A stage's time is its own: what a stage inside it takes is charged to that one instead. What belongs to no stage is
charged to "other", so that the stages of one call always add up to all of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from dcae.codec.stages import CODING, ENTROPY, LOAD, TRANSFORM, WRITE

CODEC, OTHER = "codec", "other"
STAGES = (LOAD, TRANSFORM, ENTROPY, CODING, CODEC, OTHER, WRITE)
"""All stages; "codec" is all between loading and writing of codecs that cannot be looked into."""
AROUND = frozenset({LOAD, WRITE})
"""Stages that are of files and not of the codec."""


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
        """Charge the block to a stage of `STAGES`; an observer of a :class:`dcae.Codec` on the CPU.

        On a GPU the times would be those of starting its work.
        """
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
