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
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.errors import MissingDependencyError, OptionError
from dcae.networks.config import DCAEConfig


class SlicePrior(NamedTuple):
    """What is known of one slice before it is decoded, all (B, C_k, H/16, W/16) but the support."""

    mean: Tensor
    scale: Tensor
    """Preset-defined; `DCAE.scale_index` and `DCAE.sigma` read it."""
    support: Any


def round_ste(x: Tensor) -> Tensor:
    """Round to nearest, with the gradient of the identity (straight-through)."""
    return x + (torch.round(x) - x).detach()


def check_device(device: str) -> None:
    """Refuse a torch device that is not there.

    Raises:
        OptionError: no such device on this machine, or one that holds no numbers.
    """
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


class EntropyModel(Protocol):
    """What decides probabilities, from ẑ to the last ŷ: the hooks of the same names of :class:`DCAE`."""

    numerics: str
    """As files name it (`dcae.codec.container.NUMERICS`)."""

    def conditioning(self, quality: float, /) -> Any: ...
    def hyper_synthesis(self, z_hat: Tensor, q: Any, /) -> Any: ...
    def slice_prior(self, k: int, context: Any, q: Any, /) -> SlicePrior: ...
    def scale_index(self, scale: Tensor, /) -> Tensor: ...
    def means_scale(self, q: Any, /) -> Tensor: ...
    def latent_residual(self, k: int, support: Any, y_hat: Tensor, q: Any, /) -> Tensor: ...
    def extend_context(self, k: int, context: Any, support: Any, y_hat: Tensor, q: Any, /) -> Any: ...
    def arithmetic(self) -> AbstractContextManager[None]: ...


class DCAE(nn.Module):
    """Dictionary-based cross-attention autoencoder (arXiv 2504.00496); subclasses are the presets.

    Tensors at this interface are (B, C, H, W); y has `config.latent_channels` at H/16, z has
    `config.hyper_channels` at H/64. `quality` is a float or a (B,) tensor in `config.qualities`.
    """

    latent_grid = 0
    """ŷ lies on multiples of 1/`latent_grid`; 0 where it is any number."""
    numerics = "float32"
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

    def add_skip(self, base: Tensor, y_hat: Tensor, q: Any) -> Tensor:
        """x̂0 and ŷ of the last slice -> x̂1."""
        raise NotImplementedError

    def block_means(self, x: Tensor, x_hat: Tensor, q: Any) -> Tensor:
        """x and x̂1 -> what is left in the means of blocks, in steps (B, 3, H/64, W/64)."""
        raise NotImplementedError

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
        """What the entropy model is evaluated within when coding."""
        return nullcontext()

    # -- shared ----------------------------------------------------------------------------------------------

    def add_entropy_models(self) -> None:
        """Give the network the two densities that training measures its rate with.

        Coding never needs them: an exported model carries integer tables instead.

        Raises:
            MissingDependencyError: compressai is not installed.
        """
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*torch.jit.script.*")  # its business, not our user's
                from compressai.entropy_models import EntropyBottleneck, GaussianConditional
        except ImportError as error:
            raise MissingDependencyError(
                "training needs compressai (pip install compressai; wheels exist for Linux and macOS, "
                f"Python 3.10 to 3.12): {error}"
            ) from error
        self.entropy_bottleneck = EntropyBottleneck(self.config.hyper_channels, init_scale=self.prior_scale)
        self.gaussian_conditional = GaussianConditional(None)

    def quantise_slice(self, y: Tensor, prior: SlicePrior) -> Tensor:
        """round(y - mean) + mean, straight-through."""
        return round_ste(y - prior.mean) + prior.mean

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

        last = len(self.config.slices) - 1
        parts = list(y.split(self.config.slices[: last + (not self.closed_loop)], 1))
        y_hats: list[Tensor] = []
        likelihoods = []
        base = None
        with torch.autocast(x.device.type, enabled=False):  # bf16, if at all, for the transforms alone
            context = self.hyper_synthesis(z_hat, q)
        for k in range(last + 1):
            if k == len(parts):
                base = self.base_synthesis(torch.cat(y_hats, 1), q)
                parts.append(self.skip_latents(x, base, q))
            with torch.autocast(x.device.type, enabled=False):
                prior = self.slice_prior(k, context, q)
                likelihoods.append(self.likelihood(parts[k], prior.mean, self.sigma(prior.scale)))
                y_hat = self.latent_residual(k, prior.support, self.quantise_slice(parts[k], prior), q)
                y_hats.append(y_hat)
                if k < last:
                    context = self.extend_context(k, context, prior.support, y_hat, q)
        found = {"y": torch.cat(likelihoods, 1), "z": z_likelihoods}
        if base is None:
            x_hat = self.synthesis(torch.cat(y_hats, 1), q)
        else:
            x_hat = self.add_skip(base, y_hats[-1], q)
            means = self.block_means(x, x_hat, q)
            found["c"] = self.likelihood(means, torch.zeros_like(means), self.sigma(self.means_scale(q)))
            x_hat = self.add_means(x_hat, round_ste(means), q)
        return {"x_hat": x_hat[..., :height, :width], "likelihoods": found}

    def likelihood(self, y: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
        """Probability of latents under their Gaussians, in bins of one quantisation step.

        In eval mode that of the rounded latents, which files spend. In training the value is the same, but the
        gradient for y is that of y with uniform noise (Ballé et al. 2017) under the same Gaussians, since rounding
        has none. So mean and scale learn from what is coded, and a latent that is always zero costs nothing: noise
        would charge it 0.15 bits at the lowest scale, and sparse channels would be taxed away.
        """
        density = self.gaussian_conditional
        if not self.training:
            return density(y, sigma, mean, training=False)[1]
        coded = density._likelihood(round_ste(y.detach() - mean), sigma)
        coded = density.likelihood_lower_bound(coded)
        noisy = density._likelihood(density.quantize(y - mean.detach(), "noise"), sigma.detach())
        noisy = density.likelihood_lower_bound(noisy)
        return coded * (noisy / noisy.detach())
