"""From a picture's samples to the coded sections of a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dcae.codec import feedback
from dcae.codec.effort import search, searched_pixels
from dcae.codec.latents import Coded, LatentCoder, Sections
from dcae.codec.pictures.picture import Samples
from dcae.codec.source import Source
from dcae.codec.stages import ENTROPY, SEARCH, TRANSFORM
from dcae.codec.tuning import TUNES
from dcae.runtime.progress import GRADIENT, SLICE, watcher
from dcae.runtime.protocol import Array, Floats
from dcae.runtime.transforms import Transforms

_FOUND_WORTH = 4.0
"""Times what `step_worth` says that an error is worth where latents were searched for: the search has seen to the rate
already. λ·D + R of `lite-2`, four crops of Kodak, effort 2, beside rounding: -0.40 and -0.36 % with 130 and 200
bits at quality 1, +0.02 and -0.04 % at 6; with 80 bits -0.30 and +0.16 %."""


class Encoded(NamedTuple):
    """A coded picture, and how far from it what it decodes to is, where somebody looked."""

    sections: Sections
    squared: int = 0
    """Sum of squared errors over all colours, in levels of 255."""
    lost: float = math.inf
    """λ·D in bits; of which D, says who made it."""

    @property
    def size(self) -> int:
        """Bytes of the streams."""
        return len(self.sections.z) + len(self.sections.y)

    @property
    def cost(self) -> float:
        """λ·D + R in bits."""
        return self.lost + 8 * self.size


class Encoder:
    """Encodes pictures with an engine.

    Args:
        coder, transforms: over the same engine.
    """

    def __init__(self, coder: LatentCoder, transforms: Transforms) -> None:
        self._coder, self._transforms = coder, transforms
        self._engine = coder.engine
        self._config = coder.engine.header.config

    def encode(
        self,
        source: Source,
        quality: float,
        numerics: str,
        feed_back: bool,
        effort: int = 0,
        measured: bool = False,
        tune: str = TUNES[0],
    ) -> Encoded:
        """The sections of a picture, of all that are tried those with the lowest λ·D + R.

        Args:
            quality: in the model's range, a multiple of 1/256.
            numerics: arithmetic of the entropy model, one of the engine's.
            feed_back: correct its block means and code it anew, too.
            effort: search for better latents, too, if above 0; see `dcae.codec.effort`.
            measured: look at what the picture decodes to even if nothing else is tried.
            tune: what D is, one of `dcae.codec.tuning.TUNES`.
        """
        weight = self._config.mse_lambda_of(quality)
        looked_at = bool(feed_back or effort or measured)
        watcher().begin(source.pixels.shape[0] * source.pixels.shape[1])
        self._expect(source, 1 + feed_back + (effort > 0), looked_at)
        if effort:
            watcher().expect(GRADIENT, searched_pixels(source, effort))
        coded = self._coded(source, quality, numerics)
        if not looked_at:
            return Encoded(coded.sections)

        def seen(coded: Coded) -> tuple[Encoded, Array]:
            errors = self._errors(source, coded, quality, similar=tune == "ms-ssim")
            return Encoded(coded.sections, errors.squared, weight * errors.distortion), errors.means

        (best, means), target = seen(coded), source
        del coded  # whose latents take memory
        if feed_back and feedback.possible_gain(means, weight) >= feedback.WORTH * best.cost:
            corrected = source.corrected(means)
            other, _ = seen(self._coded(corrected, quality, numerics))
            if other.cost < best.cost:
                best, target = other, corrected
        elif feed_back:
            self._expect(source, -1, looked_at)
        if effort:
            found, _ = seen(self._coded(target, quality, numerics, effort, tune))
            best = min(best, found, key=lambda tried: tried.cost)
        return best

    def _expect(self, source: Source, codings: int, looked_at: bool) -> None:
        """Tell how often the picture is coded, and whether each time it is decoded as well."""
        steps = {"analysis": 1, "hyper_analysis": 1, SLICE: len(self._config.slices), "base_synthesis": int(looked_at)}
        if self._engine.closed_loop:
            steps |= {"skip_latents": 1, "add_skip": 1}
        for step, times in steps.items():
            watcher().expect(step, codings * times * source.height * source.width)

    def look(self, source: Source, shown: Samples, quality: float, tune: str) -> tuple[int, float]:
        """What is wrong with pixels (H, W, C) that are shown in place of a picture's: `Encoded.squared` and `lost`.

        Args:
            quality, tune: as of `encode`.
        """
        everything = slice(0, source.height), slice(0, source.width)
        errors = _no_errors(source, tune == "ms-ssim")
        errors.add(0, 0, source.levels(*everything), Source(shown, self._config.stride).levels(*everything))
        return errors.squared, self._config.mse_lambda_of(quality) * errors.distortion

    def _errors(self, source: Source, coded: Coded, quality: float, similar: bool) -> feedback.Errors:
        """What is wrong with what a coded picture decodes to, as MS-SSIM sees it if `similar`."""
        errors = _no_errors(source, similar)
        with self._coder.observe(TRANSFORM):
            for row, column, part in self._transforms.synthesis(coded.y_hat, coded.means, quality):
                there = slice(row, row + part.shape[2]), slice(column, column + part.shape[3])
                errors.add(row, column, source.levels(*there), feedback.rounded(part))
        return errors

    def _coded(self, source: Source, quality: float, numerics: str, effort: int = 0, tune: str = TUNES[0]) -> Coded:
        """A picture coded once."""
        shape = (1, self._config.latent_channels, source.height // 16, source.width // 16)
        y = np.empty(shape, np.float32)
        skip = self._config.slices[-1] if self._engine.closed_loop else 0
        with self._coder.observe(TRANSFORM):
            self._transforms.analysis(source, y[:, : shape[1] - skip], quality)
        with self._coder.observe(ENTROPY):
            z = self._transforms.hyper_analysis(y[:, : shape[1] - skip], quality)
        if effort:
            with self._coder.observe(SEARCH):
                search(self._engine, source, y[:, : shape[1] - skip], z, quality, effort, tune)
        worth = self._config.step_worth * (_FOUND_WORTH if effort else 1)
        return self._coder.encode(z, self._latents(source, y, quality), quality, numerics, y, worth)

    def _latents(self, source: Source, y: Array, quality: float) -> Callable[[list[Floats]], Array]:
        """A function from the slices ŷ that are coded already to the latents that are coded next; those of a closed
        loop are what the slices before leave over. ŷ takes the place of y, slice by slice."""
        ends = np.cumsum(self._config.slices)
        means: list[Array] = []

        def latents(y_hats: list[Floats]) -> Array:
            k = len(y_hats)
            if k < len(ends) - self._engine.closed_loop:
                return y[:, ends[k] - self._config.slices[k] : ends[k]]
            base, skip = np.split(y, [int(ends[-2])], 1)
            with self._coder.observe(TRANSFORM):
                if k < len(ends):
                    means.append(self._transforms.skip_latents(source, base, skip, quality))
                    return skip
                return self._transforms.means_left(means[0], skip, quality)

        return latents


def _no_errors(source: Source, similar: bool) -> feedback.Errors:
    """The sum to which errors of a picture are to be added."""
    padded, (rows, columns) = (source.height, source.width), source.pixels.shape[:2]
    if similar:
        return feedback.Dissimilarity(*padded, rows, columns)
    return feedback.Errors(*padded, rows, columns, source.weights)
