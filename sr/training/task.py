"""Super-resolution as a training task: patches and their reductions, a loss of pixels, gain over bicubic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dcae.errors import OptionError
from dcae.sr.models import find_sr_model, load_network, new_network
from dcae.sr.networks.base import SRNetwork
from dcae.sr.networks.upscaler import NetworkUpscaler
from dcae.sr.training.degradation import Degradation
from dcae.sr.training.settings import SRSettings
from dcae.sr.training.validation import Validator, held_out_pictures
from dcae.train.adversarial import Looks
from dcae.train.checkpoint import best_checkpoint, load_checkpoint
from dcae.train.data import Loader, Patches, read_split, to_float
from dcae.train.processes import Group
from dcae.train.task import Losses, Validation

_Batch = tuple[Tensor, Tensor]
"""Small pictures (B, 3, P/scale, P/scale) and large ones (B, 3, P, P), in [0, 1]."""
_SOFT = 1e-3
"""ε of the loss "charbonnier", a quarter of a level of 8 bits."""
_CALIBRATED_ON = 64
"""Patches that starting values are adapted to."""


class SRTask:
    """A :class:`dcae.train.task.Task`.

    Raises:
        OptionError: no data folder, or a setting that does not fit.
    """

    unshared: frozenset[str] = frozenset()

    def __init__(self, config: SRSettings, group: Group, saved: dict[str, Any] | None) -> None:
        if not config.data:
            raise OptionError("no training pictures; give their folder with --data")
        self.config, self.group = config, group
        fields = saved["config"] if saved else {"preset": config.model, "scale": config.scale} | config.network
        network = new_network(fields)
        pictures, held_out = read_split(Path(config.data), max(config.patch))
        self._degraded = Degradation(config, group.device)
        patches = Patches(pictures, config.downscale, config.seed, group.device)
        if not saved:
            cut = patches.batch(0, config.patch[0], 0, _CALIBRATED_ON)
            sample = to_float(cut.pixels)
            network.calibrate(self._degraded(sample, cut.draws).cpu(), sample.cpu())
            if config.init:
                start_from(network, config.init)
        network.expand()
        self.network = network.to(group.device).train()
        self._looks = Looks(config, group, saved)
        self._step = saved["state"]["step"] if saved else 0
        self._loader = Loader(patches, group.rank)
        self._validator = Validator(
            held_out_pictures(held_out, config.validation_pictures), self._degraded, group,
            lambda network: NetworkUpscaler(network, "network", tile=0),
        )  # fmt: skip

    def optimizers(self) -> list[torch.optim.Optimizer]:
        own = torch.optim.Adam(self.network.parameters(), lr=self.config.learning_rate)
        return [own, *self._looks.optimizers()]

    def batch(self, step: int, progress: float) -> tuple[_Batch, int]:
        patch, count = self.config.phase(progress)
        self._step = step + 1
        cut = self._loader.batch(step, patch, count)
        large = to_float(cut.pixels)
        return (self._degraded(large, cut.draws), large), count

    def forward(self, model: nn.Module, batch: _Batch) -> Tensor:
        output: Tensor = model(batch[0].contiguous(memory_format=torch.channels_last))
        return output

    def losses(self, batch: _Batch, output: Tensor) -> Losses:
        output = output.float()
        squares = (output - batch[1]).square()
        psnr = -10 * squares.mean((1, 2, 3)).clamp(min=1e-10).log10().mean()
        loss = pixel_loss(self.config.loss, output, batch[1])
        losses = Losses(loss, torch.zeros((), device=output.device), {"psnr": psnr.detach()})
        return self._looks.added_to(losses, batch[1], output)

    def validate(self, stopping: Callable[[], bool]) -> Validation | None:
        return self._looks.newest(self._validator(self.network, stopping), self._step)

    def content(self) -> dict[str, Any]:
        return {"config": self.network.config.to_dict()} | self._looks.content()

    def close(self) -> None:
        self._loader.close()


def pixel_loss(name: str, output: Tensor, large: Tensor) -> Tensor:
    """Loss by name (:data:`dcae.sr.training.settings.LOSSES`) between pictures (B, 3, H, W) in [0, 1].

    In levels of 8 bits or their squares, so that numbers in logs mean something; "ms-ssim" as it is, 1 at the most.
    """
    if name == "ms-ssim":
        from pytorch_msssim import ms_ssim

        loss: Tensor = 1 - ms_ssim(output, large, data_range=1.0)
        return loss
    error = 255 * (output - large)
    if name == "l1":
        return error.abs().mean()
    return error.square().mean() if name == "mse" else (error.square() + (255 * _SOFT) ** 2).sqrt().mean()


def start_from(network: SRNetwork, init: str) -> None:
    """Give a network the weights of a model, a checkpoint or another run, as far as they have the same shape: those of
    another scale are a good start for all but the last layers.

    Raises:
        OptionError: nothing of it fits.
        ModelNotFoundError, ModelFileError: nothing there, or a damaged file.
    """
    path = Path(init)
    if path.is_dir() or path.suffix == ".pt":
        saved = load_checkpoint(best_checkpoint(path))
        other = new_network(saved["config"])
        other.expand()
        try:
            other.load_state_dict(saved["average"])
        except RuntimeError as error:
            raise OptionError(f"{init}: weights that do not fit ({str(error).splitlines()[0]})") from error
        other.fold()
    else:
        other = load_network(find_sr_model(init, network.config.scale).path)
    own, found = network.state_dict(), network.weights_of(other)
    fitting = {name: value for name, value in found.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise OptionError(f"{init} has no weights of the shapes of this network; choose another --init")
    network.load_state_dict(own | fitting)
