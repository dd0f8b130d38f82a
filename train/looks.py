"""What a run is told that trains for looks: adversarial training, and distances between features."""

from __future__ import annotations

from dataclasses import dataclass

from dcae.checks import check_between, check_positive
from dcae.errors import OptionError
from dcae.train.settings import Settings, listed, setting
from dcae.train.written import number, text, whole

ADVERSARIAL = ("adversarial", "discriminator", "discriminator_width")
"""Settings that make a run what it is."""
SYNTHESIS = "g_s."
"""What the names of the weights of a codec's synthesis begin with, which are all that such a run changes of a codec."""


@dataclass(frozen=True)
class LooksSettings(Settings):
    """Settings of runs that may train for looks.

    Raises:
        OptionError: a value out of range, or one that does not go with another.
    """

    adversarial: str = setting(
        "none", text, "Adds the loss that a discriminator makes, which learns beside the network to tell its pictures "
        "from real ones: by itself (vanilla), or by how much more real a picture is than the mean of the others "
        "(relativistic). Start from a trained model with --init.", ("none", "vanilla", "relativistic"),
    )  # fmt: skip
    adversarial_weight: float = setting(1.0, number, "Weight of that loss beside the other one.")
    discriminator: str = setting(
        "unet", text, "A logit for each pixel (Real-ESRGAN's), or one for each patch (SRGAN's).", ("unet", "vgg")
    )
    discriminator_width: int = setting(64, whole, "Channels of its first layer; the cost grows with the square.")
    discriminator_rate: float = setting(1e-4, number, "Learning rate of its Adam.")
    perceptual_weight: float = setting(
        0.0, number, "Weight of the mean absolute difference between what a codec's analysis transform makes of both "
        "pictures, in its steps of quantisation; 0 for none.",
    )  # fmt: skip
    perceptual_model: str = setting("lite", text, "That codec's model.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("adversarial_weight", "perceptual_weight"):
            check_between(name, getattr(self, name), 0, 1e6)
        check_positive("discriminator_rate", self.discriminator_rate)
        check_between("discriminator_width", self.discriminator_width, 1, 256)
        one_size = len(self.patch) == 1 and self.patch[0] % 16 == 0
        if self.adversarial != "none" and self.discriminator == "vgg" and not one_size:
            raise OptionError(
                f"the discriminator vgg sees one size of patch, a multiple of 16, got {listed(self.patch)}; "
                "set --patch, or --discriminator unet"
            )

    @property
    def for_looks(self) -> bool:
        """Whether any of it is asked for."""
        return self.adversarial != "none" or self.perceptual_weight > 0
