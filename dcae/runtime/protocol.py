"""Protocol of an engine, which runs a model: arrays in, arrays out. Nothing here imports torch, nor do its users.

An engine carries a loaded model and evaluates its networks; `torch_engine.py` is the first. Arrays are NumPy's, with
one picture each, (1, channels, rows, columns); H and W are the sides of the padded picture in pixels, multiples of
`header.config.stride`. What is called *opaque* belongs to the engine, which may keep it on a device: callers only hand
it on.

=============  =========================  =======  ===================================================================
name           shape                      type     unit and range
=============  =========================  =======  ===================================================================
x              (1, 3, H, W)               float32  sRGB / 255: 0 is black, 1 is white
y              (1, M, H/16, W/16)         float32  quantisation steps, any number
z              (1, N, H/64, W/64)         float32  quantisation steps, any number
ẑ              (1, N, H/64, W/64)         float32  `z_median` + a whole number
mean           (1, C_k, H/16, W/16)       float    quantisation steps; ŷ before its refinement is mean + a whole number
rows           (1, C_k, H/16, W/16)       uint8    row of `tables_y`, 0 to 63
ŷ_k            (1, C_k, H/16, W/16)       float    as mean; ŷ is all of them, (1, M, H/16, W/16) float32
x̂              (1, 3, H, W)               float32  as x, not clamped; x̂0 of all slices but the last, x̂1 of all
means          (1, 3, H/64, W/64)         float32  quantisation steps; in files they are whole numbers
=============  =========================  =======  ===================================================================

M, N and C_k are `latent_channels`, `hyper_channels` and `slices[k]` of `header.config`. "float" is float32, or
float64 where the entropy model's numerics are "float64". Every method raises MemoryError, or a RuntimeError that says
so, where memory runs out; sizes and qualities are the caller's to check.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dcae.entropy.symbol_coding import SymbolCoding
from dcae.entropy.tables import Tables
from dcae.models.header import ModelHeader
from dcae.networks.bands import WHOLE, Band

Array = NDArray[np.float32]
Floats = NDArray[np.float32] | NDArray[np.float64]


class Step(NamedTuple):
    """One gradient step of a search for better latents."""

    rate: float
    """Size of the step, as a share of what curvature allows."""
    temperature: float
    """Of the soft rounding: it is the identity for large ones and rounds for 0."""


class Trial(NamedTuple):
    """One trial of a search for better latents, for two gradients: symbols are changed by 1, and what was worth it
    stays."""

    share: float
    """Of the changes that promise to gain, which are drawn at random."""


class SlicePrior(NamedTuple):
    """Prediction of one slice before it is decoded; shapes and units as in the module's table."""

    mean: Floats
    rows: NDArray[np.uint8]
    support: Any
    """`latent_residual` and `extend_context` of the same slice take it: opaque, or in exact arithmetic two arrays,
    (1, H/16, W/16, channels) float32."""


class EntropyModel(Protocol):
    """The steps from ẑ to the last ŷ, which decide every probability; `dcae.networks.walk` goes through them.

    The steps of one picture are called within one `arithmetic()`, in the order of the walk. Contexts and supports may
    be changed in place by the steps that take them: nothing is used twice but by one slice's own steps. Contexts are
    opaque; in exact arithmetic they are arrays (1, H/16, W/16, channels) float32, of which a step can be given a part
    (see `tiled_entropy.py`).
    """

    numerics: str
    """Name of the arithmetic as files have it, one of `dcae.codec.fields.NUMERICS`."""

    def arithmetic(self) -> AbstractContextManager[None]:
        """The settings that the steps are evaluated with, whatever the caller's are."""

    def conditioning(self, quality: float, /) -> Any:
        """Everything that depends on the quality alone, opaque; the other steps take it as `q`."""

    def hyper_synthesis(self, z_hat: Array, q: Any, /) -> Any:
        """ẑ -> the context of slice 0, opaque."""

    def slice_prior(self, k: int, context: Any, q: Any, /) -> SlicePrior:
        """Means and table rows of slice k, given its context."""

    def means_rows(self, q: Any, /) -> NDArray[np.uint8]:
        """Table rows of a closed loop's block means, (1, 3, 1, 1), one for each colour."""

    def latent_residual(self, k: int, support: Any, y_hat: Floats, q: Any, /) -> Floats:
        """ŷ_k = mean + symbols -> the refined ŷ_k (latent residual prediction)."""

    def extend_context(self, k: int, context: Any, support: Any, y_hat: Floats, q: Any, /) -> Any:
        """The context of slice k + 1, once the refined ŷ_k is known."""


class Engine(Protocol):
    """A loaded model, ready to run. Qualities are numbers in `header.config.qualities`, in steps of 1/256."""

    header: ModelHeader
    """Header of the model file, with the configuration."""
    device: str
    """Name of the device that it computes on, for messages."""
    numerics: tuple[str, ...]
    """Arithmetics that the entropy model can be evaluated in, the one that encoding takes by default first."""
    latent_grid: int
    """ŷ lies on multiples of 1/`latent_grid`; 0 where it is any number."""
    closed_loop: bool
    """Whether the last slice and the block means carry what the synthesis of the other slices leaves over."""
    corrects_means: bool
    """Whether encoding gains by looking at the decoded picture and correcting its brightness."""
    tables_y: Tables
    """Probabilities of a symbol of y, a row per set of tables and scale."""
    tables_z: Tables
    """Probabilities of what z's prediction leaves over, a row per set of tables and channel."""
    z_median: Array
    """(1, N, 1, 1), what ẑ is rounded relative to."""
    symbol_coding: SymbolCoding

    def coding(self) -> AbstractContextManager[None]:
        """Context in which a picture is coded, and everything below is called; it undoes settings of the caller's.

        Raises:
            DCAEError: entering it, in a process whose arithmetic cannot be trusted or would never end.
        """

    # The transforms take pictures whole, or in bands of rows that follow each other: given a band they return as many
    # of the next rows as are ready, and all that are left for the last. See `dcae/networks/bands.py`, and
    # `transforms.py` for how large bands have to be.

    def analysis(self, x: Array, quality: float, band: Band = WHOLE) -> Array:
        """x -> y."""

    def hyper_analysis(self, y: Array, quality: float, band: Band = WHOLE) -> Array:
        """y -> z."""

    def entropy_model(self, numerics: str) -> EntropyModel:
        """The entropy model in one of the arithmetics of `numerics`."""

    def synthesis(self, y_hat: Array, quality: float, band: Band = WHOLE) -> Array:
        """ŷ -> x̂, or x̂1 where there is a closed loop."""

    def search_latents(
        self,
        x: Array,
        y: Array,
        z_hat: Array,
        quality: float,
        weights: Array,
        steps: Sequence[Step | Trial],
        similar: bool = False,
    ) -> Array:
        """y after gradient steps and then trials that lower λ·D + R, the squared error of each pixel counting as
        `weights` (1, 1, H, W) says. Of a closed loop, y is that of all slices but the last.

        Args:
            similar: D is 1 - MS-SSIM instead, see `dcae.runtime.search.similarity`.
        """

    # What the closed loop has beside these; see `dcae/networks/lite/closed_loop.py`.

    def base_synthesis(self, y_hat: Array, quality: float, band: Band = WHOLE) -> Array:
        """ŷ of all slices but the last -> x̂0."""

    def skip_latents(self, x: Array, base: Array, quality: float, band: Band = WHOLE) -> Array:
        """x and x̂0 -> the last slice of y."""

    def skip_worth(self, quality: float) -> Array:
        """Bits that a squared error of one quantisation step of each skip latent is worth by λ, (1, C, 1, 1)."""

    def add_skip(self, base: Array, y_hat: Array, quality: float, band: Band = WHOLE) -> Array:
        """x̂0 and ŷ of the last slice -> x̂1."""

    def block_means(self, x: Array, x_hat: Array, quality: float) -> Array:
        """x and x̂1 -> the means that are left, not yet rounded."""

    def add_means(self, x_hat: Array, means: Array, quality: float) -> Array:
        """x̂1 and the rounded means -> x̂."""
