"""The codec as a training task: patches, the rate-distortion loss at random qualities, real files to validate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dcae.errors import OptionError
from dcae.models.installed import find_model
from dcae.networks.registry import build_model, config_from_dict
from dcae.train.adversarial import Looks
from dcae.train.batched import BatchedPatches
from dcae.train.config import TrainConfig
from dcae.train.data import CutsPatches, Loader, Patches, Picture, read_split, to_float
from dcae.train.held_out import validation_pictures
from dcae.train.init import initial_network, is_run
from dcae.train.looks import SYNTHESIS
from dcae.train.loss import Distortion, balanced, rate_distortion, relative
from dcae.train.optimizers import build_optimizers
from dcae.train.processes import Group
from dcae.train.qualities import in_strata, qualities_of
from dcae.train.task import Losses, Validation
from dcae.train.validation import Validator

_Batch = tuple[Tensor, Tensor, Tensor]
"""Pictures (B, 3, P, P) in [0, 1], and the quality and λ of each, (B,)."""


class CodecTask:
    """A :class:`dcae.train.task.Task`.

    Raises:
        OptionError: no data folder, or a setting that does not fit.
    """

    def __init__(self, config: TrainConfig, group: Group, saved: dict[str, Any] | None) -> None:
        if not config.data:
            raise OptionError("no training pictures; give their folder with --data")
        self.config, self.group = config, group
        self._distortion = Distortion(config.metric, config.block_means, config.pixel_share, config.even)
        network = build_model(config_from_dict(saved["config"])) if saved else initial_network(config)
        self.network = network.to(group.device).train()
        self.unshared = frozenset(n for n, _ in network.named_parameters() if n.endswith("quantiles"))
        self._looks = Looks(config, group, saved)
        self._step = saved["state"]["step"] if saved else 0
        if config.for_looks:
            self._keep_all_but_the_synthesis(begins=not saved)
        pictures, held_out = read_split(Path(config.data), max(config.patch))
        patches = _patches(pictures, config, group.device)
        self._loader = Loader(patches, group.rank)
        seen = validation_pictures(held_out, config.validation_pictures)
        self._validator = Validator(seen, network.config, config, group, (saved or {}).get("reference"))
        if not saved:
            sample = to_float(patches.batch(0, config.patch[0], 0, 64).pixels)
            if not config.init:
                network.calibrate(sample)
            network.calibrate_skip(sample)

    def _keep_all_but_the_synthesis(self, begins: bool) -> None:
        """Train for looks what decoding alone uses, so that latents (but for those of a closed loop, which look at what
        is decoded) and their bits stay those of the model before."""
        init = self.config.init
        if not init:
            raise OptionError("training for looks goes on from a trained model; say from which with --init")
        # What export would find out, after all the training.
        if begins and not is_run(init) and find_model(init).config != self.network.config:
            raise OptionError(
                f"training for looks changes nothing but the synthesis, so the network must be that of {init}; leave "
                "out other settings of the network, its λ and its metric"
            )
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name.startswith(SYNTHESIS))
        self.unshared = frozenset()

    def optimizers(self) -> list[Any]:
        own = build_optimizers(self.network, self.config.optimizer, self.config.learning_rate)
        return own + self._looks.optimizers()

    def batch(self, step: int, progress: float) -> tuple[_Batch, int]:
        patch, count = self.config.phase(progress)
        self._step = step + 1
        cut = self._loader.batch(step, patch, count)
        first, total = self.group.rank * count, self.group.world * count
        draws = in_strata(cut.draws, self.config.seed, step, first, total)
        quality, lambdas = qualities_of(
            self.network.config, draws, self.config.low_rate_weight, self.group.device
        )  # fmt: skip
        return (to_float(cut.pixels), quality, lambdas), count

    def forward(self, model: nn.Module, batch: _Batch) -> dict[str, Any]:
        pictures, quality, _ = batch
        output: dict[str, Any] = model(pictures, quality)
        return output

    def losses(self, batch: _Batch, output: dict[str, Any]) -> Losses:
        pictures, _, lambdas = batch
        terms = rate_distortion(pictures, output, lambdas, self._distortion)
        loss = balanced(terms.loss, lambdas, self.config.metric, self.config.balance)
        loss = relative(loss, self.config.relative).mean()
        auxiliary = self.network.entropy_bottleneck.loss()
        curves = {
            "bpp/y": terms.bpp_y.mean(), "bpp/z": terms.bpp_z.mean(), "psnr": -10 * terms.mse.log10().mean(),
            "auxiliary loss": auxiliary,
        }  # fmt: skip
        return self._looks.added_to(Losses(loss, auxiliary, curves), pictures, output["x_hat"].float())

    def validate(self, stopping: Callable[[], bool]) -> Validation | None:
        return self._looks.newest(self._validator(self.network, stopping), self._step)

    def content(self) -> dict[str, Any]:
        own = {"config": self.network.config.to_dict(), "reference": self._validator.content()}
        return own | self._looks.content()

    def close(self) -> None:
        self._loader.close()


def _patches(pictures: list[Picture], config: TrainConfig, device: str) -> CutsPatches:
    """Cut as `config.cutting` says; auto: batched on a GPU that has room for the pictures."""
    cutting = config.cutting
    if cutting == "auto":
        bytes_needed = sum(p.pixels.nbytes for p in pictures)
        on_gpu = torch.device(device).type == "cuda"
        cutting = "batched" if on_gpu and bytes_needed < torch.cuda.mem_get_info(device)[0] / 3 else "each"
    shares: dict[str, Any] = {"smooth": config.smooth, "drawn": config.drawn, "colour": config.colour}
    if cutting == "batched":
        return BatchedPatches(
            pictures, config.downscale, config.seed, device, pool=config.drawn_pool, **shares
        )  # fmt: skip
    return Patches(pictures, config.downscale, config.seed, device, **shares)
