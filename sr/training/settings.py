"""What training runs of super-resolution are told beside what the loop needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dcae.checks import check_between
from dcae.errors import OptionError
from dcae.networks.registry import any_config, preset_names
from dcae.train.looks import ADVERSARIAL, LooksSettings
from dcae.train.settings import Settings, setting
from dcae.train.written import number, span, text, whole

KERNELS = ("bicubic", "lanczos", "bilinear", "box")
DEGRADATIONS = (*KERNELS, "codec")
LOSSES = ("l1", "mse", "charbonnier", "ms-ssim")
MS_SSIM_SIDE = 161
"""Smallest side in pixels that MS-SSIM, with its five scales and windows of 11 pixels, can be taken of."""


@dataclass(frozen=True)
class PairSettings(Settings):
    """Settings of runs that learn from large pictures and small ones made of them.

    Raises:
        OptionError: a value out of range, or one that does not go with another.
    """

    scales: ClassVar[tuple[int, int]] = (1, 8)
    """Lowest and highest scale."""

    scale: int = setting(2, whole, "Factor on both sides; patches are of the large picture, multiples of it.")
    degradation: str = setting(
        "bicubic", text, "What makes the small pictures: a kernel as MATLAB's imresize applies it, rounded to 8 bits; "
        "codec: the bicubic one, then the codec at random qualities.",
        DEGRADATIONS,
    )  # fmt: skip
    codec: str = setting("lite", text, "The codec's model, for the degradation codec.")
    codec_qualities: tuple[float, ...] = setting(
        (), span, "The codec's lowest and highest quality, for the degradation codec; none: all of its model."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between("scale", self.scale, *self.scales)
        if any(p < 16 or p % self.scale for p in self.patch):
            raise OptionError(
                f"patch must be at least 16 and a multiple of the scale {self.scale}, got {min(self.patch)}"
            )


@dataclass(frozen=True)
class SRSettings(PairSettings, LooksSettings):
    """Settings of a run of super-resolution.

    Raises:
        OptionError: a value out of range, or one that does not go with another.
    """

    task: ClassVar[str] = "sr"
    fixed: ClassVar[tuple[str, ...]] = ("model", "network", "scale", "init", "seed", "decay", *ADVERSARIAL)
    scales: ClassVar[tuple[int, int]] = (2, 4)

    model: str = setting(preset_names("sr")[0], text, "The network.", preset_names("sr"))
    loss: str = setting(
        "l1", text, "Mean absolute error, mean squared error, between them √(error² + ε²), or 1 - MS-SSIM.", LOSSES
    )
    adversarial_weight: float = setting(25.0, number, "Weight of that loss beside the other one, in levels of 8 bits.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss == "ms-ssim" and min(self.patch) < MS_SSIM_SIDE:
            raise OptionError(f"MS-SSIM has five scales and needs patches of at least {MS_SSIM_SIDE}; set --patch 176")
        if wrong := {"preset", "scale"} & set(self.network):
            raise OptionError(f"{', '.join(sorted(wrong))}: a setting of its own, not one of the table `network`")

    def network_defaults(self) -> dict[str, Any]:
        fields = any_config({"preset": self.model, "scale": self.scale}, "sr").to_dict()
        return {name: value for name, value in fields.items() if name not in ("preset", "scale")}
