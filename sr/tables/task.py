"""Training of table networks as a task of the loop of `dcae train`: networks from scratch, or tables to be tuned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dcae.checks import check_names
from dcae.errors import ModelFileError, OptionError
from dcae.sr.protocol.resize import reduced, resized, taps, to_float, to_samples
from dcae.sr.protocol.scores import luma, psnr
from dcae.sr.tables.config import PUBLISHED, TableConfig, published_config
from dcae.sr.tables.export import empty_tables, exported, tables_as_network
from dcae.sr.tables.network import TableNetwork, untrained_network
from dcae.sr.tables.tablefile import TableHeader, read_table_header, read_tables, write_tables
from dcae.sr.tables.units import UnitConfig
from dcae.train.checkpoint import best_checkpoint, load_checkpoint
from dcae.train.config import TrainConfig
from dcae.train.data import Loader, Patches, load_folder, split
from dcae.train.held_out import centre, validation_pictures
from dcae.train.processes import Group
from dcae.train.task import Losses, Validation

FAMILY = "tables"
"""What checkpoints of this task say they are of."""
SIDE = 256
"""Greatest side in pixels of what validations look at."""

_Batch = tuple[Tensor, Tensor]
"""Small patches (B, p, p) and the large ones (B, P, P), whole numbers in 0...255."""


class TableTask:
    """A :class:`dcae.train.task.Task`: patches of one colour, reduced and enlarged again; their mean squared error.

    The table `network` of the settings names a published `method` and fields of
    :class:`dcae.sr.tables.config.TableConfig` that differ from it; its table `unit` holds fields of
    :class:`dcae.sr.tables.units.UnitConfig`. With `init`, a table file, these tables are tuned instead.

    Raises:
        OptionError: no data folder, or a setting that does not fit.
        ModelFileError: `init` is no table file.
    """

    def __init__(self, config: TrainConfig, group: Group, saved: dict[str, Any] | None) -> None:
        if not config.data:
            raise OptionError("no training pictures; give their folder with --data")
        self.config, self.group = config, group
        self.unshared: frozenset[str] = frozenset()
        self._tuned_from: str = (
            saved["config"]["tuned_from"] if saved else config.init and read_table_header(Path(config.init)).id
        )
        self.network = _network(config, saved).to(group.device).train()
        self.tables = self.network.config
        pictures, held_out = split(load_folder(Path(config.data), max(config.patch)))
        patches = Patches(
            pictures, config.downscale, config.seed, group.device,
            smooth=config.smooth, drawn=config.drawn, colour=config.colour,
        )  # fmt: skip
        self._loader = Loader(patches, group.rank)
        self._reduction = Reduction(max(config.patch), self.tables.scale)
        seen = validation_pictures(held_out, config.validation_pictures)
        self._pairs = [_pair(centre(picture, SIDE), self.tables.scale) for picture in seen]

    def optimizers(self) -> list[torch.optim.Optimizer]:
        nothing = torch.optim.Adam([nn.Parameter(torch.zeros(()))])
        return [torch.optim.Adam(self.network.parameters(), self.config.learning_rate), nothing]

    def batch(self, step: int, progress: float) -> tuple[_Batch, int]:
        patch, count = self.config.phase(progress)
        cut = self._loader.batch(step, patch, count)
        channel = torch.from_numpy((cut.draws * 3).astype(np.int64)).to(cut.pixels.device)
        large = cut.pixels[torch.arange(len(channel), device=channel.device), channel].float()
        return (self._reduction(large), large), count

    def forward(self, model: nn.Module, batch: _Batch) -> Tensor:
        output: Tensor = model(batch[0])
        return output

    def losses(self, batch: _Batch, output: Tensor) -> Losses:
        inner = self.tables.halo * self.tables.scale
        side = output.shape[-1]
        inside = slice(inner, side - inner) if side > 4 * inner else slice(None)
        mse = ((output - batch[1])[:, inside, inside] / 255).square().mean()
        return Losses(mse, torch.zeros(()), {"psnr": -10 * mse.detach().clamp(min=1e-10).log10()})

    @torch.no_grad()
    def validate(self, stopping: Callable[[], bool]) -> Validation | None:
        gains, bicubic, pictures = [], [], []
        for large, small, baseline in self._pairs:
            if stopping():
                return None
            planes = torch.from_numpy(small).permute(2, 0, 1).float().to(self.group.device)
            found = self.network(planes).permute(1, 2, 0).byte().cpu().numpy()
            border = slice(self.tables.scale, -self.tables.scale)
            wanted, got, other = (luma(each[border, border]) for each in (large, found, baseline))
            bicubic.append(psnr(wanted, other))
            gains.append(psnr(wanted, got) - bicubic[-1])
            pictures.append(found)
        gain, base = float(np.mean(gains)), float(np.mean(bicubic))
        row = {"psnr_y": round(base + gain, 4), "bicubic": round(base, 4), "worst_gain": round(min(gains), 4)}
        measure = f"gain in PSNR of Y over bicubic, {len(gains)} pictures, x{self.tables.scale}"
        line = f"{base + gain:.3f} dB (Y), {gain:+.3f} over bicubic, worst {min(gains):+.3f}"
        return Validation(-gain, measure, row, {"validation/gain": gain}, pictures[:4], line)

    def content(self) -> dict[str, Any]:
        return {"config": {"family": FAMILY, "tables": self.tables.to_dict(), "tuned_from": self._tuned_from}}

    def close(self) -> None:
        self._loader.close()


class Reduction:
    """Reduction of patches to 1/scale as the protocol does it, in torch.

    Args:
        side: of the patches in pixels; smaller ones of other multiples of `scale` are reduced alike.
        scale: factor.
    """

    def __init__(self, side: int, scale: int) -> None:
        self._scale = scale
        self._matrices: dict[int, Tensor] = {}
        self._matrix(side)

    def __call__(self, large: Tensor) -> Tensor:
        """(B, P, P) in 0...255 -> (B, P / scale, P / scale), rounded and clipped."""
        matrix = self._matrix(large.shape[-1]).to(large.device)
        return (matrix @ large @ matrix.T).round().clamp(0, 255)

    def _matrix(self, side: int) -> Tensor:
        if side % self._scale:
            raise OptionError(f"patches of {side} pixels cannot be reduced {self._scale} times; take a multiple")
        if side not in self._matrices:
            places, weights = taps(side, 1 / self._scale, "bicubic")
            matrix = torch.zeros(len(places), side, dtype=torch.float64)
            matrix.scatter_add_(1, torch.from_numpy(places), torch.from_numpy(weights))
            self._matrices[side] = matrix.float()
        return self._matrices[side]


def table_settings(network: dict[str, Any]) -> tuple[TableConfig, UnitConfig]:
    """Table network and its units by the table `network` of the settings.

    Raises:
        OptionError: an unknown name or a value that does not fit.
    """
    values = dict(network)
    method, scale, unit = values.pop("method", "mulut"), values.pop("scale", 2), values.pop("unit", {})
    if not isinstance(unit, dict):
        raise OptionError(f"unit must be a table of settings, got {unit!r:.60}")
    check_names(unit, UnitConfig, "settings of units:")
    if method not in PUBLISHED:
        raise OptionError(f"unknown method {method!r:.60}; known: {', '.join(PUBLISHED)}")
    try:
        return published_config(method, scale, **values), UnitConfig(**unit)
    except TypeError as error:
        raise OptionError(f"settings of tables that do not fit ({error})") from error


def export_tables(run: Path, output: Path, force: bool = True) -> TableHeader:
    """Write the tables of a run of :class:`TableTask`, its best averaged weights.

    Args:
        run: folder of the run, or a checkpoint.
        force: overwrite a file of that name.

    Raises:
        ModelFileError: no checkpoint of a table network, or a file that cannot be written.
        OptionError: the file exists, and `force` is not set.
    """
    saved = load_checkpoint(path := best_checkpoint(run))
    if saved["config"].get("family") != FAMILY:
        raise ModelFileError(f"{path}: a checkpoint, but not of a table network")
    config = TrainConfig.from_dict(saved["train"], str(path))
    network = _network(config, saved)
    network.load_state_dict(saved["average"])
    state = saved["state"]
    record = {
        "steps": state["step"], "patches": state["patches"], "minutes": round(state["seconds"] / 60, 1),
        "hardware": state["hardware"], "date": saved["date"], "log": state["log"],
        "settings": {k: v for k, v in saved["train"].items() if k not in ("data", "init")},
    }  # fmt: skip
    if saved["config"]["tuned_from"]:
        record["tuned_from"] = saved["config"]["tuned_from"]
    return write_tables(output, network.config, exported(network), record, force)


def _network(config: TrainConfig, saved: dict[str, Any] | None) -> TableNetwork:
    if saved:
        tables = TableConfig.from_dict(saved["config"]["tables"])
        if saved["config"]["tuned_from"]:
            return tables_as_network(tables, empty_tables(tables))
        return untrained_network(tables, table_settings(config.network)[1])
    if config.init:
        header, tensors = read_tables(Path(config.init))
        return tables_as_network(header.config, tensors)
    return untrained_network(*table_settings(config.network))


def _pair(large: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture, its reduction, and that enlarged by interpolation; all uint8."""
    height, width = (n - n % scale for n in large.shape[:2])
    large = large[:height, :width]
    small = reduced(large, scale)
    return large, small, to_samples(resized(to_float(small), scale))
