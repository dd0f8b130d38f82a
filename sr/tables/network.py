"""Table network in torch, with gradients: units that are networks, for training, or tables, for fine-tuning."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.sr.tables.config import INPUTS, PATTERNS, Slot, TableConfig, UnitConfig
from dcae.sr.tables.interpolation import rounded
from dcae.sr.tables.layout import has_residual
from dcae.sr.tables.simplex import SAMPLE_BITS, fraction_bits
from dcae.sr.tables.units import NetworkUnit, Sampler
from dcae.sr.tables.walk import cell_order, rotated, walk


class TableNetwork(nn.Module):
    """A table network that enlarges as its tables would, rounding included; gradients pass rounding straight through.

    Args:
        config: of the network.
        unit: makes the unit of a slot.
    """

    def __init__(self, config: TableConfig, unit: Callable[[Slot], nn.Module]) -> None:
        super().__init__()
        self.config = config
        self.units, self.samplers, self.shares = nn.ModuleDict(), nn.ModuleDict(), nn.ParameterDict()
        for slot in config.slots():
            self.units[key(slot)] = unit(slot)
            if config.sampler and config.stages[slot.stage - 1] != "mix":
                self.samplers[key(slot)] = Sampler(config.sampler, INPUTS)
            if has_residual(config, slot):
                self.shares[key(slot)] = nn.Parameter(torch.zeros(INPUTS))

    def forward(self, picture: Tensor) -> Tensor:
        """(..., height, width) whole numbers in 0...255 -> (..., scale height, scale width), likewise."""
        planes = picture.reshape(-1, *picture.shape[-2:])
        found = walk(self.config, planes, _Steps(self))
        return found.reshape(*picture.shape[:-2], *found.shape[-2:])


def key(slot: Slot) -> str:
    """Name of a slot in the network's state."""
    return slot.name.replace(".", "_")


def untrained_network(config: TableConfig, unit: UnitConfig) -> TableNetwork:
    """A network to be trained, with random weights."""
    return TableNetwork(config, lambda slot: NetworkUnit(config, slot, unit))


class _Steps:
    """Steps of a walk, in tensors: maps (maps, height, width), sums (outputs, maps, height, width)."""

    def __init__(self, network: TableNetwork) -> None:
        self._network, self._config = network, network.config

    def added(self, sums: Tensor | None, stage: int, channel: int, current: Tensor, previous: Tensor | None) -> Tensor:
        outputs = self._config.outputs(stage)
        if sums is None:
            sums = current.new_zeros(outputs, *current.shape)
        for number in range(len(self._config.units)):
            slot = Slot(stage, channel, number)
            values = self._inputs(slot, current, previous)
            found = self._network.units[key(slot)](values.reshape(len(values), -1))
            found = found.reshape(outputs, 4, *current.shape)
            for turns in range(4):
                own = found[:, turns]
                if self._config.stages[stage - 1] == "up":
                    own = own[torch.from_numpy(cell_order(outputs, turns).copy())]
                sums = sums + own
                if self._config.rounding == "each":
                    sums = rounded(sums)
        return sums

    def _inputs(self, slot: Slot, current: Tensor, previous: Tensor | None) -> Tensor:
        """(inputs, turns, maps, height, width) of a unit."""
        found = self._seen(slot, current)
        if key(slot) in self._network.shares:
            assert previous is not None
            share = self._network.shares[key(slot)].clamp(0, 1)[:, None, None, None, None]
            found = found * (1 - share) + self._seen(slot, previous) * share
        if fraction_bits(self._config):
            found = rounded(found * 2**SAMPLE_BITS) / 2**SAMPLE_BITS
        return found

    def _seen(self, slot: Slot, values: Tensor) -> Tensor:
        reach, (height, width) = self._config.reaches[slot.unit], values.shape[1:]
        mode = "replicate" if self._config.padding == "edge" else "reflect"
        padded = F.pad(values[None], (reach,) * 4, mode)[0]
        if key(slot) in self._network.samplers:
            sampler = self._network.samplers[key(slot)]
            return torch.stack([sampler(padded, turns) for turns in range(4)], 1)
        found = []
        for offset in PATTERNS[self._config.units[slot.unit]]:
            places = [rotated(offset, turns) for turns in range(4)]
            found.append(
                torch.stack(
                    [padded[:, reach + i : reach + i + height, reach + j : reach + j + width] for i, j in places]
                )
            )
        return torch.stack(found)

    def maps(self, sums: Tensor, divisor: int) -> list[Tensor]:
        return list(rounded((sums / divisor + 127).clamp(0, 255)))

    def mixed(self, stage: int, maps: list[Tensor]) -> list[Tensor]:
        shape = maps[0].shape
        found = self._network.units[key(Slot(stage, 0, 0))](torch.stack([each.reshape(-1) for each in maps]))
        return list(rounded((found + 127).clamp(0, 255)).reshape(-1, *shape))

    def enlarged(self, sums: Tensor, divisor: int) -> Tensor:
        found = rounded((sums / divisor).clamp(0, 255))
        return F.pixel_shuffle(found.transpose(0, 1), self._config.scale)[:, 0]
