"""Multiply-accumulates and parameters of a network, counted without running it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from dcae.networks.config import DCAEConfig
from dcae.networks.registry import build_model
from dcae.networks.walk import walk_slices


@dataclass(frozen=True)
class Complexity:
    """Complexity of one preset; all but the parameters in kMAC (1000 multiply-accumulates) per pixel of the picture.

    Counted are matrix products and convolutions, not element-wise operations, normalisation or range coding.
    """

    parameters: int
    """Number of parameters that coding needs, without the densities for training."""
    analysis: float
    hyper_analysis: float
    hyper_synthesis: float
    slices: float
    """Slice priors, latent residuals and the extension of the context, which encoder and decoder both run."""
    synthesis: float

    @property
    def entropy_model(self) -> float:
        """Cost of what gives the decoder its probabilities: hyper synthesis and slices."""
        return self.hyper_synthesis + self.slices

    @property
    def encoder(self) -> float:
        """Everything that encoding runs."""
        return self.analysis + self.hyper_analysis + self.entropy_model

    @property
    def decoder(self) -> float:
        """Everything that decoding runs."""
        return self.entropy_model + self.synthesis


def measure_complexity(config: DCAEConfig, height: int = 512, width: int = 768) -> Complexity:
    """Count one pass over a picture of `height` x `width` pixels, multiples of 64 (padding would count as well)."""
    network = build_model(config, entropy_models=False).eval().requires_grad_(False)
    parameters = sum(p.numel() for p in network.parameters())
    q = _to_meta(network.conditioning(1.0))  # before the move: autocast does not know the meta device
    network.to("meta")
    counts: dict[str, float] = {}

    @contextmanager
    def counted(name: str) -> Iterator[None]:
        with FlopCounterMode(display=False) as counter:
            yield
        kilo_macs = counter.get_total_flops() / 2 / 1000  # a multiply-accumulate is two operations
        counts[name] = counts.get(name, 0.0) + kilo_macs / (height * width)

    with torch.inference_mode():
        x = torch.empty(1, 3, height, width, device="meta")
        with counted("analysis"):
            y = network.analysis(x, q)
        with counted("hyper_analysis"):
            z = network.hyper_analysis(y, q)
        with counted("hyper_synthesis"):
            context = network.hyper_synthesis(z, q)
        with counted("slices"):
            slices = network.config.slices
            parts = list(y.split(slices[: len(slices) - network.closed_loop], 1))
            parts += [torch.empty(1, slices[-1], *y.shape[2:], device="meta")] * network.closed_loop
            y_hats = walk_slices(network, len(slices), context, q, lambda k, prior, before: parts[k])
        with counted("synthesis"):
            x_hat = network.synthesis(torch.cat(y_hats, 1), q)
        if network.closed_loop:
            with counted("analysis"):  # the encoder alone looks at what is left over
                network.skip_latents(x, network.base_synthesis(torch.cat(y_hats[:-1], 1), q), q)
                network.block_means(x, x_hat, q)
    return Complexity(parameters, **counts)


def _to_meta(q: Any) -> Any:
    """A preset's conditioning, None or a named tuple of tensors, without its data."""
    return q if q is None else type(q)(*(value.to("meta") for value in q))
