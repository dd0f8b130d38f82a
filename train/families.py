"""The tasks of training by name: for each its settings, data and loss, and how its networks are exported.

Each is one entry, whose parts are named as `module:name` and imported when they are asked for: the folder of a family
of networks imports this one, not the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from dcae.checks import check_choice
from dcae.extras import require, require_training
from dcae.train.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from dcae.train.task import Task


@dataclass(frozen=True)
class Family:
    """A task, and the networks that are trained for it."""

    settings: str
    """Type of its settings, a :class:`Settings`."""
    task: str
    """Type of the :class:`dcae.train.task.Task`."""
    export: str
    """Function that writes a model file: of the network's configuration as a dict, its weights, the path, the record
    and whether to overwrite, it returns the file's header."""
    compressai: bool = False
    """Whether it needs compressai."""

    def settings_type(self) -> type[Settings]:
        """Type of its settings."""
        found: type[Settings] = resolve_name(self.settings)
        return found

    def task_type(self) -> type[Task]:
        """Type of its task."""
        found: type[Task] = resolve_name(self.task)
        return found

    def export_function(self) -> Callable[..., Any]:
        """Function that writes a model file."""
        found: Callable[..., Any] = resolve_name(self.export)
        return found

    def require(self) -> None:
        """Refuse to train without what that takes.

        Raises:
            MissingDependencyError: some of it is not installed.
        """
        if self.compressai:
            require_training()
        else:
            require("training needs", "train", "torch", "tensorboard")


FAMILIES = {
    "codec": Family(
        "dcae.train.config:TrainConfig", "dcae.train.codec_task:CodecTask", "dcae.train.export:export_codec",
        compressai=True,
    ),
    "sr": Family(
        "dcae.sr.training.settings:SRSettings", "dcae.sr.training.task:SRTask", "dcae.sr.models:export_network"
    ),
    "tables": Family(
        "dcae.sr.tables.settings:TableSettings", "dcae.sr.tables.task:TableTask", "dcae.sr.tables.export:export_tables"
    ),
}  # fmt: skip
"""Families by name, the default first."""


def family_of(settings: dict[str, Any]) -> Family:
    """The family of a checkpoint, by its settings; older ones name none and are codecs.

    Raises:
        OptionError: an unknown one.
    """
    task = settings.get("task", "codec")
    check_choice("task", task, FAMILIES)
    return FAMILIES[task]
