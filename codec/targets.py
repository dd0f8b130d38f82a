"""Targets: a wanted size of the file or a wanted PSNR instead of a quality, met by encoding several times."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

from dcae.codec.container import stored_as
from dcae.codec.rates import crossing
from dcae.errors import OptionError
from dcae.networks.config import QUALITY_STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dcae.codec.codec import Codec
    from dcae.codec.pictures.picture import Picture, Samples

AUTO = "auto"
SCALES = ("1", "1/2", "1/3", "1/4", AUTO)
"""Sizes that a picture may be coded at, as they are written."""
AUTO_DIVISOR = 2
"""What "auto" compares with 1."""
TOLERANCE = 0.01
"""Share of a wanted size that the file may stay below it, where steps of quality are that fine."""
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}
_LARGEST = 1 << 40
"""No target is above that, whatever its unit."""
# Of photographs with `lite`, by which the search begins: ln(bpp) and dB of PSNR at quality 1, and per quality.
_TYPICAL_RATE = math.log(0.11), 0.36
_TYPICAL_PSNR = 27.2, 1.6


def parse_size(text: str) -> int:
    """Bytes of a size such as "200000", "200k", "1.5M" (powers of 1000) or "64KiB" (powers of 1024).

    Raises:
        OptionError: it is none, or less than a byte.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmg]?i?)b?", text.strip().lower())
    size = float(found[1]) * _UNITS[found[2]] if found is not None and found[2] in _UNITS else 0
    if not 1 <= size <= _LARGEST:
        raise OptionError(f"{text!r:.40} is no size; write 200000, 200k, 1.5M (thousands) or 64KiB (1024s)")
    return int(size)


@dataclass(frozen=True)
class Target:
    """What a file shall be; one of the three is set.

    Raises:
        OptionError: none or several are set, or one is no positive number.
    """

    size: int | None = None
    """Bytes; the file is at most that, and at most 1 % smaller where steps of quality are that fine: where
    a model codes it."""
    bpp: float | None = None
    """Bits per pixel, likewise."""
    psnr: float | None = None
    """dB in RGB (gray: of the one channel); the decoded picture has at least that, at the lowest quality that gives
    it."""

    def __post_init__(self) -> None:
        given = [value for value in (self.size, self.bpp, self.psnr) if value is not None]
        if len(given) != 1:
            raise OptionError("give one of quality, target size, target bpp and target PSNR")
        if isinstance(given[0], bool) or not isinstance(given[0], Real) or not 0 < given[0] <= _LARGEST:
            raise OptionError(f"a target must be a positive number of at most {_LARGEST}, got {given[0]!r:.40}")


@dataclass(frozen=True)
class Asked:
    """What a file shall be: of a quality, or meeting a target, and at which size its picture is coded."""

    quality: float | None = None
    """None: the model's default, or what the target needs."""
    target: Target | None = None
    divisor: int | None = 1
    """Of both sides; None: what measures better."""

    @property
    def tries(self) -> bool:
        """Whether files are made that are only looked at."""
        return self.target is not None or self.divisor is None


def divisor_of(scale: str | float) -> int | None:
    """The divisor of both sides that a scale stands for; None for "auto".

    Args:
        scale: one of `SCALES`, or such a number: 1, 0.5, 0.25.

    Raises:
        OptionError: it is none.
    """
    if scale == AUTO:
        return None
    for name in SCALES[:-1]:
        number = float(scale) if isinstance(scale, Real) and not isinstance(scale, bool) else math.nan
        if scale == name or math.isclose(number, Fraction(name)):
            return Fraction(name).denominator
    raise OptionError(f"scale must be {', '.join(SCALES[:-1])} or {AUTO}, got {scale!r:.40}")


class UnreachableError(OptionError):
    """No quality meets a target."""

    fewer = False
    """Whether it would take fewer bytes than the smallest file has."""


class Found(NamedTuple):
    """Result of a search."""

    data: bytes
    """The file."""
    quality: float
    encodings: int
    """How often the picture was encoded, with and without a search for latents."""


def encode_to_target(
    codec: Codec, picture: Picture, target: Target, options: Mapping[str, Any], start: float | None = None
) -> Found:
    """The `.dcae` file of a picture that meets a target.

    Args:
        options: further arguments of :meth:`dcae.Codec.encode`.
        start: quality that meets the target without a search for latents, if it is known.

    Raises:
        UnreachableError: no quality of the model does; the message names the nearest.
        DCAEError: as :meth:`dcae.Codec.encode`.
    """
    plain = _Search(codec, picture, without_search(options) if options.get("effort") else options)
    if not options.get("effort"):
        return plain.found(target)
    # The quality is found without the search for latents, which takes long, and then made right with it.
    if start is None:
        with suppress(OptionError):
            start = plain.found(target).quality
    first = None if start is None else round(start * QUALITY_STEPS)
    found = _Search(codec, picture, options, first).found(target)
    return found._replace(encodings=found.encodings + plain.encodings)


def without_search(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :meth:`dcae.Codec.encode` without the search for latents."""
    return {name: value for name, value in options.items() if name not in ("roi", "tune")} | {"effort": 0}


class _Search:
    """A picture and its files, by quality in steps of 1/256.

    Args:
        start: where to begin; by default where a typical picture meets the target.
    """

    def __init__(self, codec: Codec, picture: Picture, options: Mapping[str, Any], start: int | None = None) -> None:
        self.codec, self.picture, self.options, self.start = codec, picture, options, start
        self.pixels = picture.width * picture.height
        self.low, self.high = (round(quality * QUALITY_STEPS) for quality in codec.config.qualities)
        self.files: dict[int, bytes] = {}
        self.encodings = 0

    def found(self, target: Target) -> Found:
        """The result of the search for a target; errors as of :func:`encode_to_target`."""
        if target.psnr is not None:
            best = self.psnr(target.psnr)
        elif target.bpp is not None:
            size = math.floor(target.bpp * self.pixels / 8)
            best = self.size(size, f"{target.bpp:g} bpp, {size} bytes,")
        else:
            best = self.size(target.size or 0, f"{target.size} bytes")
        return Found(self.files[best], best / QUALITY_STEPS, self.encodings)

    def file(self, step: int) -> bytes:
        if step not in self.files:
            alike = [file for k, file in self.files.items() if stored_as(file) == "as AVIF" and self._avif(k, step)]
            self.files[step] = alike[0] if alike else self._encoded(step)
        return self.files[step]

    def _avif(self, step: int, other: int) -> bool:
        """Whether AVIF has one quality for both: it has sixty where there are 1800 steps."""
        from dcae.codec.pictures.avif import avif_quality

        weights = [self.codec.config.mse_lambda_of(k / QUALITY_STEPS) for k in (step, other)]
        return len({avif_quality(weight) for weight in weights}) == 1

    def _encoded(self, step: int) -> bytes:
        self.encodings += 1
        return self.codec.encode(self.picture, step / QUALITY_STEPS, **self.options)

    def run(self, value: Callable[[int], float], typical: tuple[float, float], goal: float, near: float) -> None:
        """Search from where a typical picture reaches the goal."""
        at_one, growth = typical
        first = round(QUALITY_STEPS * (1 + (goal - at_one) / growth))
        crossing(value, self.low, self.high, first if self.start is None else self.start, growth / QUALITY_STEPS, near)

    def size(self, target: int, named: str) -> int:
        """The largest file of at most `target` bytes."""
        # Less than one byte is no file; its logarithm is not wanted.
        goal = math.log(8 * max(target, 1) / self.pixels)
        near = -math.log(1 - TOLERANCE)
        self.run(lambda step: math.log(len(self.file(step)) / max(target, 1)), _TYPICAL_RATE, goal, near)
        sizes = {step: len(file) for step, file in self.files.items()}
        fitting = [step for step, size in sizes.items() if size <= target]
        if not fitting:
            error = self._unreachable(named, "smallest", self._size_text(min(sizes, key=sizes.__getitem__)))
            error.fewer = True
            raise error
        best = max(fitting, key=sizes.__getitem__)
        if best == self.high and sizes[best] < target * (1 - TOLERANCE):
            stored = stored_as(self.files[best])
            if stored == "as AVIF" and len(file := self._lossless(best)) <= target:
                self.files[best] = file
            if stored:  # which cannot become better by becoming a little larger
                return best
            raise self._unreachable(named, "largest", self._size_text(best))
        return best

    def psnr(self, target: float) -> int:
        """The lowest quality whose picture has at least `target` dB."""
        original, found = self.picture.at_depth(8).pixels, {}

        def value(step: int) -> float:
            found[step] = psnr_of(original, self.codec.decode_picture(self.file(step)).at_depth(8).pixels)
            return found[step] - target

        self.run(value, _TYPICAL_PSNR, target, 0.0)
        reaching = [step for step, psnr in found.items() if psnr >= target]
        if not reaching and stored_as(self.file(self.high)) == "as AVIF":
            self.files[self.high] = self._lossless(self.high)
            return self.high
        if not reaching:
            best = max(found, key=found.__getitem__)
            raise self._unreachable(
                f"{target:g} dB", "best picture", f"{found[best]:.2f} dB, at quality {best / QUALITY_STEPS:g}"
            )
        return min(reaching)

    def _lossless(self, step: int) -> bytes:
        from dcae.codec.stored import lossless_file

        return lossless_file(self.picture, step)

    def _size_text(self, step: int) -> str:
        size = len(self.files[step])
        return f"{size} bytes ({8 * size / self.pixels:.4f} bpp), at quality {step / QUALITY_STEPS:g}"

    @staticmethod
    def _unreachable(target: str, what: str, text: str) -> UnreachableError:
        return UnreachableError(f"a target of {target} is out of reach: the {what} that this model makes has {text}")


def psnr_of(original: Samples, decoded: Samples, weights: Samples | None = None) -> float:
    """dB over all samples of 8 bits; 99 for no error at all, so that one can calculate with it.

    Args:
        original, decoded: (H, W, C).
        weights: (H, W), how much the squared error of each pixel counts; None for all alike.
    """
    import numpy as np

    squares = np.square(original.astype(np.int16) - decoded, dtype=np.int32)
    if weights is None:
        error = squares.mean()
    else:
        error = np.average(squares.mean(2), weights=weights) if weights.any() else 0.0
    return 10 * math.log10(255**2 / error) if error else 99.0
