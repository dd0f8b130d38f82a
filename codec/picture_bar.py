"""Progress within a picture that takes long, on a terminal: a bar that goes away with it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dcae.errors import one_line
from dcae.runtime.progress import GRADIENT, SLICE, watching

if TYPE_CHECKING:
    from tqdm import tqdm

_PATIENCE = 1.5
"""Seconds after which a picture has a bar."""
_EFFORT = {"hyper_analysis": 0.4, "add_skip": 0.4, SLICE: 1.0, GRADIENT: 30.0}
"""CPU time that a pixel takes in a step of the work, about, as a multiple of a slice's; other steps take `_TRANSFORM`
(measured with `lite-1`)."""
_TRANSFORM = 6.0


@contextmanager
def picture_bar(name: str, quiet: bool) -> Iterator[None]:
    """Context within which pictures that this thread codes have a bar, on a terminal and unless `quiet`.

    Args:
        name: what stands before it.
    """
    if quiet or not sys.stderr.isatty():
        yield
        return
    bar = PictureBar(one_line(name))
    try:
        with watching(bar):
            yield
    finally:
        bar.close()


class PictureShare:
    """How much of the work on one picture is done; a watcher of `dcae.runtime.progress`."""

    def __init__(self) -> None:
        self._times, self._pixels = 0, 0
        self._expected: Counter[str] = Counter()
        self._done: Counter[str] = Counter()

    @property
    def fraction(self) -> float:
        """Share of the picture's work that is done, 0 to 1."""
        done = {step: min(pixels, self._expected[step]) for step, pixels in self._done.items()}
        return _time(done) / max(_time(self._expected), 1)

    @property
    def times(self) -> int:
        """How often the picture was begun: more than once where a search for a size codes it again."""
        return self._times

    def begin(self, pixels: int) -> None:
        self._pixels = pixels
        self._times += 1
        self._expected.clear()
        self._done.clear()

    def expect(self, step: str, pixels: int) -> None:
        self._expected[step] += pixels

    def advance(self, step: str, pixels: int) -> None:
        self._done[step] += pixels


class PictureBar(PictureShare):
    """A bar over the work on one picture, which goes away when that is done.

    Args:
        name: what stands before it.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._bar: tqdm[None] | None = None

    @property
    def _megapixels(self) -> float:
        return self._pixels / 1e6

    def begin(self, pixels: int) -> None:
        self.close()
        super().begin(pixels)

    def advance(self, step: str, pixels: int) -> None:
        if self._bar is None:
            self._bar = self._new()
        super().advance(step, pixels)
        self._bar.update(self.fraction * self._megapixels - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _new(self) -> tqdm[None]:
        from tqdm import tqdm

        again = f", coding {self._times}" if self._times > 1 else ""  # of a search for a size
        return tqdm(
            total=self._megapixels,
            desc=f"{self._name}{again}",
            unit="MP",
            bar_format="{l_bar}{bar}| {n:.1f}/{total:.1f} MP [{elapsed}<{remaining}, {rate_fmt}]",
            file=sys.stderr,
            dynamic_ncols=True,
            leave=False,
            delay=_PATIENCE,
            smoothing=0.1,
        )


def _time(steps: Mapping[str, int]) -> float:
    return sum(pixels * _EFFORT.get(step, _TRANSFORM) for step, pixels in steps.items())
