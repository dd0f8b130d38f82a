"""What every training run is told, whatever its task: the base of the tasks' settings, filled by recipes (TOML) and by
the command line's options, stored in every checkpoint and model file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from dcae.checks import check_between, check_choice, check_names, check_positive
from dcae.errors import OptionError
from dcae.train.written import flag, number, parse_lambdas, sizes, span, table, text, whole

_METAVARS: dict[Callable[[Any], Any], str] = {
    whole: "N", number: "X", sizes: "N[,N...]", parse_lambdas: "λ|λ,λ...|LOW..HIGH", span: "LOW..HIGH",
}  # fmt: skip
S = TypeVar("S", bound="Settings")


def setting(default: Any, parse: Callable[[Any], Any], said: str, choices: tuple[str, ...] = ()) -> Any:
    """A field of settings.

    Args:
        default: its value where none is given, or a function that makes it.
        parse: makes its value of text from a command line or of a value from a TOML file; raises ValueError.
        said: its line of help.
        choices: all values that are allowed; none: see the settings' own checks.
    """
    metadata = {"parse": parse, "help": said, "choices": choices, "metavar": _METAVARS.get(parse, "TEXT")}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Settings that the loop needs. A field's `help` says what it means; `dcae train --help` prints the same.

    Raises:
        OptionError: a value out of range, or one that does not go with another.
    """

    task: ClassVar[str] = ""
    """Name of the task, see `dcae/train/families.py`."""
    fixed: ClassVar[tuple[str, ...]] = ("seed", "decay")
    """Settings that make a run what it is; all others may be given anew when it is continued."""

    data: str = setting("", text, "Folder of training pictures, searched recursively.")
    network: dict[str, Any] = setting(
        dict, table, "Fields of the network's configuration that differ from its defaults (a TOML table)."
    )
    init: str = setting(
        "", text, "Start from this model (installed name, model file, or another run) instead of from scratch."
    )
    steps: int = setting(20_000, whole, "Optimiser steps; the learning rate has decayed at the last.")
    minutes: float | None = setting(
        None, number, "Wall-clock budget; when given, the schedule follows the time spent instead of the steps."
    )
    patch: tuple[int, ...] = setting(
        (128,), sizes, "Side of a patch in pixels; several split the schedule into equal parts."
    )
    batch: tuple[int, ...] = setting((16,), sizes, "Patches per step and process; one, or one for each patch size.")
    learning_rate: float = setting(1e-3, number, "Size of the steps of Adam and SOAP.")
    schedule: str = setting(
        "cosine", text, "Cosine decay; constant and a tenth in the last fifth (step); or constant: a trunk, which can "
        "be prolonged at any time and from which decays branch off.", ("cosine", "step", "constant"),
    )  # fmt: skip
    decay: str = setting(
        "", text, "Branch off this run (a folder or checkpoint, left as it is): continue with its weights, optimiser "
        "state and settings, and let the learning rate fall to zero over the steps or minutes given.",
    )  # fmt: skip
    warmup: int = setting(100, whole, "Steps of linear warm-up.")
    final_fraction: float = setting(0.02, number, "Learning rate at the cosine's end, as a fraction of the first.")
    clip: float = setting(10.0, number, "Gradients are scaled down to this norm; usual norms are 2 to 3.")
    ema: float = setting(
        0.999, number, "Decay per step of the averaged weights, which are validated and exported; 0 for none."
    )
    downscale: float = setting(0.3, number, "Share of patches that are shrunk by a random factor up to 2.")
    precision: str = setting(
        "auto", text, "Of the layers in training; auto: bf16 where the device has instructions for it. What needs "
        "float32 (a codec's entropy model, tables) has it always.", ("auto", "bf16", "float32"),
    )  # fmt: skip
    compile: bool = setting(False, flag, "torch.compile the network; needs a C++ compiler.")
    validate_every: float = setting(10.0, number, "Minutes between validations, each with a checkpoint.")
    checkpoint_every: float = setting(0.0, number, "Minutes between further checkpoints; 0 for none.")
    validation_pictures: int = setting(
        16, whole, "Pictures looked at in a validation; of those in the folder 1 in 60 is held out."
    )
    seed: int = setting(1, whole, "Of everything random.")

    def __post_init__(self) -> None:
        for own in dataclasses.fields(self):
            choices, value = own.metadata["choices"], getattr(self, own.name)
            if choices:
                check_choice(own.name, value, choices)
        if not self.patch:
            raise OptionError("patch must be the side of a patch, got none")
        if len(self.batch) not in (1, len(self.patch)):
            raise OptionError(f"batch {listed(self.batch)} does not go with patch {listed(self.patch)}: give one each")
        if self.schedule == "constant" and len(self.patch) > 1:
            raise OptionError("a constant schedule has no end by which patch sizes could be told; give one --patch")
        for name in ("steps", "validation_pictures"):
            check_between(name, getattr(self, name), 1)
        check_between("batch", min(self.batch), 1)
        if self.minutes is not None:
            check_positive("minutes", self.minutes)
        for name in ("learning_rate", "clip", "validate_every"):
            check_positive(name, getattr(self, name))
        limits = {
            "ema": 1.0, "downscale": 1.0, "checkpoint_every": 1e9, "final_fraction": 1.0, "warmup": 1e9,
            "seed": 2.0**32,
        }  # fmt: skip
        for name, highest in limits.items():
            check_between(name, getattr(self, name), 0, highest)

    def phase(self, progress: float) -> tuple[int, int]:
        """Patch size and batch at this share of the schedule."""
        k = min(int(progress * len(self.patch)), len(self.patch) - 1)
        return self.patch[k], self.batch[k] if len(self.batch) > 1 else self.batch[0]

    def network_defaults(self) -> dict[str, Any]:
        """Fields that the table `network` may hold, with the values that they have without it."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """The fields and the task's name, ready for JSON; :meth:`from_dict` leads back."""
        values = dataclasses.asdict(self)
        return {"task": self.task} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls: type[S], values: Mapping[str, Any], source: str = "settings") -> S:
        """Settings from the values of a recipe, a checkpoint or the command line.

        Args:
            source: where they come from, for the message of an error.

        Raises:
            OptionError: those of another task, an unknown name, or a value of the wrong type or out of range.
        """
        known = {f.name: f for f in dataclasses.fields(cls)}
        values = _renamed(values, source)
        if (task := values.pop("task", cls.task)) != cls.task:
            raise OptionError(f"{source}: settings of the task {task!r:.60}, which --task says")
        check_names(values, cls, f"settings in {source}:")
        parsed: dict[str, Any] = {}
        for name, value in values.items():
            if value is None:  # what JSON makes of a setting that was not given
                continue
            try:
                parsed[name] = known[name].metadata["parse"](value)
            except (ValueError, TypeError, OverflowError) as error:
                raise OptionError(f"{source}: {name} = {value!r}: {error}") from error
        return cls(**parsed)


def _renamed(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Settings of older checkpoints, model files and recipes under today's names."""
    renamed = dict(values)
    if "bf16" in renamed:
        fast = renamed.pop("bf16")
        if not isinstance(fast, bool):
            raise OptionError(f"{source}: bf16 = {fast!r}: must be true or false")
        renamed.setdefault("precision", "auto" if fast else "float32")
    return renamed


def listed(values: tuple[int, ...]) -> str:
    """Sizes as the command line takes them."""
    return ",".join(map(str, values))
