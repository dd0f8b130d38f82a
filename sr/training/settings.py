"""What a training run of super-resolution is told beside what the loop needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dcae.checks import check_between
from dcae.errors import OptionError
from dcae.networks.registry import preset_names
from dcae.train.settings import Settings, setting
from dcae.train.written import text, whole

DEGRADATIONS = ("bicubic", "lanczos", "bilinear", "box")
LOSSES = ("l1", "mse", "charbonnier")


@dataclass(frozen=True)
class SRSettings(Settings):
    """Settings of a run of super-resolution.

    Raises:
        OptionError: a value out of range, or one that does not go with another.
    """

    task: ClassVar[str] = "sr"
    fixed: ClassVar[tuple[str, ...]] = ("model", "network", "scale", "seed", "decay")

    model: str = setting(preset_names("sr")[0], text, "The network.", preset_names("sr"))
    scale: int = setting(2, whole, "Factor on both sides; patches are of the large picture, multiples of it.")
    degradation: str = setting(
        "bicubic", text, "What makes the small pictures: a kernel as MATLAB's imresize applies it, rounded to 8 bits.",
        DEGRADATIONS,
    )  # fmt: skip
    loss: str = setting("l1", text, "Mean absolute error, mean squared error, or between them: √(error² + ε²).", LOSSES)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between("scale", self.scale, 2, 4)
        if any(p < 16 or p % self.scale for p in self.patch):
            raise OptionError(
                f"patch must be at least 16 and a multiple of the scale {self.scale}, got {min(self.patch)}"
            )
        if wrong := {"preset", "scale"} & set(self.network):
            raise OptionError(f"{', '.join(sorted(wrong))}: a setting of its own, not one of the table `network`")
