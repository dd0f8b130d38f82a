"""Training of tables as a task of the loop of `dcae train`: networks from scratch, or tables that are tuned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dcae.errors import OptionError
from dcae.sr.models import find_sr_model
from dcae.sr.tables.export import content_of, network_from, tables_as_network
from dcae.sr.tables.network import TableNetwork, untrained_network
from dcae.sr.tables.settings import TableSettings
from dcae.sr.tables.tablefile import read_tables
from dcae.sr.training.degradation import Degradation
from dcae.sr.training.validation import Validator, held_out_pictures
from dcae.sr.upscalers import Cost, Upscaler
from dcae.train.data import Loader, Patches, read_split, to_float
from dcae.train.processes import Group
from dcae.train.task import Losses, Validation

_Batch = tuple[Tensor, Tensor]
"""Small patches (B, p, p) and the large ones (B, P, P), whole numbers in 0...255."""


class TableTask:
    """A :class:`dcae.train.task.Task`: patches of one colour, reduced and enlarged again; their mean squared error.

    With `init`, the name or file of a model of tables, these are tuned; else networks are trained.

    Raises:
        OptionError: no data folder, or a setting that does not fit.
        ModelNotFoundError, ModelFileError: `init` is no model of tables.
    """

    unshared: frozenset[str] = frozenset()

    def __init__(self, config: TableSettings, group: Group, saved: dict[str, Any] | None) -> None:
        if not config.data:
            raise OptionError("no training pictures; give their folder with --data")
        self.config, self.group = config, group
        network, self._content = _start(config, saved)
        self.network = network.to(group.device).train()
        pictures, held_out = read_split(Path(config.data), max(config.patch))
        self._loader = Loader(Patches(pictures, config.downscale, config.seed, group.device), group.rank)
        seen = held_out_pictures(held_out, config.validation_pictures)
        self._degraded = Degradation(config, group.device)
        self._validator = Validator(seen, self._degraded, group, _NetworkUpscaler)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(self.network.parameters(), self.config.learning_rate)]

    def batch(self, step: int, progress: float) -> tuple[_Batch, int]:
        patch, count = self.config.phase(progress)
        cut = self._loader.batch(step, patch, count)
        channel = torch.from_numpy((cut.draws * 3).astype(np.int64)).to(cut.pixels.device)
        of_colours = torch.arange(len(channel), device=channel.device), channel
        small = self._degraded(to_float(cut.pixels), cut.draws * 3 % 1)
        return ((small[of_colours] * 255).round(), cut.pixels[of_colours].float()), count

    def forward(self, model: nn.Module, batch: _Batch) -> Tensor:
        # In bf16 the numbers of tables are not exact.
        with torch.autocast(batch[0].device.type, enabled=False):
            output: Tensor = model(batch[0])
        return output

    def losses(self, batch: _Batch, output: Tensor) -> Losses:
        # Where a patch ends nothing is known of what pixels near its border see.
        border = self.network.config.halo * self.config.scale
        inside = slice(border, -border) if border and output.shape[-1] > 4 * border else slice(None)
        mse = (output - batch[1])[:, inside, inside].square().mean()
        psnr = 20 * np.log10(255) - 10 * mse.detach().clamp(min=1e-5).log10()
        return Losses(mse, torch.zeros((), device=output.device), {"psnr": psnr})

    def validate(self, stopping: Callable[[], bool]) -> Validation | None:
        return self._validator(self.network, stopping)

    def content(self) -> dict[str, Any]:
        return {"config": self._content}

    def close(self) -> None:
        self._loader.close()


def _start(config: TableSettings, saved: dict[str, Any] | None) -> tuple[TableNetwork, dict[str, Any]]:
    """The network that a run starts with, and what its checkpoints keep of it."""
    if saved:
        return network_from(saved["config"]), saved["config"]
    tables, unit = config.tables(), config.unit()
    if not config.init:
        return untrained_network(tables, unit), content_of(tables, unit, "")
    header, tensors = read_tables(find_sr_model(config.init, config.scale).path)
    if header.config != tables and (config.network or config.method != type(config).method):
        raise OptionError(
            f"{config.init} has tables of another kind; leave out --method and the settings of its network"
        )
    return tables_as_network(header.config, tensors), content_of(header.config, unit, header.id)


class _NetworkUpscaler(Upscaler):
    """A table network while it trains, as an upscaler of arrays."""

    name = "tables"

    def __init__(self, network: TableNetwork) -> None:
        self.network, self.scale = network, network.config.scale

    @torch.inference_mode()
    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        device = next(self.network.parameters()).device
        planes = (torch.from_numpy(np.moveaxis(x, 2, 0).copy()).to(device) * 255).round()
        return (self.network(planes) / 255).permute(1, 2, 0).cpu().numpy()

    def cost(self) -> Cost:
        raise NotImplementedError
