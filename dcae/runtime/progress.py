"""Progress of the picture that a thread is coding, for whoever watches.

What takes long says where it is done how much of it is done: a band of a transform, a tile of the entropy model, a step
of a search. It reaches the watcher of the same thread, if there is one, without the layers between handing it on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

SLICE, GRADIENT = "slice", "gradient"
"""One slice through the entropy model, and one gradient step; transforms have the names of `dcae.runtime.protocol`."""


class Watcher(Protocol):
    """What is told of the work on a picture. Steps of it are named and counted in pixels, padding included: a step over
    the whole picture is as many as it has, one that is taken twice twice as many."""

    def begin(self, pixels: int) -> None:
        """A picture of so many pixels is begun, or the same once more; what was told before is over."""

    def expect(self, step: str, pixels: int) -> None:
        """So much more of a step will be done; less if the number is negative."""

    def advance(self, step: str, pixels: int) -> None:
        """So much of a step has been done."""


class _Nobody:
    def begin(self, pixels: int) -> None:
        pass

    def expect(self, step: str, pixels: int) -> None:
        pass

    def advance(self, step: str, pixels: int) -> None:
        pass


_NOBODY = _Nobody()
_watcher: ContextVar[Watcher] = ContextVar("watcher", default=_NOBODY)


def watcher() -> Watcher:
    """The watcher of this thread, to be told; one that ignores it where nobody watches."""
    return _watcher.get()


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Context within which a watcher is told of what this thread codes."""
    before = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(before)
