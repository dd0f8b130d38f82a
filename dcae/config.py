"""Configurations of the networks: frozen dataclasses, stored as JSON in model files and checkpoints."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from dcae.errors import OptionError

QUALITY_STEPS = 256
"""A file stores its quality in units of 1/256."""
MAX_ANCHORS = 64
"""What the quality field of a `.dcae` file can tell apart."""


METRICS = {"mse": 1.0, "ms-ssim": 1280.0}
"""Metric of training -> how much larger its λ is than that of MSE training at about the same rate. MS-SSIM's is
from the pairs of CompressAI's models (0.0018 and 2.4, ..., 0.0483 and 60.5)."""


def anchor_lambdas(count: int = 8, lowest: float = 0.0009, highest: float = 0.1152) -> tuple[float, ...]:
    """`count` values of λ spaced log-linearly from `lowest` to `highest`, both included."""
    if count == 1:
        return (lowest,)
    return tuple(lowest * (highest / lowest) ** (k / (count - 1)) for k in range(count))


@dataclass(frozen=True)
class DCAEConfig:
    """What every preset has. λ is the weight of the distortion against bits per pixel, as in CompressAI."""

    preset: ClassVar[str] = ""
    stride: ClassVar[int] = 64
    """Pictures are padded to multiples of this many pixels, one sample of z."""

    lambdas: tuple[float, ...] = (0.013,)
    """λ of the qualities 1, 2, ..., strictly increasing; one value makes a single-rate model."""
    metric: str = "mse"
    """What λ weighs against the rate: "mse" (times 255²) or "ms-ssim" (1 - MS-SSIM)."""
    latent_channels: int = 320
    """M, channels of the latents y (B, M, H/16, W/16)."""
    hyper_channels: int = 192
    """N, channels of the hyper-latents z (B, N, H/64, W/64)."""
    slices: tuple[int, ...] = (64, 64, 64, 64, 64)
    """Channels of y per slice, coded in this order; they add up to `latent_channels`."""
    dictionary_entries: int = 128
    """Entries of the dictionary that every slice's query attends to."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "lambdas", tuple(float(v) for v in self.lambdas))
        object.__setattr__(self, "slices", tuple(int(v) for v in self.slices))
        if not self.lambdas or any(not 0 < v < math.inf for v in self.lambdas):
            raise OptionError(f"lambdas must be positive numbers, got {self.lambdas}")
        if any(a >= b for a, b in zip(self.lambdas, self.lambdas[1:], strict=False)):
            raise OptionError(f"lambdas must be strictly increasing, got {self.lambdas}")
        if len(self.lambdas) > MAX_ANCHORS:
            raise OptionError(f"at most {MAX_ANCHORS} lambdas, got {len(self.lambdas)}")
        if self.metric not in METRICS:
            raise OptionError(f"unknown metric {self.metric!r}; known: {', '.join(METRICS)}")
        if min(self.slices, default=0) < 1 or sum(self.slices) != self.latent_channels:
            raise OptionError(f"slices {self.slices} do not add up to {self.latent_channels} latent channels")

    @property
    def mse_lambdas(self) -> tuple[float, ...]:
        """`lambdas` as those of MSE training at about the same rate."""
        return tuple(v / METRICS[self.metric] for v in self.lambdas)

    @property
    def qualities(self) -> tuple[float, float]:
        """Lowest and highest quality, (1, number of λ)."""
        return 1.0, float(len(self.lambdas))

    @property
    def default_quality(self) -> float:
        """4, or the highest there is."""
        return min(4.0, self.qualities[1])

    def lambda_of(self, quality: float) -> float:
        """λ of a quality in [1, len(lambdas)], log-linear between the anchors."""
        low, high = self.qualities
        if not low <= quality <= high:
            raise OptionError(f"quality {quality:g} is outside {low:g}..{high:g}, which this model covers")
        below = min(int(quality), max(len(self.lambdas) - 1, 1)) - 1
        above = min(below + 1, len(self.lambdas) - 1)
        t = quality - 1 - below
        return self.lambdas[below] ** (1 - t) * self.lambdas[above] ** t

    def to_dict(self) -> dict[str, Any]:
        """The fields and the preset's name, ready for JSON."""
        return {"preset": self.preset} | dataclasses.asdict(self)


@dataclass(frozen=True)
class LiteConfig(DCAEConfig):
    """The small network: everything from H/8 on, one model for all qualities. See `dcae/lite.py`."""

    preset: ClassVar[str] = "lite"

    lambdas: tuple[float, ...] = anchor_lambdas()
    hyper_channels: int = 128
    slices: tuple[int, ...] = (32, 32, 64, 64, 128)
    widths: tuple[int, int] = (128, 320)
    """Channels of the transforms at H/8 and at H/16."""
    layers: tuple[str, str] = ("CCC", "CS")
    """Layers at H/8 and at H/16, analysis order: C depthwise convolution, S window attention (every second shifted)."""
    expansions: tuple[int, int] = (2, 1)
    """Hidden channels of the gated units at H/8 and at H/16, as a multiple of the width."""
    head_channels: int = 32
    """Channels of one attention head, windows and dictionary alike."""
    window: int = 8
    """Side of an attention window, in samples of H/16."""
    hyper_width: int = 128
    """Channels inside hyper analysis and hyper synthesis."""
    context_width: int = 160
    """Channels of the state that the slice networks refine."""
    dictionary_width: int = 128
    """Channels of a dictionary entry."""
    residual_width: int = 64
    """Hidden channels of the latent residual prediction."""

    def __post_init__(self) -> None:
        super().__post_init__()
        pairs = (self.widths, self.layers, self.expansions)
        if any(len(pair) != 2 for pair in pairs) or set("".join(self.layers)) - set("CS"):
            raise OptionError("widths, layers (of C and S) and expansions have two entries, for H/8 and H/16")
        numbers = (*self.widths, *self.expansions, self.head_channels, self.window, self.hyper_width)
        if min(*numbers, self.context_width, self.dictionary_width, self.residual_width) < 1:
            raise OptionError("widths, expansions, heads and windows must be at least 1")
        attending = [w for w, layers in zip(self.widths, self.layers, strict=True) if "S" in layers]
        if any(width % self.head_channels for width in (*attending, self.dictionary_width)):
            raise OptionError(f"widths with attention must be multiples of {self.head_channels} head channels")


@dataclass(frozen=True)
class PaperConfig(DCAEConfig):
    """The published network (CVPR 2025, arXiv 2504.00496), 119.4 M parameters. See `dcae/paper.py`."""

    preset: ClassVar[str] = "paper"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.lambdas) != 1:
            raise OptionError(f"the paper preset is a single-rate network, got {len(self.lambdas)} lambdas")


_PRESETS: dict[str, type[DCAEConfig]] = {c.preset: c for c in (LiteConfig, PaperConfig)}


def config_from_dict(values: dict[str, Any]) -> DCAEConfig:
    """Inverse of :meth:`DCAEConfig.to_dict`.

    Raises:
        OptionError: an unknown preset or field, or a value out of range.
    """
    fields = dict(values)
    preset = fields.pop("preset", None)
    if preset not in _PRESETS:
        raise OptionError(f"unknown preset {preset!r}; known: {', '.join(sorted(_PRESETS))}")
    kind = _PRESETS[preset]
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := set(fields) - known:
        raise OptionError(f"unknown fields for preset {preset}: {', '.join(sorted(unknown))}")
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    try:
        return kind(**arguments)
    except OptionError:
        raise
    except (TypeError, ValueError) as error:
        raise OptionError(f"bad configuration for preset {preset}: {error}") from error
