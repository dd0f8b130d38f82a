"""Configuration of `lite`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dcae.errors import OptionError
from dcae.networks.config import MAX_PARTS, MAX_WINDOW, DCAEConfig, anchor_lambdas


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
    unspreads_means: bool = False
    """Whether block means are coded so that they arrive once they are spread (see `dcae/networks/means.py`), or as
    they are, as the first models were trained."""

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
        """Numbers in the widest layer of the entropy model, per sample of H/16."""
        attention = self.dictionary_width // self.head_channels * self.dictionary_entries
        return max(attention, 4 * max(self.context_width, self.hyper_width), 2 * self.latent_channels)
