"""SRResNet, the generator of SRGAN (Ledig et al. 2017, arXiv 1609.04802).

Modules are called as in the re-implementation whose checkpoints are about (Lornatang/SRGAN-PyTorch). The output is not
clipped, as of all networks here.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dcae.sr.networks.base import SRNetwork
from dcae.sr.networks.config import SRResNetConfig


class _Residual(nn.Module):
    """x + BN(3x3(PReLU(BN(3x3(x)))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rcb = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.PReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.rcb(x)
        return out


class _Doubling(nn.Module):
    """Twice the size by a pixel shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.upsample_block = nn.Sequential(
            nn.Conv2d(channels, 4 * channels, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.upsample_block(x)
        return out


def _merged(layers: nn.Sequential) -> nn.Sequential:
    """The layers with each norm in the convolution before it."""
    found: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and isinstance(found[-1], nn.Conv2d):
            found[-1] = fuse_conv_bn_eval(found[-1], layer)
        else:
            found.append(layer)
    return nn.Sequential(*found)


class SRResNet(SRNetwork):
    """The network of a :class:`SRResNetConfig`."""

    config: SRResNetConfig

    def __init__(self, config: SRResNetConfig) -> None:
        super().__init__(config)
        channels, doublings = config.channels, config.scale.bit_length() - 1
        self.conv1 = nn.Sequential(nn.Conv2d(3, channels, 9, padding=4), nn.PReLU())
        self.trunk = nn.Sequential(*(_Residual(channels) for _ in range(config.blocks)))
        self.conv2 = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.upsampling = nn.Sequential(*(_Doubling(channels) for _ in range(doublings)))
        self.conv3 = nn.Conv2d(channels, 3, 9, padding=4)
        # 9x9, the blocks, 3x3, and on finer grids 3x3 and 9x9, which reach less than 2 and at most 2 further.
        self.halo = 4 + 2 * config.blocks + 1 + 2 + 2

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(x)
        out: Tensor = self.conv3(self.upsampling(self.conv2(self.trunk(first)) + first))
        return out

    def merge(self) -> None:
        for block in self.trunk:
            assert isinstance(block, _Residual)
            block.rcb = _merged(block.rcb)
        self.conv2 = _merged(self.conv2)

    def macs(self) -> float:
        channels, scale = self.config.channels, self.config.scale
        small = 81 * 3 * channels + 9 * channels**2 * (2 * self.config.blocks + 1)
        shuffles = sum(4**step * 36 * channels**2 for step in range(len(self.upsampling)))
        return (small + shuffles) / scale**2 + 81 * 3 * channels
