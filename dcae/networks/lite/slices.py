"""The slice networks of `lite`, which predict one slice of y from the state."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from dcae.networks.exact_ready import ConvLayer, DictionaryAttention, zero_linear
from dcae.networks.lite.config import LiteConfig


class Support(NamedTuple):
    """Features that a slice network hands on to the later steps of its slice."""

    state: Tensor
    hidden: Tensor
    """The state's part of the latent residual's hidden layer."""


class SliceNetwork(nn.Module):
    """Refines the state for one slice and reads its mean and scale off it. Exact-ready."""

    def __init__(self, config: LiteConfig, channels: int, last: bool) -> None:
        super().__init__()
        width, hidden = config.context_width, config.residual_width
        self.channels = channels
        self.attention = DictionaryAttention(width, config.dictionary_width, config.head_channels)
        self.layer = ConvLayer(width, 2)
        # Mean, scale and what the latent residual's hidden layer takes from the state: one map of one input.
        self.head = zero_linear(width, 2 * channels + hidden)
        self.residual_in = nn.Linear(channels, hidden, bias=False)
        self.residual_out = zero_linear(hidden, channels)
        self.extend = None if last else nn.Linear(channels, width)

    def forward(self, state: Tensor, dictionary: Tensor) -> tuple[Tensor, Tensor, Support]:
        """state -> mean (in units of unit variance), log-scale, and what the later steps need."""
        state = self.layer(self.attention(state, dictionary))
        mean, scale, hidden = self.head(state).split((self.channels, self.channels, self.residual_in.out_features), -1)
        return mean, scale, Support(state, hidden)

    def residual(self, support: Support, y_hat: Tensor) -> Tensor:
        """Latent residual prediction in ±0.5, in units of the quantisation step; ŷ has unit variance."""
        hidden = F.relu(support.hidden + self.residual_in(y_hat))
        return 0.5 * F.hardtanh(self.residual_out(hidden))

    def extended(self, support: Support, y_hat: Tensor) -> Tensor:
        """The state for the next slice; ŷ has unit variance."""
        return support.state if self.extend is None else support.state + self.extend(y_hat)
