"""`sr-small`, an upscaler for processors: a stack of plain 3x3 convolutions beside a linear filter.

::

    x (B, 3, H, W) -> linear filter, one for all colours ------------------------------------- + -> (B, 3, sH, sW)
       \\-> blocks of u x u pixels become channels -> 3x3 -> D times (3x3, PReLU), + -> 3x3 -> pixel shuffle --/

On processors 3x3 convolutions of 32 to 64 channels run at several times the speed of narrow, depthwise or branched
ones, and their reach is finite, so that tiles are exact. Turning blocks into channels first doubles the reach at equal
cost. Layers are trained in an expanded form: the sum of a 3x3 kernel, a 1x1 kernel, and a 1x1 kernel followed by a 3x3
one, which is a 3x3 kernel again and is folded into one for model files (Zhang et al. 2021, ECBSR). The sum is taken of
the kernels, not of their outputs, so that training costs no more than it would without.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dcae.networks.base import pad_to_multiple
from dcae.resize import resized
from dcae.sr.networks.base import SRNetwork
from dcae.sr.networks.config import SmallConfig

_RIDGE = 1e-4
"""Weight of bicubic interpolation when the linear filter is fitted, relative to the mean squared sample."""


class _Expanded(nn.Module):
    """3x3 kernel (out, in, 3, 3) -> the sum of it, a 1x1 kernel, and a 1x1 kernel followed by a 3x3 one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.zeros(outputs, inputs))
        self.squeeze = nn.Parameter(0.5 * torch.randn(outputs, inputs) / inputs**0.5)
        self.spread = nn.Parameter(torch.zeros(outputs, outputs, 3, 3))

    def forward(self, kernel: Tensor) -> Tensor:
        both = torch.einsum("omyx,mi->oiyx", self.spread, self.squeeze)
        return kernel + both + F.pad(self.point[..., None, None], (1, 1, 1, 1))


class SmallUpscaler(SRNetwork):
    """The network of a :class:`SmallConfig`."""

    config: SmallConfig

    def __init__(self, config: SmallConfig) -> None:
        super().__init__(config)
        scale, block, channels = config.scale, config.block, config.channels
        self.linear = nn.Conv2d(1, scale**2, config.filter_side, bias=False)
        self.head = nn.Conv2d(3 * block**2, channels, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(config.depth))
        self.activations = nn.ModuleList(nn.PReLU(channels) for _ in range(config.depth))
        self.tail = nn.Conv2d(channels, 3 * (scale * block) ** 2, 3, padding=1)
        self.grid = block
        self.halo = max(block * (config.depth + 2), config.filter_side // 2)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Bicubic interpolation, to which the layers add nothing yet."""
        for layer in self._layers():
            nn.init.kaiming_normal_(layer.weight, a=0.25)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.tail.weight)
        self.linear.weight.copy_(_bicubic(self.config.scale, self.config.filter_side))
        # Fitted, not trained: a step that suits the layers would move the brightness of all pictures by levels.
        self.linear.requires_grad_(False)

    def _layers(self) -> list[nn.Conv2d]:
        return [self.head, *self.body, self.tail]

    def forward(self, x: Tensor) -> Tensor:
        scale, block = self.config.scale, self.config.block
        height, width = x.shape[-2:]
        features = self.head(F.pixel_unshuffle(pad_to_multiple(x - 0.5, block), block))
        y = features
        for layer, activation in zip(self.body, self.activations, strict=True):
            y = activation(layer(y))
        detail = F.pixel_shuffle(self.tail(y + features), scale * block)
        return self._interpolated(x) + detail[..., : scale * height, : scale * width]

    def _interpolated(self, x: Tensor) -> Tensor:
        """The linear filter's enlargement, in full precision, whatever that of training is."""
        with torch.autocast(x.device.type, enabled=False):
            planes = self._planes(x)
            return F.pixel_shuffle(self.linear(planes), self.config.scale).unflatten(0, (len(x), 3)).flatten(1, 2)

    def _planes(self, x: Tensor) -> Tensor:
        """Colours (B · 3, 1, H + side - 1, W + side - 1), the edges repeated."""
        reach = self.config.filter_side // 2
        return F.pad(x.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")

    def macs(self) -> float:
        scale, block, channels = self.config.scale, self.config.block, self.config.channels
        per_block = 9 * channels * (3 * block**2 + self.config.depth * channels + 3 * (scale * block) ** 2)
        return per_block / (scale * block) ** 2 + 3 * self.config.filter_side**2

    def expand(self) -> None:
        for layer in self._layers():
            expanded = _Expanded(layer.in_channels, layer.out_channels).to(layer.weight.device)
            parametrize.register_parametrization(layer, "weight", expanded)

    def fold(self) -> None:
        for layer in self._layers():
            if parametrize.is_parametrized(layer):
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)

    def weights_of(self, other: SRNetwork) -> dict[str, Tensor]:
        found = super().weights_of(other)
        if isinstance(other, SmallUpscaler) and other.config.block > 1 and self.config.block == 1:
            # A pixel is taken for the block of equal ones that it would be after plain repetition.
            kernels = found["head.weight"]
            found["head.weight"] = kernels.unflatten(1, (3, -1)).sum(2)
        return found

    @torch.no_grad()
    def calibrate(self, small: Tensor, large: Tensor) -> None:
        """Let the linear filter be the one of least squared error on these pictures, of those that keep a plain area.

        It knows that the small picture is a reduction, and sharpens: most of what a filter can gain is there before
        training.
        """
        side, scale = self.config.filter_side, self.config.scale
        windows = F.unfold(self._planes(small.double()), side).transpose(1, 2).flatten(0, 1)  # (n, side²)
        wanted = (
            F.pixel_unshuffle(large.double().flatten(0, 1)[:, None], scale).flatten(2).transpose(1, 2).flatten(0, 1)
        )
        # Relative to the middle sample, so that weights that sum to 1 are no constraint.
        middle = side**2 // 2
        around, centre = torch.arange(side**2, device=windows.device) != middle, windows[:, middle, None]
        inputs, start = (windows - centre)[:, around], self.linear.weight.double().flatten(1)[:, around].T
        ridge = _RIDGE * len(inputs) * windows.square().mean() * torch.eye(side**2 - 1).to(inputs)
        found = torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ (wanted - centre) + ridge @ start).T
        weights = self.linear.weight.flatten(1)
        weights[:, around] = found.to(weights)
        weights[:, middle] = (1 - found.sum(1)).to(weights)
        self.linear.weight.copy_(weights.reshape(self.linear.weight.shape))


def _bicubic(scale: int, side: int) -> Tensor:
    """Weights (scale², 1, side, side) of the protocol's enlargement, cut off at the sides of the filter."""
    point = torch.zeros(2 * side + 1, 2 * side + 1, 1)
    point[side, side] = 1
    spread = torch.from_numpy(resized(point.numpy(), scale))[..., 0]
    # What a sample adds to outputs around it is what outputs take from samples around them, the other way round.
    phases = spread.unflatten(0, (-1, scale)).unflatten(2, (-1, scale)).permute(1, 3, 0, 2).flatten(0, 1).flip(1, 2)
    cut = slice(side - side // 2, side + side // 2 + 1)
    weights = phases[:, None, cut, cut]
    return weights / weights.sum((2, 3), keepdim=True)
