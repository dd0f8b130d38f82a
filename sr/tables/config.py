"""Configuration of a table network: which pixels its units see, how stages follow each other, how sums are rounded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from dcae.checks import check_between, check_choice
from dcae.errors import OptionError
from dcae.networks.registry import any_config
from dcae.sr.networks.config import MAX_SCALE, SRConfig

PATTERNS = {
    "s": ((0, 0), (0, 1), (1, 0), (1, 1)),
    "d": ((0, 0), (0, 2), (2, 0), (2, 2)),
    "y": ((0, 0), (1, 1), (1, 2), (2, 1)),
    "e": ((0, 0), (0, 3), (3, 0), (3, 3)),
    "h": ((0, 0), (2, 2), (2, 3), (3, 2)),
    "o": ((0, 0), (2, 2), (1, 3), (3, 1)),
    "f": ((0, 0), (0, 1), (0, 2)),
    "v": ((0, 0), (0, 1)),
}
"""Letter of a unit -> (row, column) of its inputs relative to the pixel; `f` and `v` are SR-LUT's rows of 3 and 2."""
STAGES = ("pass", "split", "keep", "mix", "up")
INPUTS = 4
"""Largest number of inputs of a unit."""
MAX_STAGES, MAX_UNITS, MAX_SAMPLER = 8, 4, 7
MAX_ENTRIES = 1 << 17
"""Largest number of entries of a table, before any is left out."""


class Slot(NamedTuple):
    """Place of a unit in the network."""

    stage: int
    """From 1."""
    channel: int
    """From 0; above 0 only in the last stage of networks that keep several maps."""
    unit: int
    """Index into :attr:`TableConfig.units`; 0 for the mixing stage."""

    @property
    def name(self) -> str:
        """Name of the unit's tensors in table files."""
        return f"stage{self.stage}.channel{self.channel}.unit{self.unit}"


@dataclass(frozen=True)
class TableConfig(SRConfig):
    """Table network: `scale` times enlarging, each colour channel by itself.

    A stage adds up what its units find for each of the four rotations of their pattern. Its kind says what it makes of
    the map before it:

    ======  =================================================================================================
    pass    one map, which the next stage reads
    split   two maps: the first is kept aside, the second goes on
    keep    one map, kept aside
    mix     as many maps as were kept, each entry indexed by all of them at one pixel (no rotations)
    up      `scale` x `scale` pixels for each pixel of the kept maps (of the last one where none were), the last stage
    ======  =================================================================================================

    Raises:
        OptionError: a value out of range, or stages that do not fit each other.
    """

    preset: ClassVar[str] = "tables"

    stages: tuple[str, ...] = ("pass", "up")
    units: tuple[str, ...] = ("s", "d", "y")
    """Letters of :data:`PATTERNS`, one for each unit of a stage; with `sampler` only their number counts."""
    interval: int = 4
    """Nodes of a table stand 2 to this power grey levels apart."""
    padding: str = "edge"
    """Pixels outside are those of the border (edge), or mirrored at its middle (reflect)."""
    rounding: str = "once"
    """Sums over units and rotations are rounded at the end of a stage (once), or after every look-up (each)."""
    order: str = "sorted"
    """Fractions are sorted, or (srlut) wrongly where c > d > a > b, as in SR-LUT's published program."""
    sampler: int = 0
    """Side of the window whose weighted means are a unit's inputs (AutoSample); 0: the pixels of its pattern."""
    residual: bool = False
    """From the second stage on inputs are mixed with those of an earlier stage (AdaRL)."""
    diagonal: int = 0
    """Grid steps from the diagonal within which tables are kept at full sampling (DFC); 0: everywhere."""
    coarse: int = 5
    """Interval of the rest where `diagonal` is set."""

    def __post_init__(self) -> None:
        # Not the base's checks: an interval may be 0.
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), field.default)
        check_between("scale", self.scale, 1, MAX_SCALE)
        check_between("interval", self.interval, 0, 8)
        check_choice("padding", self.padding, ("edge", "reflect"))
        check_choice("rounding", self.rounding, ("once", "each"))
        check_choice("order", self.order, ("sorted", "srlut"))
        self._check_units()
        self._check_stages()
        if self.diagonal:
            check_between("diagonal", self.diagonal, 1, 8)
            check_between("coarse", self.coarse, self.interval + 1, 8)
        if self.order == "srlut" and (self.inputs != INPUTS or self.sampler or self.diagonal):
            raise OptionError("order = 'srlut' is for units of four pixels without sampler and diagonal")

    def _check_units(self) -> None:
        check_between("number of units", len(self.units), 1, MAX_UNITS)
        for letter in self.units:
            check_choice("unit", letter, PATTERNS)
        if len({len(PATTERNS[letter]) for letter in self.units}) > 1:
            raise OptionError(f"units {','.join(self.units)} have different numbers of inputs; take equal ones")
        if self.sampler:
            check_between("sampler", self.sampler, 2, MAX_SAMPLER)
        if (self.sampler or self.residual or self.diagonal) and self.inputs != INPUTS:
            raise OptionError("sampler, residual and diagonal need units of four inputs")
        if (entries := (2 ** (8 - self.interval) + 1) ** self.inputs) > MAX_ENTRIES:
            raise OptionError(f"interval {self.interval} makes tables of {entries} entries, at most {MAX_ENTRIES}")

    def _check_stages(self) -> None:
        check_between("number of stages", len(self.stages), 1, MAX_STAGES)
        for stage in self.stages:
            check_choice("stage", stage, STAGES)
        *first, last = self.stages
        if last != "up" or "up" in first:
            raise OptionError("stages must end in the only `up`")
        if "keep" in first or "split" in first or "mix" in first:
            rest = first[:-1] if first[-1] == "mix" else first
            if not rest or rest[-1] != "keep" or {"keep", "mix"} & set(rest[:-1]):
                raise OptionError("stages that keep maps must be pass and split, then one keep, then at most one mix")
            if "mix" in first and not 2 <= self.kept <= INPUTS:
                raise OptionError(f"mix takes 2 to {INPUTS} kept maps, got {self.kept}")
            check_between("number of kept maps", self.kept, 1, INPUTS)

    @property
    def inputs(self) -> int:
        """Number of inputs of a unit."""
        return INPUTS if self.sampler else len(PATTERNS[self.units[0]])

    @property
    def kept(self) -> int:
        """Number of maps that are kept aside."""
        return sum(stage in ("split", "keep") for stage in self.stages)

    @property
    def reaches(self) -> tuple[int, ...]:
        """Rows and columns that each unit sees beyond the pixel, on every side."""
        if self.sampler:
            return (self.sampler - 1,) * len(self.units)
        return tuple(max(max(offset) for offset in PATTERNS[letter]) for letter in self.units)

    @property
    def halo(self) -> int:
        """Pixels around a pixel, on every side, that decide what it becomes."""
        return max(self.reaches) * sum(stage != "mix" for stage in self.stages)

    def outputs(self, stage: int) -> int:
        """Numbers in an entry of that stage's tables (stages count from 1)."""
        kind = self.stages[stage - 1]
        return {"pass": 1, "keep": 1, "split": 2, "mix": self.kept, "up": self.scale**2}[kind]

    def slots(self) -> Iterator[Slot]:
        """Every unit of the network, in the order in which they are looked up."""
        for stage, kind in enumerate(self.stages, 1):
            for channel in range(max(self.kept, 1) if kind == "up" else 1):
                for unit in range(1 if kind == "mix" else len(self.units)):
                    yield Slot(stage, channel, unit)


def _check_type(name: str, value: Any, default: Any) -> None:
    """Refuse what is not of the default's type; of a tuple, what is not of strings.

    Raises:
        OptionError: it is not.
    """
    same = type(value) is type(default)
    if not same or (isinstance(value, tuple) and not all(isinstance(item, str) for item in value)):
        raise OptionError(f"{name} must be like {default!r}, got {value!r:.60}")


_SPF = ("split", "split", "split", "keep", "mix", "up")
PUBLISHED: dict[str, dict[str, Any]] = {
    "srlut-s": {"stages": ("up",), "units": ("s",), "padding": "reflect", "order": "srlut"},
    "srlut-f": {"stages": ("up",), "units": ("f",), "padding": "reflect"},
    "srlut-v": {"stages": ("up",), "units": ("v",), "padding": "reflect", "interval": 0},
    "mulut": {},
    "mulut-dfc": {"diagonal": 2},
    "mulut-autolut": {"sampler": 5, "residual": True, "rounding": "each"},
    "spflut": {"stages": _SPF, "rounding": "each"},
    "spflut-dfc": {"stages": _SPF, "rounding": "each", "diagonal": 2},
    "spf-light": {"stages": _SPF, "rounding": "each", "diagonal": 2, "units": ("s",), "sampler": 5, "residual": True},
}
"""Name of a published method -> its settings beside the scale."""


def published_config(name: str, scale: int, **settings: Any) -> TableConfig:
    """The configuration of a published method.

    Args:
        name: one of :data:`PUBLISHED`.
        settings: fields of :class:`TableConfig` that differ from it.

    Raises:
        OptionError: no such name, or settings that do not fit.
    """
    check_choice("method", name, PUBLISHED)
    found = any_config({"preset": TableConfig.preset, "scale": scale} | PUBLISHED[name] | settings)
    assert isinstance(found, TableConfig)
    return found


@dataclass(frozen=True)
class UnitConfig:
    """Network that a unit is while it trains.

    The published ones have 64 features, 4 layers after the first, dense since MuLUT; they do not start as copies.

    Raises:
        OptionError: a value out of range.
    """

    features: int = 64
    """Numbers that a layer adds."""
    layers: int = 4
    """Layers between the first and the last."""
    dense: bool = True
    """Every layer sees all layers before it, not only the last."""
    bound: str = "tanh"
    """What limits outputs to the range of a table: tanh or clamp."""
    copies: bool = False
    """The network adds to a copy of the pixel, so that an untrained one enlarges by repetition."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is not type(field.default):
                raise OptionError(f"{field.name} of units must be like {field.default!r}, got {value!r:.60}")
        check_between("features", self.features, 1, 1024)
        check_between("layers", self.layers, 0, 16)
        check_choice("bound", self.bound, ("tanh", "clamp"))
