"""From a picture's samples to the coded sections of a file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dcae.codec import feedback
from dcae.codec.latents import Coded, LatentCoder, Sections
from dcae.codec.source import Source
from dcae.codec.stages import ENTROPY, TRANSFORM
from dcae.networks.config import METRICS
from dcae.runtime.protocol import Array, Floats
from dcae.runtime.transforms import Transforms


class Encoder:
    """Encodes pictures with an engine.

    Args:
        coder, transforms: over the same engine.
    """

    def __init__(self, coder: LatentCoder, transforms: Transforms) -> None:
        self._coder, self._transforms = coder, transforms
        self._engine = coder.engine
        self._config = coder.engine.header.config

    def encode(self, source: Source, quality: float, numerics: str, feed_back: bool) -> Sections:
        """The sections of a picture.

        Args:
            quality: in the model's range, a multiple of 1/256.
            numerics: arithmetic of the entropy model, one of the engine's.
            feed_back: correct its block means and code it anew; whichever has the lower λ·D + R is taken.
        """
        coded = self._coded(source, quality, numerics)
        first = coded.sections
        if not feed_back:
            return first
        weight = self._config.lambda_of(quality) / METRICS[self._config.metric]
        error, plain = self._error_and_cost(source, coded, quality, weight)
        del coded  # whose latents take memory
        if feedback.possible_gain(error, weight) < feedback.WORTH * plain:
            return first
        coded = self._coded(source.corrected(error), quality, numerics)
        return coded.sections if self._error_and_cost(source, coded, quality, weight)[1] < plain else first

    def _error_and_cost(self, source: Source, coded: Coded, quality: float, weight: float) -> tuple[Array, float]:
        """Mean error of the blocks of what a coded picture decodes to, and λ·D + R in bits, λ being `weight`."""
        errors = feedback.Errors(source.height, source.width, *source.pixels.shape[:2])
        with self._coder.observe(TRANSFORM):
            for row, column, part in self._transforms.synthesis(coded.y_hat, coded.means, quality):
                rows, columns = slice(row, row + part.shape[2]), slice(column, column + part.shape[3])
                errors.add(row, column, source.levels(rows, columns), feedback.rounded(part))
        sections = coded.sections
        return errors.means, feedback.cost(errors.squared, weight, len(sections.z) + len(sections.y))

    def _coded(self, source: Source, quality: float, numerics: str) -> Coded:
        """A picture coded once."""
        shape = (1, self._config.latent_channels, source.height // 16, source.width // 16)
        y = np.empty(shape, np.float32)
        skip = self._config.slices[-1] if self._engine.closed_loop else 0
        with self._coder.observe(TRANSFORM):
            self._transforms.analysis(source, y[:, : shape[1] - skip], quality)
        with self._coder.observe(ENTROPY):
            z = self._transforms.hyper_analysis(y[:, : shape[1] - skip], quality)
        return self._coder.encode(z, self._latents(source, y, quality), quality, numerics, y)

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
