"""Configurations of the networks: frozen dataclasses, stored as JSON in model files and checkpoints."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from dcae.checks import check_between, check_choice, check_positive
from dcae.errors import OptionError

QUALITY_STEPS = 256
"""A file stores its quality in units of 1/256."""
MAX_CHANNELS = 4096
"""Largest size that a configuration may name; configurations come from files of strangers."""
MAX_PARTS = 64
"""Largest number of λ, of slices, and of layers in a stage. A `.dcae` file cannot name a quality above 64."""
MAX_WINDOW = 16
"""Largest side of an attention window, in samples."""
MAX_NUMBERS_PER_PIXEL = 64
"""Widest layer of a network, as numbers that it holds at once per pixel of the picture. `lite` has 8."""

METRICS = {"mse": 1.0, "ms-ssim": 3200.0}
"""Metric -> how much larger its λ is than that of 255² times the mean squared error at about the same rate. MS-SSIM's
is measured, see docs/effort.md; the pairs of CompressAI's models (0.0018 and 2.4, ..., 0.0483 and 60.5) come to 1,280,
with which files become smaller."""


def anchor_lambdas(count: int = 8, lowest: float = 0.0009, highest: float = 0.1152) -> tuple[float, ...]:
    """`count` values of λ spaced log-linearly from `lowest` to `highest`, both included."""
    if count == 1:
        return (lowest,)
    return tuple(lowest * (highest / lowest) ** (k / (count - 1)) for k in range(count))


@dataclass(frozen=True)
class NetworkConfig:
    """Configuration of a network, whatever its task.

    Raises:
        OptionError: a field of another type than its default, or a size that no network has.
    """

    preset: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), field.default)

    def to_dict(self) -> dict[str, Any]:
        """The fields and the preset's name, ready for JSON."""
        return {"preset": self.preset} | dataclasses.asdict(self)

    def said(self) -> str:
        """What a model of it is for, in a few words of a list of models."""
        return ""


@dataclass(frozen=True)
class DCAEConfig(NetworkConfig):
    """Fields that all codecs have. λ is the weight of the distortion against bits per pixel, as in CompressAI."""

    stride: ClassVar[int] = 64
    """Pictures are padded to multiples of this many pixels, one sample of z."""

    lambdas: tuple[float, ...] = (0.013,)
    """λ of the qualities 1, 2, ..., strictly increasing; one value makes a single-rate model."""
    metric: str = "mse"
    """Distortion that λ multiplies: "mse" (times 255²) or "ms-ssim" (1 - MS-SSIM)."""
    latent_channels: int = 320
    """M, channels of the latents y (B, M, H/16, W/16)."""
    hyper_channels: int = 192
    """N, channels of the hyper-latents z (B, N, H/64, W/64)."""
    slices: tuple[int, ...] = (64, 64, 64, 64, 64)
    """Channels of y per slice, coded in this order; they add up to `latent_channels`."""
    dictionary_entries: int = 128
    """Entries of the dictionary that every slice's query attends to."""
    step_worth: float = 0.0
    """Bits that a squared error of one step of y is worth where symbols are chosen by error and rate; 0: y is rounded,
    as the first models were trained. By its Jacobian alone the synthesis would make it 2 to 5, but errors towards zero
    add up; docs/training-log.md has what was measured."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "lambdas", tuple(float(v) for v in self.lambdas))
        if not self.lambdas:
            raise OptionError("lambdas must be positive, got none")
        if any(a >= b for a, b in zip(self.lambdas, self.lambdas[1:], strict=False)):
            raise OptionError(f"lambdas must be strictly increasing, got {self.lambdas}")
        check_choice("metric", self.metric, METRICS)
        if min(self.slices, default=0) < 1 or sum(self.slices) != self.latent_channels:
            raise OptionError(f"slices {self.slices} do not add up to {self.latent_channels} latent channels")

    def _check_widest(self, numbers_per_pixel: float) -> None:
        if numbers_per_pixel > MAX_NUMBERS_PER_PIXEL:
            raise OptionError(
                f"a network whose widest layer holds {numbers_per_pixel:.0f} numbers per pixel, "
                f"the limit is {MAX_NUMBERS_PER_PIXEL}"
            )

    @property
    def mse_lambdas(self) -> tuple[float, ...]:
        """`lambdas` as those of MSE training at about the same rate."""
        return tuple(v / METRICS[self.metric] for v in self.lambdas)

    def mse_lambda_of(self, quality: float) -> float:
        """:meth:`lambda_of` likewise."""
        return self.lambda_of(quality) / METRICS[self.metric]

    @property
    def qualities(self) -> tuple[float, float]:
        """Lowest and highest quality, (1, number of λ)."""
        return 1.0, float(len(self.lambdas))

    def said(self) -> str:
        low, high = self.qualities
        return f"quality {low:g}..{high:g}, λ {self.lambdas[0]:.4g}..{self.lambdas[-1]:.4g}"

    @property
    def default_quality(self) -> float:
        """Quality 4, or the highest where there are fewer."""
        return min(4.0, self.qualities[1])

    def lambda_of(self, quality: float) -> float:
        """λ of a quality in [1, len(lambdas)], log-linear between the anchors."""
        low, high = self.qualities
        if not low <= quality <= high:
            quality = max(min(quality, 1e300), -1e300)  # an integer can be larger than any float
            raise OptionError(f"quality {quality:g} is outside {low:g}..{high:g}, which this model covers")
        below = min(int(quality), max(len(self.lambdas) - 1, 1)) - 1
        above = min(below + 1, len(self.lambdas) - 1)
        t = quality - 1 - below
        return self.lambdas[below] ** (1 - t) * self.lambdas[above] ** t


def _check_type(name: str, value: Any, like: Any) -> None:
    """Refuse a field whose value is of another type than its default, and sizes that no network has.

    Raises:
        OptionError: see above.
    """
    several = isinstance(like, tuple)
    if several and not isinstance(value, tuple | list):
        raise OptionError(f"{name} must be a list, got {value!r:.60}")
    kind = type(like[0]) if several else type(like)
    for item in value if several else (value,):
        if not isinstance(item, (int, float) if kind is float else kind) or isinstance(item, bool) != (kind is bool):
            raise OptionError(f"{name} must be of type {kind.__name__}, got {item!r:.60}")
        if kind is int:
            check_between(name, item, min(1, like if not several else 1), MAX_CHANNELS)
        if kind is float and (item or like):  # 0 is allowed where it is the default
            check_positive(name, item, 1e9)
    if several and len(value) > MAX_PARTS:
        raise OptionError(f"at most {MAX_PARTS} {name}, got {len(value)}")
