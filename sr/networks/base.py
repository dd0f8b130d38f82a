"""What all networks share that enlarge pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcae.sr.networks.config import SRConfig
from dcae.sr.upscalers import Cost


class SRNetwork(nn.Module):
    """A network from pictures (B, colours, H, W) in [0, 1] to pictures (B, colours, scale · H, scale · W), not clipped.

    H and W are any numbers of at least 1.
    """

    colours = 3
    """Channels of pictures, red, green and blue, or 1: gray."""
    halo: int | None = None
    """Pixels of the small picture around a pixel that decide its enlargement; None where all of them do."""
    grid = 1
    """Tiles must begin at multiples of so many pixels of the small picture."""

    def __init__(self, config: SRConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def macs(self) -> float:
        """Multiplications with addition per pixel of the enlarged picture, of convolutions, linear maps and products
        within attention."""
        raise NotImplementedError

    def cost(self) -> Cost:
        """What enlarging takes."""
        return Cost(sum(parameter.numel() for parameter in self.parameters()), self.macs())

    def expand(self) -> None:
        """Give the layers the form in which they are trained; nothing by default."""

    def fold(self) -> None:
        """Give the layers the form in which they are used, which is that of model files; undoes :meth:`expand`."""

    def merge(self) -> None:
        """Merge layers that are one once training is over, for speed; the weights have other names then, and nothing
        can be trained or written any more. Nothing by default."""

    def weights_of(self, other: SRNetwork) -> dict[str, Tensor]:
        """Weights of another network, folded as this one is, as far as they mean the same here."""
        return other.state_dict()

    @torch.no_grad()
    def calibrate(self, small: Tensor, large: Tensor) -> None:
        """Adapt the starting values to training pictures; nothing by default.

        Args:
            small, large: pictures (B, 3, H, W) and (B, 3, scale · H, scale · W) in [0, 1].
        """
