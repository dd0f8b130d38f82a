"""Reach of the layers of `lite`: which rows or columns of its input a part of a network's output depends on.

It follows from the configuration as the network itself does. Rows and columns are alike; a chain of layers is a list,
in the order in which they are gone through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dcae.networks.bounds import KERNEL
from dcae.networks.lite.config import LiteConfig
from dcae.networks.lite.shapes import PATCHES

_FOLD = 2
"""Factor between the resolutions of the hyper-latents' transforms."""


class Layer(Protocol):
    """What is known of a layer along one axis; samples before 0 stand for padding."""

    def needed(self, begin: int, end: int) -> tuple[int, int]:
        """Range of inputs that the outputs of a range depend on."""

    def ready(self, count: int) -> int:
        """How many outputs depend on none but the first `count` inputs; negative for 0."""


@dataclass(frozen=True)
class Depthwise:
    """A convolution with zero padding."""

    kernel: int

    def needed(self, begin: int, end: int) -> tuple[int, int]:
        return begin - self.kernel // 2, end + self.kernel // 2

    def ready(self, count: int) -> int:
        return count - self.kernel // 2


@dataclass(frozen=True)
class Window:
    """Attention within windows, of which the first ends at `shift`, or at `size` where this is 0."""

    size: int
    shift: int

    def needed(self, begin: int, end: int) -> tuple[int, int]:
        return self._below(begin), -self._below(-end, -self.shift)

    def ready(self, count: int) -> int:
        return self._below(count)

    def _below(self, place: int, shift: int | None = None) -> int:
        shift = self.shift if shift is None else shift
        return (place - shift) // self.size * self.size + shift


@dataclass(frozen=True)
class LappedDown:
    """Patches of 2 f samples every f samples, the first of which begins f/2 before the input."""

    factor: int

    def needed(self, begin: int, end: int) -> tuple[int, int]:
        return begin * self.factor - self.factor // 2, end * self.factor + self.factor // 2

    def ready(self, count: int) -> int:
        return (count - self.factor // 2) // self.factor


@dataclass(frozen=True)
class LappedUp:
    """The same patches, added up."""

    factor: int

    def needed(self, begin: int, end: int) -> tuple[int, int]:
        half = self.factor // 2
        return (begin + half) // self.factor - 1, (end - 1 + half) // self.factor + 1

    def ready(self, count: int) -> int:
        return count * self.factor - self.factor // 2


@dataclass(frozen=True)
class Fold:
    """So many samples become one."""

    factor: int

    def needed(self, begin: int, end: int) -> tuple[int, int]:
        return begin * self.factor, end * self.factor

    def ready(self, count: int) -> int:
        return count // self.factor


@dataclass(frozen=True)
class Unfold:
    """One sample becomes so many."""

    factor: int

    def needed(self, begin: int, end: int) -> tuple[int, int]:
        return begin // self.factor, -(-end // self.factor)

    def ready(self, count: int) -> int:
        return count * self.factor


def needed(layers: Sequence[Layer], begin: int, end: int) -> tuple[int, int]:
    """Range of the first layer's inputs that the last one's outputs of a range depend on."""
    for layer in reversed(layers):
        begin, end = layer.needed(begin, end)
    return begin, end


def ready(layers: Sequence[Layer], count: int) -> int:
    """How many of the last layer's outputs depend on none but the first `count` inputs; 0 or less if there are layers
    that have none."""
    for layer in layers:
        if (count := layer.ready(count)) <= 0:
            return 0
    return count


def layers_of(config: LiteConfig, transform: str) -> list[Layer]:
    """The layers of a transform, by its name in `dcae.runtime.protocol`; `skip_latents` with the base synthesis before
    it, and `slice_prior` that of any slice."""
    conv: Layer = Depthwise(KERNEL)
    base = [*_stage(config, 1, True), LappedUp(PATCHES[1]), *_stage(config, 0, True), LappedUp(PATCHES[0])]
    chains: dict[str, list[Layer]] = {
        "analysis": [
            LappedDown(PATCHES[0]), *_stage(config, 0), LappedDown(PATCHES[1]), *_stage(config, 1),
        ],
        "base_synthesis": base,
        "add_skip": [LappedUp(PATCHES[2])],
        "skip_latents": [*base, LappedDown(PATCHES[2])],
        "hyper_analysis": [conv, Fold(_FOLD), conv, Fold(_FOLD)],
        "hyper_synthesis": [conv, Unfold(_FOLD), conv, Unfold(_FOLD)],
        "slice_prior": [conv],
    }  # fmt: skip
    return chains[transform]


def unit(config: LiteConfig) -> int:
    """Samples of H/16 that bands and strips are multiples of, so that windows and hyper-latents stay whole."""
    least = config.stride // 16
    size = config.window if "S" in config.layers[1] else 1
    if "S" in config.layers[0]:
        size = max(size, config.window)
    while size % least:
        size *= 2
    return size


def _stage(config: LiteConfig, level: int, reverse: bool = False) -> list[Layer]:
    """The layers of one resolution."""
    letters = config.layers[level][:: -1 if reverse else 1]
    found: list[Layer] = []
    for position, letter in enumerate(letters):
        shifted = letters[:position].count("S") % 2 == 1
        found.append(Depthwise(KERNEL) if letter == "C" else Window(config.window, config.window // 2 * shifted))
    return found
