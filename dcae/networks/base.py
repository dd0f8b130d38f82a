"""The DCAE module: what all presets share, from picture to likelihoods.

A preset is a subclass that wires named blocks into the hooks below; `forward` here is the training pass, and
`dcae.codec` walks the same hooks to write and read files, so that both see one and the same entropy model::

    x --analysis--> y --hyper_analysis--> z --round--> ẑ --hyper_synthesis--> context
    for each slice k:  context --slice_prior--> mean, scale   (the symbols round(y_k - mean) are coded)
                       latent_residual refines ŷ_k, extend_context adds it to what the next slice sees
    ŷ --synthesis--> x̂
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.errors import OptionError
from dcae.extras import require_training
from dcae.networks.config import DCAEConfig
from dcae.networks.steps import SlicePrior
from dcae.networks.walk import walk_slices


def round_ste(x: Tensor) -> Tensor:
    """Round to nearest, with the gradient of the identity (straight-through)."""
    return x + (torch.round(x) - x).detach()


def check_device(device: str) -> None:
    """Refuse a torch device that is not there.

    Raises:
        OptionError: no such device on this machine, or one that holds no numbers.
    """
    if not isinstance(device, str):
        raise OptionError(f"a device is a name like cpu or cuda:0, got {type(device).__name__}")
    if device.split(":")[0] == "meta":
        raise OptionError("device meta holds no numbers; use the cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"device {device!r} is not available ({str(error).splitlines()[0]})") from error


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Replicate the right column and bottom row of (B, C, H, W) until both sides are multiples."""
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


class DCAE(nn.Module):
    """Dictionary-based cross-attention autoencoder (arXiv 2504.00496); subclasses are the presets.

    Tensors at this interface are (B, C, H, W); y has `config.latent_channels` at H/16, z has
    `config.hyper_channels` at H/64. `quality` is a float or a (B,) tensor in `config.qualities`.
    """

    latent_grid = 0
    """ŷ lies on multiples of 1/`latent_grid`; 0 where it is any number."""
    numerics = "float32"
    """Name of the entropy model's arithmetic in files."""
    prior_scale = 10
    """Width of the factorised prior at the start of training; 10 is CompressAI's."""

    closed_loop = False
    """Whether the last slice and the block means carry what the synthesis of the others leaves over."""
    corrects_means = False
    """Whether encoding looks at the decoded picture and corrects its brightness unless told otherwise."""

    fast_parameters: tuple[str, ...] = ()
    """Parts of the names of parameters that are trained with larger steps than the others."""

    def __init__(self, config: DCAEConfig) -> None:
        super().__init__()
        self.config = config

    # -- hooks of the presets ---------------------------------------------------------------------------------

    def initialise(self) -> None:
        """Starting values that constructors do not set; called for a network that will be trained from scratch."""

    def calibrate(self, x: Tensor) -> None:
        """Adapt the starting values to a batch of training pictures (B, 3, H, W); nothing by default."""

    def calibrate_skip(self, x: Tensor) -> None:
        """Start skip latents that no training has touched yet from a batch of training pictures, as above."""

    def anchored_parameters(self) -> set[str]:
        """Names of the parameters whose first dimension runs over `config.lambdas`."""
        return set()

    def prepare_for_coding(self) -> None:
        """Compute once what only depends on the weights; called when they, and the device, are final."""

    def conditioning(self, quality: float | Tensor) -> Any:
        """Everything that depends on the quality alone; handed to the other hooks as `q`."""
        raise NotImplementedError

    def analysis(self, x: Tensor, q: Any) -> Tensor:
        """x (B, 3, H, W) in [0, 1], sides multiples of 64 -> y."""
        raise NotImplementedError

    def hyper_analysis(self, y: Tensor, q: Any) -> Tensor:
        """y -> z."""
        raise NotImplementedError

    def hyper_synthesis(self, z_hat: Tensor, q: Any) -> Any:
        """ẑ -> the context of slice 0."""
        raise NotImplementedError

    def slice_prior(self, k: int, context: Any, q: Any) -> SlicePrior:
        """Mean and scale of slice k given the context."""
        raise NotImplementedError

    def latent_residual(self, k: int, support: Any, y_hat: Tensor, q: Any) -> Tensor:
        """ŷ_k = round(y_k - mean) + mean -> refined ŷ_k (latent residual prediction)."""
        raise NotImplementedError

    def extend_context(self, k: int, context: Any, support: Any, y_hat: Tensor, q: Any) -> Any:
        """The context of slice k + 1, once ŷ_k is known."""
        raise NotImplementedError

    def synthesis(self, y_hat: Tensor, q: Any) -> Tensor:
        """ŷ -> x̂ (B, 3, H, W), not clamped."""
        raise NotImplementedError

    def base_synthesis(self, y_hat: Tensor, q: Any) -> Tensor:
        """ŷ of all slices but the last -> x̂0, where the network has a closed loop."""
        raise NotImplementedError

    def skip_latents(self, x: Tensor, base: Tensor, q: Any) -> Tensor:
        """x and x̂0 (B, 3, H, W) -> the last slice of y (B, C, H/16, W/16)."""
        raise NotImplementedError

    def skip_worth(self, q: Any) -> Tensor:
        """Bits that a squared error of one step of each skip latent is worth by λ (B or 1, C, 1, 1)."""
        raise NotImplementedError

    def add_skip(self, base: Tensor, y_hat: Tensor, q: Any) -> Tensor:
        """x̂0 and ŷ of the last slice -> x̂1."""
        raise NotImplementedError

    def block_means(self, x: Tensor, x_hat: Tensor, q: Any) -> Tensor:
        """x and x̂1 -> what is left in the means of blocks, in steps (B, 3, H/64, W/64)."""
        raise NotImplementedError

    def means_to_code(self, means: Tensor) -> Tensor:
        """What to code so that about these block means (B, 3, H/64, W/64) are added."""
        return means

    def add_means(self, x_hat: Tensor, means: Tensor, q: Any) -> Tensor:
        """x̂1 and the rounded means -> x̂."""
        raise NotImplementedError

    def means_scale(self, q: Any) -> Tensor:
        """Scale of the block means, as `SlicePrior.scale` (B or 1, 3, 1, 1); their mean is 0."""
        raise NotImplementedError

    def sigma(self, scale: Tensor) -> Tensor:
        """`SlicePrior.scale` -> standard deviation of the Gaussian, for the training rate."""
        raise NotImplementedError

    def scale_index(self, scale: Tensor) -> Tensor:
        """`SlicePrior.scale` -> row of the frozen table (int64), for coding."""
        raise NotImplementedError

    def arithmetic(self) -> AbstractContextManager[None]:
        """Context that the entropy model is evaluated within when coding; it undoes settings of the caller's."""
        return nullcontext()

    # -- shared ----------------------------------------------------------------------------------------------

    def add_entropy_models(self) -> None:
        """Give the network the two densities that training measures its rate with.

        Coding never needs them: an exported model carries integer tables instead.

        Raises:
            MissingDependencyError: compressai is not installed.
        """
        require_training()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*torch.jit.script.*")  # its business, not our user's
            from compressai.entropy_models import EntropyBottleneck, GaussianConditional

        self.entropy_bottleneck = EntropyBottleneck(self.config.hyper_channels, init_scale=self.prior_scale)
        self.gaussian_conditional = GaussianConditional(None)

    def symbols(self, y: Tensor, mean: Tensor, sigma: Tensor, worth: Tensor | float | None = None) -> Tensor:
        """Whole numbers that y is coded as, without gradient: round(y - mean).

        Args:
            worth: bits that a squared error of one step is worth. Where it is given the symbol, the next smaller one
                and zero are compared by error and rate, and the best is taken (rate-distortion optimised
                quantisation).
        """
        with torch.no_grad():
            left = y - mean
            symbols = left.round()
            if worth is None:
                return symbols
            best = symbols
            lowest = worth * (left - symbols) ** 2 + self._bits(symbols, sigma)
            for smaller in (symbols - symbols.sign(), torch.zeros_like(symbols)):
                cost = worth * (left - smaller) ** 2 + self._bits(smaller, sigma)
                best, lowest = torch.where(cost < lowest, smaller, best), torch.minimum(cost, lowest)
            return best

    def _bits(self, symbols: Tensor, sigma: Tensor) -> Tensor:
        density = self.gaussian_conditional
        likelihood: Tensor = density.likelihood_lower_bound(density._likelihood(symbols, sigma))
        return -likelihood.log2()

    def forward(self, x: Tensor, quality: float | Tensor = 1.0) -> dict[str, Any]:
        """The rate-distortion pass, as in CompressAI.

        Args:
            x: (B, 3, H, W) in [0, 1], any H, W >= 1.
            quality: one number or (B,), in `config.qualities`.

        Returns:
            `x_hat` (B, 3, H, W), not clamped; `likelihoods` of `y`, of `z` and, where there is a closed loop, of
            the block means `c`, of the padded picture: in eval mode those of the rounded latents, in training mode
            see :meth:`likelihood`.
        """
        height, width = x.shape[-2:]
        q = self.conditioning(quality)
        x = pad_to_multiple(x, self.config.stride)
        y = self.analysis(x, q)
        z = self.hyper_analysis(y, q)
        dtype = y.dtype if y.dtype == torch.float64 else torch.float32
        y, z = y.to(dtype), z.to(dtype)
        _, z_likelihoods = self.entropy_bottleneck(z)
        medians = self.entropy_bottleneck._get_medians().reshape(1, -1, 1, 1).detach()
        z_hat = round_ste(z - medians) + medians

        parts = list(y.split(self.config.slices[: len(self.config.slices) - self.closed_loop], 1))
        likelihoods: list[Tensor] = []
        base: list[Tensor] = []
        device = x.device.type
        as_called = torch.autocast(
            device, enabled=torch.is_autocast_enabled(device), dtype=torch.get_autocast_dtype(device)
        )

        def quantised(k: int, prior: SlicePrior, y_hats: list[Tensor]) -> Tensor:
            if k == len(parts):
                with as_called:
                    base.append(self.base_synthesis(torch.cat(y_hats, 1), q))
                    parts.append(self.skip_latents(x, base[0], q))
            y, sigma = parts[k], self.sigma(prior.scale)
            worth = self.skip_worth(q) if base else self.config.step_worth or None
            symbols = self.symbols(y, prior.mean, sigma, worth)
            likelihoods.append(self.likelihood(y, prior.mean, sigma, symbols))
            return y + (symbols + prior.mean - y).detach()  # straight-through

        with torch.autocast(device, enabled=False):  # bf16, if at all, for the transforms alone
            context = self.hyper_synthesis(z_hat, q)
            y_hats = walk_slices(self, len(self.config.slices), context, q, quantised)
        found = {"y": torch.cat(likelihoods, 1), "z": z_likelihoods}
        if not base:
            x_hat = self.synthesis(torch.cat(y_hats, 1), q)
        else:
            x_hat = self.add_skip(base[0], y_hats[-1], q)
            means = self.means_to_code(self.block_means(x, x_hat, q))
            zero = torch.zeros_like(means)
            found["c"] = self.likelihood(means, zero, self.sigma(self.means_scale(q)), means.detach().round())
            x_hat = self.add_means(x_hat, round_ste(means), q)
        return {"x_hat": x_hat[..., :height, :width], "likelihoods": found}

    def likelihood(self, y: Tensor, mean: Tensor, sigma: Tensor, symbols: Tensor) -> Tensor:
        """Probability of what y is coded as under its Gaussians, in bins of one quantisation step.

        That is what files spend. In training the gradient for y is that of y with uniform noise (Ballé et al. 2017)
        under the same Gaussians, since rounding has none. So mean and scale learn from what is coded, and a latent
        that is always zero costs nothing: noise would charge it 0.15 bits at the lowest scale, and sparse channels
        would be taxed away.
        """
        density = self.gaussian_conditional
        coded: Tensor = density.likelihood_lower_bound(density._likelihood(symbols + mean.detach() - mean, sigma))
        if not self.training:
            return coded
        noisy = density._likelihood(density.quantize(y - mean.detach(), "noise"), sigma.detach())
        noisy = density.likelihood_lower_bound(noisy)
        return coded * (noisy / noisy.detach())
