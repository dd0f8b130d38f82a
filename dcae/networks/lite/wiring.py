"""`lite`, the default network: the DCAE family redesigned for two CPU cores, one model for all rates.

The picture leaves full resolution at once, is worked on in channels_last with 1x1 and depthwise convolutions and
gated units, and gets window attention at H/16. Shapes are (rows, columns, channels), numbers those of the default
configuration::

    x (H, W, 3)                                                   x̂ (H, W, 3)
    | lapped 16x16 patches, stride 8                              ^ lapped patches, added up
    (H/8, W/8, 128)    3 convolutional layers                     (H/8, W/8, 128)    3 convolutional layers
    | lapped 4x4 patches, stride 2                                ^ lapped patches, added up
    (H/16, W/16, 320)  1 convolutional, 1 attention layer         (H/16, W/16, 320)  1 attention, 1 convolutional layer
    | linear, gain_y                                              ^ inverse_y, linear
    y (H/16, W/16, M)  ---- symbols: round(y_k - mean_k) ---->    ŷ (H/16, W/16, M), slice by slice
    | context_gain                                                ^
    h_a: convolutional layers, two 2x2 foldings                   slice k refines the state by dictionary attention and
    | gain_z                                                      a convolutional layer, reads mean_k and scale_k off
    z (H/64, W/64, N)  ---- round(z - median) ---->  ẑ            it, and adds the decoded ŷ_k to it
                                                     | inverse_z  ^
                                                     h_s  ------> state (H/16, W/16, E)

Rate control: gains per channel and anchor (a λ of the configuration), interpolated between the anchors, multiply y
before rounding, and their learned inverses multiply after (gained VAE, Cui et al. CVPR 2021); stages are modulated.

==============  =======================================  =========================================================
gain            from                                     to
==============  =======================================  =========================================================
`gain_y`        units of the analysis transform          quantisation steps, in which y, ŷ, means and symbols are
`inverse_y`     quantisation steps                       units of the synthesis transform
`context_gain`  quantisation steps                       units of the entropy model, about unit variance at any rate
`mean_gain`     units of the entropy model               quantisation steps
`gain_z`        units of the hyper analysis              quantisation steps of z
`inverse_z`     quantisation steps of z                  units of the hyper synthesis
`scale_offset`  added to log-scale / SCALE_STEP          row of the scale table, 0 to 63
==============  =======================================  =========================================================

Later slices see deeper features of the state, and nothing is computed twice. In the entropy model, from ẑ to the last
ŷ, only blocks of `dcae/networks/exact_ready.py` take part. Where `skip_channels` is set the last slice and the block
means carry what the synthesis leaves over; see `closed_loop.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.networks.band_tensors import paired
from dcae.networks.bands import WHOLE, Band
from dcae.networks.base import round_ste
from dcae.networks.exact_ready import (
    ExactReady,
    Modulation,
)
from dcae.networks.lite.blocks import Gain, WindowAttention
from dcae.networks.lite.closed_loop import ResidualPath, block_means, spread_means
from dcae.networks.lite.config import LiteConfig
from dcae.networks.lite.slices import SliceNetwork, Support
from dcae.networks.lite.starting_values import haar_basis, patch_basis, set_lapped_pair, set_pair
from dcae.networks.lite.transforms import PATCH, Analysis, HyperAnalysis, HyperSynthesis, Synthesis, full_precision
from dcae.networks.means import unspread
from dcae.networks.scales import SCALE_LEVELS, SCALE_MIN, SCALE_STEP
from dcae.networks.steps import SlicePrior

_MOST_UNITS = math.log(8.0)
"""Logarithm of the most units of the entropy model that a quantisation step stands for at the start. Where a latent's
deviation is far below its step, unit variance would make its few symbols too large for exact arithmetic."""


def _nchw(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _nhwc(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


class _Quality(NamedTuple):
    """Gains and interpolation weights of a quality, per sample of the batch (or 1 for all); see the table above."""

    weights: Tensor
    """(B or 1, anchors), the interpolation weights; two neighbours are non-zero and they add up to 1."""
    gain_y: Tensor
    """(B or 1, 1, 1, M), as the next three; the last two are (B or 1, 1, 1, N)."""
    inverse_y: Tensor
    mean_gain: Tensor
    context_gain: Tensor
    gain_z: Tensor
    inverse_z: Tensor


class LiteDCAE(ExactReady):
    """See the module's docstring; `config` is a :class:`LiteConfig`."""

    latent_grid = 64
    prior_scale = 3
    fast_parameters = ("log_gain", "scale_offset", "entropy_bottleneck.matrices.")
    config: LiteConfig

    def __init__(self, config: LiteConfig) -> None:
        super().__init__(config)
        self.g_a = Analysis(config)
        self.g_s = Synthesis(config)
        self.h_a = HyperAnalysis(config)
        self.h_s = HyperSynthesis(config)
        self.dictionary = nn.Parameter(torch.randn(config.dictionary_entries, config.dictionary_width))
        last = len(config.slices) - 1
        self.slice_networks = nn.ModuleList(
            SliceNetwork(config, channels, k == last) for k, channels in enumerate(config.slices)
        )
        self.closed_loop = config.skip_channels > 0
        self.corrects_means = not self.closed_loop
        if self.closed_loop:
            self.left_over = ResidualPath(config)
        anchors, latents = len(config.lambdas), config.latent_channels
        # A step of 0.02/sqrt(λ) is what rate-distortion theory asks of an orthonormal transform of pixels in
        # [0, 1] (D = 3 / (2 ln 2 · 255² λ), step² = 12 D).
        gain = (50.0 * torch.tensor(config.mse_lambdas).sqrt())[:, None].expand(-1, latents).clone()
        # Skip latents are sparse: at low rates they are not worth coding before their scales are well predicted.
        coarser = torch.linspace(0.5 * anchors - 0.5, 0, anchors) + 1
        gain[:, config.transform_channels :] /= coarser[:, None]
        self.gain_y, self.inverse_y = Gain(gain), Gain(1 / gain)
        self.mean_gain, self.context_gain = Gain(gain), Gain(1 / gain)
        self.gain_z = Gain(torch.full((anchors, config.hyper_channels), 4.0))
        self.inverse_z = Gain(torch.full((anchors, config.hyper_channels), 0.25))
        self.scale_offset = nn.Parameter(torch.zeros(anchors, latents))

    def initialise(self) -> None:
        """Set the linear path of the transforms to a truncated lapped transform (see `starting_values.py`)."""
        config = self.config
        basis, frequencies = patch_basis(PATCH, config.widths[0])
        set_lapped_pair(self.g_a.embed, self.g_s.head, basis)
        set_lapped_pair(self.g_a.down, self.g_s.up, haar_basis(frequencies, config.widths[1]))
        set_pair(self.g_a.head, self.g_s.embed, torch.eye(config.transform_channels, config.widths[1]))
        for module in (self.h_a, self.h_s, self.slice_networks):
            for layer in module.modules():
                if isinstance(layer, nn.Linear) and layer.weight.any():
                    nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        with torch.no_grad():
            for k in range(len(config.slices)):
                network = self.slice_network(k)
                network.head.weight[2 * network.channels :].normal_(std=config.context_width**-0.5)

    def anchored_parameters(self) -> set[str]:
        found = {"scale_offset", "left_over.mean_scale", "left_over.mean_step"}
        for name, module in self.named_modules():
            if isinstance(module, Modulation | Gain):
                found.update(f"{name}.{leaf}" for leaf, _ in module.named_parameters())
        return found

    def prepare_for_coding(self) -> None:
        for module in self.modules():
            if isinstance(module, WindowAttention):
                module.freeze_bias()

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Give the entropy model latents of unit variance and the right scales to start from.

        Args:
            x: (B, 3, H, W), a sample of the training pictures, seen by the freshly initialised network.
        """
        q = self.conditioning(1.0)
        y = self.analysis(x, q).permute(1, 0, 2, 3).flatten(1) / self._base(q.gain_y).reshape(-1, 1)
        sigma = F.pad(y.std(1).clamp(min=0.02), (0, self.config.skip_channels), value=1.0)
        log_gain = self.gain_y.log_gain + sigma.log()
        self.mean_gain.log_gain.copy_(log_gain)
        self.context_gain.log_gain.copy_(-log_gain.clamp(min=-_MOST_UNITS))
        # Half the deviation: some of it is going to be predicted.
        self.scale_offset.copy_((log_gain + math.log(0.5 / SCALE_MIN)) / SCALE_STEP)
        self.calibrate_skip(x)

    @torch.no_grad()
    def calibrate_skip(self, x: Tensor) -> None:
        """Start the skip latents from what the synthesis leaves over at the highest quality."""
        if not self.closed_loop or self.left_over.down.patch.weight.any():
            return
        q = self.conditioning(self.config.qualities[1])
        left = x - self.base_synthesis(self.analysis(x, q).round(), q)
        first = self.config.transform_channels
        sigma = self.left_over.start(_nhwc(left), float(self._slice(-1, q.inverse_y).mean()))
        log_gain = self.gain_y.log_gain[:, first:] + sigma.clamp(min=1e-4).log()
        self.mean_gain.log_gain[:, first:] = log_gain
        self.context_gain.log_gain[:, first:] = -log_gain.clamp(min=-_MOST_UNITS)
        self.scale_offset[:, first:] = (log_gain - math.log(SCALE_MIN)) / SCALE_STEP

    def conditioning(self, quality: float | Tensor) -> _Quality:
        """Interpolation weights of the anchors and all gains.

        Raises:
            OptionError: a quality (given as a number) outside `config.qualities`.
        """
        anchors = len(self.config.lambdas)
        if not isinstance(quality, Tensor):
            self.config.lambda_of(quality)
            quality = torch.tensor([quality])
        position = (quality.to(self.dictionary.device, torch.float32) - 1).clamp(0, anchors - 1)
        ladder = torch.arange(anchors, device=position.device)
        weights = (1 - (position[:, None] - ladder).abs()).clamp(min=0).to(self.dictionary.dtype)
        with torch.autocast(position.device.type, enabled=False):
            gains = (
                self.gain_y, self.inverse_y, self.mean_gain, self.context_gain, self.gain_z, self.inverse_z,
            )  # fmt: skip
            return _Quality(weights, *(gain(weights) for gain in gains))

    def analysis(self, x: Tensor, q: _Quality, band: Band = WHOLE) -> Tensor:
        y = self.g_a(_nhwc(x) - 0.5, q.weights, band)
        return _nchw(y.to(q.gain_y.dtype) * self._base(q.gain_y))

    def hyper_analysis(self, y: Tensor, q: _Quality, band: Band = WHOLE) -> Tensor:
        z = self.h_a(_nhwc(y) * self._base(q.context_gain), q.weights, band)
        return _nchw(z.to(q.gain_z.dtype) * q.gain_z)

    def hyper_synthesis(self, z_hat: Tensor, q: _Quality) -> Tensor:
        return self.h_s(_nhwc(z_hat) * q.inverse_z, q.weights)

    def _slice(self, k: int, x: Tensor) -> Tensor:
        k %= len(self.config.slices)
        start = sum(self.config.slices[:k])
        return x[..., start : start + self.config.slices[k]]

    def slice_prior(self, k: int, context: Tensor, q: _Quality) -> SlicePrior:
        mean, scale, support = self.slice_network(k)(context, self.dictionary)
        mean = mean.to(q.mean_gain.dtype) * self._slice(k, q.mean_gain)
        mean = round_ste(mean * self.latent_grid) / self.latent_grid
        # One unit of the head's output is a factor e in scale; so is 1/SCALE_STEP of index.
        offset = self._slice(k, q.weights @ self.scale_offset)[:, None, None]
        scale = scale.to(offset.dtype) / SCALE_STEP + offset
        return SlicePrior(_nchw(mean), _nchw(scale), support)

    def _unit_variance(self, k: int, y_hat: Tensor, q: _Quality) -> Tensor:
        return _nhwc(y_hat) * self._slice(k, q.context_gain)

    def latent_residual(self, k: int, support: Support, y_hat: Tensor, q: _Quality) -> Tensor:
        residual = self.slice_network(k).residual(support, self._unit_variance(k, y_hat, q))
        y_hat = y_hat + _nchw(residual).to(y_hat.dtype)
        return round_ste(y_hat * self.latent_grid) / self.latent_grid

    def extend_context(self, k: int, context: Tensor, support: Support, y_hat: Tensor, q: _Quality) -> Tensor:
        return self.slice_network(k).extended(support, self._unit_variance(k, y_hat, q))

    def synthesis(self, y_hat: Tensor, q: _Quality, band: Band = WHOLE) -> Tensor:
        if not self.closed_loop:
            return self.base_synthesis(y_hat, q, band)
        base, skip = y_hat.split((self.config.transform_channels, self.config.skip_channels), 1)
        return self.add_skip(self.base_synthesis(base, q, band), skip, q, band)

    def base_synthesis(self, y_hat: Tensor, q: _Quality, band: Band = WHOLE) -> Tensor:
        return _nchw(self.g_s(_nhwc(y_hat) * self._base(q.inverse_y), q.weights, band) + 0.5)

    def skip_latents(self, x: Tensor, base: Tensor, q: _Quality, band: Band = WHOLE) -> Tensor:
        with full_precision(x):
            return _nchw(self.left_over.analysis(_nhwc(x - base), band) * self._slice(-1, q.gain_y))

    def skip_worth(self, q: _Quality) -> Tensor:
        # λ·255²·MSE of three colours; a step is this far in x̂, as rows of U hardly overlap.
        logarithm = torch.tensor(self.config.mse_lambdas, device=q.weights.device).log().to(q.weights)
        weight = (q.weights @ logarithm).exp()[:, None, None, None] * 255**2 / 3
        step = _nchw(self._slice(-1, q.inverse_y)) ** 2 * self.left_over.up.energies()[None, :, None, None]
        return weight * step

    def add_skip(self, base: Tensor, y_hat: Tensor, q: _Quality, band: Band = WHOLE) -> Tensor:
        with full_precision(base):
            skip = self.left_over.synthesis(_nhwc(y_hat) * self._slice(-1, q.inverse_y), band)
            base, skip = paired(band, "add_skip", _nhwc(base), skip)
            return _nchw(base + skip)

    def block_means(self, x: Tensor, x_hat: Tensor, q: _Quality) -> Tensor:
        return block_means(x - x_hat) / self.left_over.step(q.weights)

    def means_to_code(self, means: Tensor) -> Tensor:
        return unspread(means) if self.config.unspreads_means else means

    def add_means(self, x_hat: Tensor, means: Tensor, q: _Quality) -> Tensor:
        return x_hat + spread_means(means * self.left_over.step(q.weights))

    def means_scale(self, q: _Quality) -> Tensor:
        return (q.weights @ self.left_over.mean_scale)[:, :, None, None]

    def _base(self, gain: Tensor) -> Tensor:
        """The part of a table over all channels of y that belongs to the transforms."""
        return gain[..., : self.config.transform_channels]

    def sigma(self, scale: Tensor) -> Tensor:
        # Clamped from above only: the Gaussian's own lower bound lets gradients out of its floor.
        return SCALE_MIN * torch.exp(scale.clamp(max=SCALE_LEVELS - 1) * SCALE_STEP)

    def scale_index(self, scale: Tensor) -> Tensor:
        return torch.round(scale).clamp(0, SCALE_LEVELS - 1).to(torch.int64)
