"""Losses for looks: a discriminator's, which learns beside the network, and the distance between a codec's features.

The discriminator's own loss is the auxiliary one of the loop (:class:`dcae.train.task.Losses`) and its optimiser the
last of the task's, so that both take their steps at once, from the same weights, and a checkpoint has all of it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.models.installed import find_model
from dcae.models.modelfile import load_model
from dcae.networks.base import DCAE, pad_to_multiple
from dcae.train.discriminators import UNetDiscriminator, VGGDiscriminator
from dcae.train.looks import LooksSettings
from dcae.train.processes import Group
from dcae.train.task import Losses, Validation


class Looks:
    """What a task adds to its loss; nothing where its settings ask for nothing.

    Args:
        saved: the checkpoint to go on from.

    Raises:
        ModelNotFoundError, ModelFileError: no codec whose features could be compared.
    """

    def __init__(self, config: LooksSettings, group: Group, saved: dict[str, Any] | None) -> None:
        self.config = config
        self.features = Features(config.perceptual_model, group.device) if config.perceptual_weight else None
        self.discriminator: nn.Module | None = None
        if config.adversarial != "none":
            self.discriminator = _discriminator(config).to(group.device).train()
            if saved:
                self.discriminator.load_state_dict(saved["discriminator"])
            if group.world > 1:
                for parameter in self.discriminator.parameters():
                    parameter.register_post_accumulate_grad_hook(_averaged)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The discriminator's, if there is one; it follows the schedule of the learning rate."""
        if self.discriminator is None:
            return []
        return [torch.optim.Adam(self.discriminator.parameters(), lr=self.config.discriminator_rate)]

    def added_to(self, losses: Losses, real: Tensor, made: Tensor) -> Losses:
        """Losses with those for looks, pictures (B, 3, H, W) in [0, 1]; the auxiliary one is the discriminator's."""
        main, auxiliary, curves = losses
        if self.features is not None:
            distance = self.features.distance(made, real)
            main = main + self.config.perceptual_weight * distance
            curves = curves | {"feature distance": distance.detach()}
        if self.discriminator is not None:
            own, auxiliary = self._contest(self.discriminator, real, made)
            main = main + self.config.adversarial_weight * own
            curves = curves | {"adversarial": own.detach(), "discriminator": auxiliary.detach()}
        return Losses(main, auxiliary, curves)

    def _contest(self, discriminator: nn.Module, real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of the network, whose gradient leaves the discriminator alone, and of the discriminator."""
        relative = self.config.adversarial == "relativistic"
        discriminator.requires_grad_(False)
        own = contest(discriminator(made), discriminator(real) if relative else None)
        discriminator.requires_grad_(True)
        real_logits, made_logits = discriminator(real), discriminator(made.detach())
        if relative:
            return own, contest(real_logits, made_logits)
        return own, 0.5 * (contest(real_logits, None) + contest(-made_logits, None))

    def newest(self, found: Validation | None, step: int) -> Validation | None:
        """A validation whose score makes the newest weights those that are kept: no number here says what looks best.

        Args:
            step: at which it was made.
        """
        if found is None or not self.config.for_looks:
            return found
        return found._replace(score=-float(step), measure=f"{found.measure}, for looks")

    def content(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"discriminator": self.discriminator.state_dict()} if self.discriminator is not None else {}


def contest(winner: Tensor, loser: Tensor | None) -> Tensor:
    """Cross entropy of calling one picture real: by its logits, or with `loser`, the relativistic average (Jolicoeur-
    Martineau 2018), by how far they are above the mean of the other's, and the other's below."""
    if loser is None:
        return F.softplus(-winner).mean()
    return 0.5 * (F.softplus(loser.mean() - winner).mean() + F.softplus(loser - winner.mean()).mean())


class Features:
    """The analysis transform of a codec at its middle quality.

    Args:
        model: name or file of the codec's model.
        device: where pictures are.

    Raises:
        ModelNotFoundError, ModelFileError: no such codec.
    """

    def __init__(self, model: str, device: str) -> None:
        network: DCAE = load_model(find_model(model).path).network
        self._network = network.to(device).eval().requires_grad_(False)
        low, high = network.config.qualities
        self._quality = (low + high) / 2

    def distance(self, made: Tensor, real: Tensor) -> Tensor:
        """Mean absolute difference of the latents of two pictures (B, 3, H, W), in steps of quantisation."""
        quality = self._network.conditioning(self._quality)
        stride = self._network.config.stride
        with torch.no_grad():
            wanted = self._network.analysis(pad_to_multiple(real, stride), quality)
        found = self._network.analysis(pad_to_multiple(made, stride), quality)
        return (found - wanted).abs().mean()


def _discriminator(config: LooksSettings) -> nn.Module:
    if config.discriminator == "vgg":
        return VGGDiscriminator(config.patch[0], config.discriminator_width)
    return UNetDiscriminator(config.discriminator_width)


def _averaged(parameter: Tensor) -> None:
    """Make a gradient the mean of all processes'."""
    assert parameter.grad is not None
    dist.all_reduce(parameter.grad)
    parameter.grad /= dist.get_world_size()
