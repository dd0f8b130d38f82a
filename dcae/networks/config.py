"""Configurations of the networks: frozen dataclasses, stored as JSON in model files and checkpoints."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from dcae.errors import OptionError

QUALITY_STEPS = 256
"""A file stores its quality in units of 1/256."""
MAX_CHANNELS = 4096
"""Of every size in a configuration; configurations come from files of strangers."""
MAX_PARTS = 64
"""Of λ (the quality field of a `.dcae` file tells no more apart), of slices, of layers in a stage."""
MAX_WINDOW = 16
MAX_NUMBERS_PER_PIXEL = 64
"""Widest layer of a network, as numbers that it holds at once per pixel of the picture. `lite` has 8."""

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
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), field.default)
        object.__setattr__(self, "lambdas", tuple(float(v) for v in self.lambdas))
        if not self.lambdas:
            raise OptionError("lambdas must be positive numbers, got none")
        if any(a >= b for a, b in zip(self.lambdas, self.lambdas[1:], strict=False)):
            raise OptionError(f"lambdas must be strictly increasing, got {self.lambdas}")
        if self.metric not in METRICS:
            raise OptionError(f"unknown metric {self.metric!r}; known: {', '.join(METRICS)}")
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
            quality = max(min(quality, 1e300), -1e300)  # an integer can be larger than any float
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
    """The small network: everything from H/8 on, one model for all qualities. See `dcae/networks/lite/wiring.py`."""

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
    skip_channels: int = 0
    """Skip latents, which are all of the last slice (see `dcae/networks/lite/closed_loop.py`); 0 for a network without
    closed loop, as the first ones were."""

    def __post_init__(self) -> None:
        super().__post_init__()
        pairs = (self.widths, self.layers, self.expansions)
        if any(len(pair) != 2 for pair in pairs) or set("".join(self.layers)) - set("CS"):
            raise OptionError("widths, layers (of C and S) and expansions have two entries, for H/8 and H/16")
        if max(*map(len, self.layers), *self.expansions) > MAX_PARTS or self.window > MAX_WINDOW:
            raise OptionError(
                f"at most {MAX_PARTS} layers of a stage, expansions of {MAX_PARTS}, windows of {MAX_WINDOW}"
            )
        attending = [w for w, layers in zip(self.widths, self.layers, strict=True) if "S" in layers]
        if any(width % self.head_channels for width in (*attending, self.dictionary_width)):
            raise OptionError(f"widths with attention must be multiples of {self.head_channels} head channels")
        if self.skip_channels and (len(self.slices) < 2 or self.skip_channels != self.slices[-1]):
            raise OptionError(f"skip_channels must be 0 or the last of several slices {self.slices}")
        self._check_widest(max(self._stage(0) / 8**2, max(self._stage(1), self._entropy_model()) / 16**2))

    @property
    def transform_channels(self) -> int:
        """Channels of y that come from the analysis transform and go into the synthesis transform."""
        return self.latent_channels - self.skip_channels

    def _stage(self, level: int) -> int:
        """Numbers in the widest layer of a stage of the transforms, per sample."""
        attention = self.widths[level] // self.head_channels * self.window**2 if "S" in self.layers[level] else 0
        return max(self.widths[level] * max(2 * self.expansions[level], 3), attention)

    def _entropy_model(self) -> int:
        """Likewise of the entropy model, per sample of H/16."""
        attention = self.dictionary_width // self.head_channels * self.dictionary_entries
        return max(attention, 4 * max(self.context_width, self.hyper_width), 2 * self.latent_channels)


@dataclass(frozen=True)
class PaperConfig(DCAEConfig):
    """The published network (CVPR 2025, arXiv 2504.00496), 119.4 M parameters. See `dcae/networks/paper/wiring.py`."""

    preset: ClassVar[str] = "paper"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.lambdas) != 1:
            raise OptionError(f"the paper preset is a single-rate network, got {len(self.lambdas)} lambdas")
        # Its transforms are fixed; the context grows by every slice, and 20 heads attend to the dictionary.
        self._check_widest(max(4 * self.latent_channels, 20 * self.dictionary_entries) / 16**2)


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
        if not isinstance(item, (int, float) if kind is float else kind) or isinstance(item, bool):
            raise OptionError(f"{name} must be of type {kind.__name__}, got {item!r:.60}")
        if kind is int and not min(1, like if not several else 1) <= item <= MAX_CHANNELS:
            raise OptionError(f"{name} must be at least 1 and at most {MAX_CHANNELS}, got {item!r:.60}")
        if kind is float and not 0 < item < 1e9:
            raise OptionError(f"{name} must be positive numbers, got {item!r:.60}")
    if several and len(value) > MAX_PARTS:
        raise OptionError(f"at most {MAX_PARTS} {name}, got {len(value)}")


_PRESETS: dict[str, type[DCAEConfig]] = {c.preset: c for c in (LiteConfig, PaperConfig)}


def config_from_dict(values: dict[str, Any]) -> DCAEConfig:
    """Inverse of :meth:`DCAEConfig.to_dict`.

    Raises:
        OptionError: an unknown preset or field, or a value out of range.
    """
    fields = dict(values)
    preset = fields.pop("preset", None)
    if not isinstance(preset, str) or preset not in _PRESETS:
        raise OptionError(f"unknown preset {preset!r:.60}; known: {', '.join(sorted(_PRESETS))}")
    kind = _PRESETS[preset]
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := set(fields) - known:
        raise OptionError(f"unknown fields for preset {preset}: {', '.join(map(repr, sorted(unknown)[:3]))}")
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    try:
        return kind(**arguments)
    except OptionError:
        raise
    except (TypeError, ValueError) as error:
        raise OptionError(f"bad configuration for preset {preset}: {error}") from error
