"""Progress of a worker's task."""

from __future__ import annotations

import time
from collections.abc import Callable

from dcae.codec.picture_bar import PictureShare
from dcae.serve.service.tasks import Told

_OFTEN = 0.1
"""Seconds between two words about it."""


class Teller(PictureShare):
    """Says how far the work is; a watcher of `dcae.runtime.progress`.

    Args:
        send: is told of it.
        start, end: share of the whole work at which this part of it begins and ends.
        searching: the picture is coded an unknown number of times.
    """

    def __init__(
        self, send: Callable[[Told], None], stage: str, start: float, end: float, searching: bool = False
    ) -> None:
        super().__init__()
        self._send, self._stage, self._start, self._end, self._searching = send, stage, start, end, searching
        self._said = time.monotonic()
        send(Told(start, stage))

    def advance(self, step: str, pixels: int) -> None:
        super().advance(step, pixels)
        if time.monotonic() - self._said < _OFTEN:
            return
        self._said = time.monotonic()
        done, stage = self.fraction, self._stage
        if self._searching:
            done, stage = 1 - 0.6 ** (self.times - 1) * (1 - 0.4 * done), f"{stage}, attempt {self.times}"
        self._send(Told(self._start + done * (self._end - self._start), stage))
