"""Configurations of the networks that enlarge pictures, stored as JSON in model files and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from dcae.checks import check_between
from dcae.errors import OptionError
from dcae.networks.config import NetworkConfig

MAX_SCALE = 8
MAX_DEPTH = 64
"""Largest number of layers, or groups of layers, that a configuration may name."""
MAX_HEADS = 64
"""Largest number of attention heads; each has a bias for every pair of pixels of a window, which no file stores."""


@dataclass(frozen=True)
class SRConfig(NetworkConfig):
    """Fields that all of them have."""

    scale: int = 2
    """Factor on both sides."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between("scale", self.scale, 1, MAX_SCALE)

    def said(self) -> str:
        return f"enlarges by {self.scale}"


@dataclass(frozen=True)
class SmallConfig(SRConfig):
    """Configuration of :class:`dcae.sr.networks.small.SmallUpscaler`."""

    preset: ClassVar[str] = "sr-small"

    channels: int = 48
    """Channels of the hidden layers."""
    depth: int = 8
    """3x3 convolutions between hidden layers."""
    unshuffle: int = 0
    """Side in pixels of the blocks of the small picture that become channels first; 0: 2 for scale 2, else 1."""
    filter_side: int = 7
    """Side in pixels of the small picture, odd, of the linear filter whose result the network adds to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between("depth", self.depth, 1, MAX_DEPTH)
        check_between("channels", self.channels, 1, 512)
        check_between("unshuffle", self.unshuffle, 0, 4)
        check_between("filter_side", self.filter_side, 3, 31)
        if self.filter_side % 2 == 0:
            raise OptionError(f"filter_side must be odd, got {self.filter_side}")

    @property
    def block(self) -> int:
        """Side in pixels of the blocks that become channels."""
        return self.unshuffle or (2 if self.scale == 2 else 1)


@dataclass(frozen=True)
class DRCTConfig(SRConfig):
    """Configuration of :class:`dcae.sr.networks.drct.DRCT`; the defaults are those of the published DRCT."""

    preset: ClassVar[str] = "drct"

    colours: int = 3
    """Channels of pictures: 3, or 1 for gray."""
    width: int = 180
    """Channels between the groups."""
    growth: int = 32
    """Channels that each block of a group adds to what the next one sees."""
    groups: int = 6
    """Groups of five blocks."""
    heads: int = 6
    """Attention heads of a group's first block; those of the others follow (:meth:`blocks`)."""
    window: int = 16
    """Side in pixels of the small picture of an attention window."""
    mlp_ratio: float = 2.0
    """Width of the hidden layer over that of its block, in the first three of a group."""
    shifted: bool = True
    """Whether the windows of every second block are shifted by half their side."""
    last_convolution: bool = True
    """Whether a convolution follows the groups."""
    img_range: float = 1.0
    """Factor on samples, which the network sees less their mean."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.colours not in (1, 3):
            raise OptionError(f"colours must be 1 or 3, got {self.colours}")
        if self.scale not in (1, 2, 3, 4, 8):
            raise OptionError(f"scale must be 1, 3 or a power of two up to {MAX_SCALE}, got {self.scale}")
        check_between("groups", self.groups, 1, MAX_DEPTH)
        check_between("window", self.window, 2, 32)
        check_between("heads", self.heads, 1, MAX_HEADS)
        check_between("mlp_ratio", self.mlp_ratio, 0.1, 8)
        for block in self.blocks():
            if block.heads < 1 or block.width % block.heads:
                raise OptionError(
                    f"width {self.width}, growth {self.growth} and {self.heads} heads give a block of {block.width} "
                    f"channels {block.heads} heads, which do not divide them"
                )

    def blocks(self) -> list[DRCTBlock]:
        """The five blocks of a group, by the published rule of their heads."""
        found = []
        for k in range(5):
            width = self.width + k * self.growth
            heads = self.heads - width % self.heads if k else self.heads
            hidden = int(width * self.mlp_ratio) if k < 3 else width
            found.append(DRCTBlock(width, heads, hidden, self.window // 2 if self.shifted and k % 2 else 0))
        return found


class DRCTBlock(NamedTuple):
    """Sizes of a Swin block."""

    width: int
    """Channels."""
    heads: int
    """Attention heads."""
    hidden: int
    """Channels of the hidden layer."""
    shift: int
    """Row and column that windows start at."""


@dataclass(frozen=True)
class DRCTLargeConfig(DRCTConfig):
    """Configuration of the published DRCT-L."""

    preset: ClassVar[str] = "drct-l"

    groups: int = 12


@dataclass(frozen=True)
class SRResNetConfig(SRConfig):
    """Configuration of :class:`dcae.sr.networks.srresnet.SRResNet`; the defaults are SRGAN's generator."""

    preset: ClassVar[str] = "srresnet"

    scale: int = 4
    channels: int = 64
    """Channels of all layers."""
    blocks: int = 16
    """Residual blocks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale not in (2, 4, 8):
            raise OptionError(f"scale must be 2, 4 or 8, got {self.scale}")
        check_between("channels", self.channels, 1, 512)
        check_between("blocks", self.blocks, 1, MAX_DEPTH)
