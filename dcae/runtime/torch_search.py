"""Search for better latents: some gradient steps on y through the frozen network, for one picture or a part of one.

What is minimised is J = λ·D + R of the picture, in bits, with the rounding of y - mean replaced by a smooth function
(soft rounding, Agustsson and Theis, NeurIPS 2020) whose temperature falls, and with gradients through all of the
entropy model's context. Steps are scaled by an estimate of J's curvature, channel by channel: twice λ times the energy
that a step of the channel has in the picture, and that of the rate of a Gaussian. Trials of other symbols may follow,
which change whole steps and so need no smooth function: see `search.py`. The decoder knows nothing of any of this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dcae.networks.base import DCAE, SlicePrior
from dcae.networks.bounds import LEAST_PROBABILITY
from dcae.networks.walk import walk_slices
from dcae.runtime.protocol import Array, Step, Trial
from dcae.runtime.search import MOST, Moves, local_weights, middle, random_signs, report, similarity, split, tried
from dcae.runtime.torch_ms_ssim import ms_ssim

_FLOOR = 0.11
"""Smallest standard deviation of a Gaussian, as in training."""


def soft_round(x: Tensor, temperature: float) -> Tensor:
    """x, drawn towards whole numbers; equation 7 of arXiv 2006.09952, with 1 / `temperature` for α."""
    alpha = 1 / temperature
    centre = x.detach().floor() + 0.5
    return centre + torch.tanh(alpha * (x - centre)) / (2 * math.tanh(alpha / 2))


def _bits(symbols: Tensor, sigma: Tensor) -> Tensor:
    """Bits of symbols, fractions too, under Gaussians of mean 0."""
    sigma = sigma.clamp(min=_FLOOR) * 2**0.5
    distance = symbols.abs()
    probability = 0.5 * (torch.erfc((distance - 0.5) / sigma) - torch.erfc((distance + 0.5) / sigma))
    return -probability.clamp(min=LEAST_PROBABILITY).log2()


class LatentSearch:
    """The objective of one picture: y -> J, its gradient, and steps along it.

    Args:
        network: frozen; its parameters get no gradients.
        x: (1, 3, H, W) in [0, 1], sides multiples of the stride.
        z_hat: (1, N, H/64, W/64).
        quality: in the model's range.
        weights: (1, 1, H, W), how much the squared error of each pixel counts; 0 for padding.
        similar: count 1 - MS-SSIM instead, of the pixels that weigh 1, see `dcae.runtime.search.similarity`.
    """

    def __init__(
        self, network: DCAE, x: Tensor, z_hat: Tensor, quality: float, weights: Tensor, similar: bool = False
    ) -> None:
        self.network, self.x, self.z_hat, self.weights = network, x, z_hat, weights
        self.similar = similarity(x.cpu().numpy(), weights.cpu().numpy()) if similar else None
        self.q = network.conditioning(torch.tensor([quality]))
        config = network.config
        # λ·255²·MSE·pixels = worth · sum of squared errors
        self.worth = config.mse_lambda_of(quality) * 255**2 / 3
        self.searched = len(config.slices) - network.closed_loop
        self.channels = config.slices[: self.searched]

    def objective(self, y: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """J in bits, and σ of every latent, (1, M, H/16, W/16), without gradient.

        Args:
            y: (1, M, H/16, W/16), the latents of the searched slices.
        """
        parts = y.split(self.channels, 1)

        def symbols_of(k: int, mean: Tensor) -> tuple[Tensor, Tensor]:
            symbols = soft_round(parts[k] - mean, temperature)
            return symbols, symbols

        return self._value(symbols_of)

    def moves(self, values: Array, relative: bool) -> Moves:
        """What :meth:`dcae.runtime.search.Symbols.moves` asks for."""
        parts = torch.from_numpy(values).to(self.x).split(self.channels, 1)
        means: list[Tensor] = []
        leaves: list[Tensor] = []

        def symbols_of(k: int, mean: Tensor) -> tuple[Tensor, Tensor]:
            means.append(mean.detach())
            leaves.append((parts[k] - means[k] * relative).round().requires_grad_())
            return leaves[k], leaves[k].detach()

        value, sigma = self._value(symbols_of)
        gradient = torch.cat(torch.autograd.grad(value, leaves), 1)
        symbols = torch.cat(leaves, 1).detach()
        own, up, down = (_bits(symbols + change, sigma) for change in (0, 1, -1))
        arrays = (tensor.cpu().numpy() for tensor in (symbols, torch.cat(means, 1), gradient, up - own, down - own))
        return Moves(float(value.detach()), *arrays)

    def _value(self, symbols_of: Callable[[int, Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """J in bits, and σ of every searched latent, without gradient.

        Args:
            symbols_of: number of a slice and its mean -> its symbols as the decoder has them, and as they are coded.
        """
        network, q = self.network, self.q
        bits: list[Tensor] = []
        sigmas: list[Tensor] = []
        base: list[Tensor] = []

        def quantised(k: int, prior: SlicePrior, y_hats: list[Tensor]) -> Tensor:
            sigma = network.sigma(prior.scale)
            if k == self.searched:  # a closed loop's: coded as they come, not searched
                base.append(network.base_synthesis(torch.cat(y_hats, 1), q))
                with torch.no_grad():
                    symbols = coded = self._skip_symbols(base[0], prior, sigma)
            else:
                symbols, coded = symbols_of(k, prior.mean)
                sigmas.append(sigma.detach())
            bits.append(_bits(coded, sigma).sum())
            return symbols + prior.mean

        context = network.hyper_synthesis(self.z_hat, q)
        y_hats = walk_slices(network, len(network.config.slices), context, q, quantised)
        x_hat = self._closed(base[0], y_hats[-1]) if base else network.synthesis(torch.cat(y_hats, 1), q)
        return self.worth * self._error(x_hat) + torch.stack(bits).sum(), torch.cat(sigmas, 1)

    def _error(self, x_hat: Tensor) -> Tensor:
        """Sum of squared errors by their weights, or what is worth as much."""
        if self.similar is None:
            return ((self.x - x_hat).square() * self.weights).sum()
        height, width, worth, _ = self.similar
        return worth * (1 - ms_ssim(self.x[..., :height, :width], x_hat[..., :height, :width]))

    def _skip_symbols(self, base: Tensor, prior: SlicePrior, sigma: Tensor) -> Tensor:
        """Symbols of the skip latents, zero where they are not worth their bits."""
        left = self.network.skip_latents(self.x, base, self.q) - prior.mean
        symbols, worth = left.round(), self.network.skip_worth(self.q)
        plain = worth * (left - symbols) ** 2 + _bits(symbols, sigma)
        zero = worth * left**2 + _bits(torch.zeros_like(symbols), sigma)
        return torch.where(zero < plain, torch.zeros_like(symbols), symbols)

    def _closed(self, base: Tensor, skip: Tensor) -> Tensor:
        """x̂ of a closed loop, which follows x̂0 without gradients of its own."""
        with torch.no_grad():
            shown = self.network.add_skip(base, skip, self.q)
            means = self.network.block_means(self.x, shown, self.q).round()
            added = self.network.add_means(shown, means, self.q) - base
        return base + added

    def curvature(self, y: Tensor) -> Tensor:
        """Twice λ times the mean energy that a step of each channel of y has in the picture, by the pixels' weights, in
        bits, (1, M, H/16, W/16).

        The energy is that of the columns of the synthesis' Jacobian, estimated by one product with a random vector
        (Hutchinson) on the middle of the picture.
        """
        part = middle(y).detach().round().requires_grad_()
        network = self.network
        x_hat = (network.base_synthesis if network.closed_loop else network.synthesis)(part, self.q)
        probe = torch.from_numpy(random_signs(x_hat.shape)).to(x_hat)
        (gradient,) = torch.autograd.grad((x_hat * probe).sum(), part)
        pixels = self.similar.weights if self.similar else self.weights.cpu().numpy()
        weights = torch.from_numpy(local_weights(pixels)).to(y)
        return 2 * self.worth * gradient.square().mean((0, 2, 3), keepdim=True) * weights


def searched(problem: LatentSearch, y: Tensor, steps: Sequence[Step | Trial]) -> Tensor:
    """y after some steps and trials, as :func:`dcae.runtime.search.searched`."""
    steps, trials = split(steps)
    curvature = problem.curvature(y)
    for step in steps:
        variable = y.detach().requires_grad_()
        value, sigma = problem.objective(variable, step.temperature)
        (gradient,) = torch.autograd.grad(value, variable)
        h = curvature + 4 * math.log2(math.e) / (sigma.square() + 1 / 12)
        y = (y - (step.rate * (gradient / h).clamp(-1, 1)).clamp(-MOST, MOST)).detach()
        report(y)
    if trials:
        y = torch.from_numpy(tried(problem, y.cpu().numpy(), curvature.cpu().numpy(), trials))
    return y
