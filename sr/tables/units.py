"""Units of a table network while it trains: small networks of four numbers, or tables with gradients."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.sr.tables.config import Slot, TableConfig, UnitConfig
from dcae.sr.tables.interpolation import interpolated, rounded
from dcae.sr.tables.layout import inputs_of
from dcae.sr.tables.simplex import fraction_bits, simplex_of

TOP = 127
"""Largest magnitude of a number in a table."""


class NetworkUnit(nn.Module):
    """A unit as a network of its inputs, whose outputs are whole numbers as a table's.

    Args:
        config: of the table network.
        slot: place of the unit in it.
        unit: its layers.
    """

    def __init__(self, config: TableConfig, slot: Slot, unit: UnitConfig) -> None:
        super().__init__()
        self.unit, self.kind = unit, config.stages[slot.stage - 1]
        inputs, outputs = inputs_of(config, slot), config.outputs(slot.stage)
        self.first = nn.Linear(inputs, unit.features)
        seen = [unit.features * (1 + k if unit.dense else 1) for k in range(unit.layers + 1)]
        self.layers = nn.ModuleList(nn.Linear(n, unit.features) for n in seen[:-1])
        self.last = nn.Linear(seen[-1], outputs)
        for layer in (self.first, *self.layers):
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        if unit.copies:
            nn.init.normal_(self.last.weight, std=0.01 / math.sqrt(seen[-1]))
            nn.init.zeros_(self.last.bias)

    def forward(self, values: Tensor) -> Tensor:
        """(inputs, pixels) in 0...255 -> (outputs, pixels) whole numbers in -127...127."""
        found = _apply(self.first, values / 255).relu()
        for layer in self.layers:
            more = _apply(layer, found).relu()
            found = torch.cat([found, more]) if self.unit.dense else more
        found = _apply(self.last, found) * TOP
        if self.unit.copies:
            found = found + self._copies(values)
        bounded = TOP * torch.tanh(found / TOP) if self.unit.bound == "tanh" else found.clamp(-TOP, TOP)
        return rounded(bounded)

    def _copies(self, values: Tensor) -> Tensor:
        """The part of its pixel that a unit contributes when it only copies."""
        if self.kind == "mix":
            return values - TOP
        return values[:1] / 4 if self.kind == "up" else values[:1] - TOP


def _apply(layer: nn.Module, values: Tensor) -> Tensor:
    """A linear layer on columns: (features, pixels) -> (features, pixels)."""
    assert isinstance(layer, nn.Linear)
    return torch.addmm(layer.bias[:, None], layer.weight, values)


class TableUnit(nn.Module):
    """A unit as its table, every entry a parameter; what is looked up is rounded as in a table file.

    Args:
        config: of the table network.
        slot: place of the unit in it.
        parts: tables: "full" alone, or "diagonal" and "coarse".
        near: entries at full sampling that "diagonal" holds.
    """

    near: Tensor

    def __init__(self, config: TableConfig, slot: Slot, parts: dict[str, Tensor], near: Tensor) -> None:
        super().__init__()
        self.simplex, self.bits = simplex_of(config, slot), fraction_bits(config)
        if config.stages[slot.stage - 1] == "mix":
            self.bits = 0
        self.entries = nn.ParameterDict({name: values.float() / TOP for name, values in parts.items()})
        self.register_buffer("near", near, persistent=False)

    def table(self, part: str) -> Tensor:
        """(entries, outputs) whole numbers in -127...127; `part` as in `parts`."""
        return rounded((self.entries[part] * TOP).clamp(-TOP, TOP))

    def forward(self, values: Tensor) -> Tensor:
        """(inputs, pixels) in 0...255 -> (outputs, pixels)."""
        if "full" in self.entries:
            table = self.table("full")
        else:
            diagonal = self.table("diagonal")
            fine = diagonal.new_zeros(self.simplex.entries, diagonal.shape[1])
            table = torch.cat([fine.index_copy(0, self.near, diagonal), self.table("coarse")])
        return interpolated(values, table, self.simplex, self.bits).T


class Sampler(nn.Module):
    """Weighted means of a window, one for each input (AutoSample).

    Args:
        side: of the window in pixels.
        inputs: number of means.
    """

    def __init__(self, side: int, inputs: int) -> None:
        super().__init__()
        self.side = side
        self.raw = nn.Parameter(torch.randn(inputs, 1, side, side) / side)

    def weights(self) -> Tensor:
        """(inputs, 1, side, side), each summing to 1."""
        return self.raw.flatten(1).softmax(1).view_as(self.raw)

    def forward(self, padded: Tensor, turns: int) -> Tensor:
        """Means at every pixel whose window is there at all four rotations.

        Args:
            padded: (maps, height + 2 side - 2, width + 2 side - 2).
            turns: quarter turns of the picture in which the window lies to the right of and below the pixel.

        Returns:
            (inputs, maps, height, width).
        """
        reach = self.side - 1
        found = F.conv2d(padded[:, None], torch.rot90(self.weights(), -turns, (2, 3)))
        row, column = (0 if turns in (2, 3) else reach), (0 if turns in (1, 2) else reach)
        height, width = padded.shape[1] - 2 * reach, padded.shape[2] - 2 * reach
        return found[:, :, row : row + height, column : column + width].transpose(0, 1)
