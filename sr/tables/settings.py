"""What a training run of tables is told beside what the loop needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dcae.checks import check_names
from dcae.errors import OptionError
from dcae.sr.tables.config import PUBLISHED, TableConfig, UnitConfig, published_config
from dcae.sr.training.settings import PairSettings
from dcae.train.settings import setting
from dcae.train.written import text


@dataclass(frozen=True)
class TableSettings(PairSettings):
    """Settings of a run of tables. The table `network` holds fields of :class:`TableConfig` that differ from the
    method's, its own table `unit` fields of :class:`UnitConfig`.

    Raises:
        OptionError: a value out of range, or one that does not go with another.
    """

    task: ClassVar[str] = "tables"
    fixed: ClassVar[tuple[str, ...]] = ("method", "network", "scale", "init", "seed", "decay")

    init: str = setting("", text, "Tune these tables (installed name or file) instead of training networks.")
    method: str = setting("mulut", text, "The published method.", tuple(PUBLISHED))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tables(), self.unit()

    def tables(self) -> TableConfig:
        """The table network."""
        fields = {name: value for name, value in self.network.items() if name != "unit"}
        if wrong := {"preset", "scale"} & set(fields):
            raise OptionError(f"{', '.join(sorted(wrong))}: a setting of its own, not one of the table `network`")
        return published_config(self.method, self.scale, **fields)

    def network_defaults(self) -> dict[str, Any]:
        fields = published_config(self.method, self.scale).to_dict()
        return {name: value for name, value in fields.items() if name not in ("preset", "scale")}

    def unit(self) -> UnitConfig:
        """The networks that are its units while they train."""
        fields: Any = self.network.get("unit", {})
        if not isinstance(fields, dict):
            raise OptionError(f"unit must be a table of settings, got {fields!r:.60}")
        check_names(fields, UnitConfig, "settings of units:")
        return UnitConfig(**fields)
