"""What a training run is told: one frozen dataclass, filled by recipes (TOML) and by the command line's options,
stored in every checkpoint and model file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from dcae.checks import check_between, check_choice, check_names, check_positive
from dcae.errors import OptionError
from dcae.extras import installed, require
from dcae.networks.registry import preset_names
from dcae.train.written import flag, number, parse_lambdas, sizes, table, text, whole

RECIPES = Path(__file__).parent / "recipes"


_METAVARS: dict[Callable[[Any], Any], str] = {
    whole: "N", number: "X", sizes: "N[,N...]", parse_lambdas: "λ|λ,λ...|LOW..HIGH",
}  # fmt: skip


def _setting(default: Any, parse: Callable[[Any], Any], said: str, choices: tuple[str, ...] = ()) -> Any:
    metadata = {"parse": parse, "help": said, "choices": choices, "metavar": _METAVARS.get(parse, "TEXT")}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run. A field's `help` says what it means; `dcae train --help` prints the same.

    Raises:
        OptionError: a value out of range, or one that does not go with another.
    """

    data: str = _setting("", text, "Folder of training pictures, searched recursively.")
    preset: str = _setting(preset_names()[0], text, "The network.", preset_names())
    network: dict[str, Any] = _setting(
        dict, table, "Fields of the preset's configuration that differ from its defaults (a TOML table)."
    )
    lambdas: tuple[float, ...] = _setting(
        (), parse_lambdas, "λ of the loss: one for a single-rate model; several, or LOW..HIGH, for one model over all."
    )
    metric: str = _setting("mse", text, "Distortion: λ·255²·MSE, or λ·(1 - MS-SSIM).", ("mse", "ms-ssim"))
    init: str = _setting(
        "", text, "Start from this model (installed name, model file, or another run) instead of from scratch."
    )
    steps: int = _setting(20_000, whole, "Optimiser steps; the learning rate has decayed at the last.")
    minutes: float | None = _setting(
        None, number, "Wall-clock budget; when given, the schedule follows the time spent instead of the steps."
    )
    patch: tuple[int, ...] = _setting(
        (128,), sizes, "Side of a patch in pixels, a multiple of 64; several split the schedule into equal parts."
    )
    batch: tuple[int, ...] = _setting((16,), sizes, "Patches per step and process; one, or one for each patch size.")
    optimizer: str = _setting(
        "adam", text, "Adam, or orthogonalised momentum for the matrices beside Adam for the rest.", ("adam", "muon")
    )
    learning_rate: float = _setting(1e-3, number, "Adam's; Muon's steps have twice its root mean square.")
    schedule: str = _setting(
        "cosine", text, "Cosine decay; constant and a tenth in the last fifth (step); or constant: a trunk, which can "
        "be prolonged at any time and from which decays branch off.", ("cosine", "step", "constant"),
    )  # fmt: skip
    decay: str = _setting(
        "", text, "Branch off this run (a folder or checkpoint, left as it is): continue with its weights, optimiser "
        "state and settings, and let the learning rate fall to zero over the steps or minutes given.",
    )  # fmt: skip
    warmup: int = _setting(100, whole, "Steps of linear warm-up.")
    final_fraction: float = _setting(0.02, number, "Learning rate at the cosine's end, as a fraction of the first.")
    clip: float = _setting(10.0, number, "Gradients are scaled down to this norm; usual norms are 2 to 3.")
    ema: float = _setting(
        0.999, number, "Decay per step of the averaged weights, which are validated and exported; 0 for none."
    )
    balance: float = _setting(
        0.5, number, "A sample's loss is divided by λ to this power, so that no rate dominates a multi-rate model."
    )
    block_means: float = _setting(
        0.0, number, "Weight of the errors of 8, 16 and 64-pixel means beside the pixels', against blotches."
    )
    low_rate_weight: float = _setting(
        1.0, number, "Above 1, low λ are drawn more often: quality = 1 + range · u^weight, u in strata."
    )
    downscale: float = _setting(0.3, number, "Share of patches that are shrunk by a random factor up to 2.")
    smooth: float = _setting(
        0.33, number, "Share of patches as smooth as a camera's pictures: cut from large ones, enlarged, or composed."
    )
    drawn: float = _setting(
        0.12, number, "Share of patches that are no photographs: text, interfaces, charts, line art, drawn by code."
    )
    colour: float = _setting(
        0.3, number, "Share of the photographs' patches whose brightness, contrast and colours are changed."
    )
    cutting: str = _setting(
        "auto", text, "Patches are cut each by itself, or a batch at a time, which a GPU needs; auto: by the device.",
        ("auto", "each", "batched"),
    )  # fmt: skip
    drawn_pool: int = _setting(
        4096, whole, "Pictures drawn before the training of batched patches, 512x512 pixels each."
    )
    precision: str = _setting(
        "auto", text, "Of the transforms in training; auto: bf16 where the device has instructions for it. The "
        "entropy model is always in float32.", ("auto", "bf16", "float32"),
    )  # fmt: skip
    compile: bool = _setting(False, flag, "torch.compile the network; needs a C++ compiler.")
    validate_every: float = _setting(10.0, number, "Minutes between validations, each with a checkpoint.")
    checkpoint_every: float = _setting(0.0, number, "Minutes between further checkpoints; 0 for none.")
    validation_pictures: int = _setting(
        16, whole, "Pictures looked at in a validation, a quarter of them drawn; of the others 1 in 60 is held out."
    )
    reference: str = _setting("lite", text, "Model that validations compare with, picture by picture; empty for none.")
    seed: int = _setting(1, whole, "Of everything random.")

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            choices, value = setting.metadata["choices"], getattr(self, setting.name)
            if choices:
                check_choice(setting.name, value, choices)
        if not self.patch or any(p < 64 or p % 64 for p in self.patch):
            raise OptionError(f"patch must be multiples of 64, got {_listed(self.patch)}")
        if self.metric == "ms-ssim" and min(self.patch) < 192:
            raise OptionError("MS-SSIM has five scales and needs patches of at least 192; set --patch 192")
        if len(self.batch) not in (1, len(self.patch)):
            raise OptionError(
                f"batch {_listed(self.batch)} does not go with patch {_listed(self.patch)}: give one each"
            )
        if self.schedule == "constant" and len(self.patch) > 1:
            raise OptionError("a constant schedule has no end by which patch sizes could be told; give one --patch")
        for name in ("steps", "validation_pictures", "drawn_pool"):
            check_between(name, getattr(self, name), 1)
        check_between("batch", min(self.batch), 1)
        if self.minutes is not None:
            check_positive("minutes", self.minutes)
        for name in ("learning_rate", "clip", "validate_every", "low_rate_weight"):
            check_positive(name, getattr(self, name))
        limits = {
            "ema": 1.0, "downscale": 1.0, "smooth": 1.0, "drawn": 1.0, "colour": 1.0, "block_means": 100.0,
            "checkpoint_every": 1e9, "final_fraction": 1.0, "balance": 2.0, "warmup": 1e9, "seed": 2.0**32,
        }  # fmt: skip
        for name, highest in limits.items():
            check_between(name, getattr(self, name), 0, highest)
        if self.smooth + self.drawn > 1:
            raise OptionError(
                f"smooth and drawn are shares of all patches, together at most 1, got {self.smooth + self.drawn:g}"
            )
        if wrong := {"lambdas", "metric", "preset"} & set(self.network):
            raise OptionError(f"{', '.join(sorted(wrong))}: a setting of its own, not one of the table `network`")

    def phase(self, progress: float) -> tuple[int, int]:
        """Patch size and batch at this share of the schedule."""
        k = min(int(progress * len(self.patch)), len(self.patch) - 1)
        return self.patch[k], self.batch[k] if len(self.batch) > 1 else self.batch[0]

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON; :meth:`from_dict` leads back."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "settings") -> TrainConfig:
        """Settings from the values of a recipe, a checkpoint or the command line.

        Args:
            source: where they come from, for the message of an error.

        Raises:
            OptionError: an unknown name, or a value of the wrong type or out of range.
        """
        known = {f.name: f for f in dataclasses.fields(cls)}
        values = _renamed(values, source)
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


def recipes() -> list[str]:
    """Names of the package's recipes."""
    return sorted(p.stem for p in RECIPES.glob("*.toml"))


def effective_config(
    recipe: str | None, options: Mapping[str, Any], stored: Mapping[str, Any] | None = None
) -> TrainConfig:
    """Defaults, overridden by stored settings, overridden by a recipe, overridden by options.

    Args:
        recipe: as :func:`read_recipe` takes it.
        options: settings by name, as text or as values. `steps` also overrides `minutes` of a recipe or checkpoint.
        stored: settings of the checkpoint that is continued or branched off, as the checkpoint has them.

    Raises:
        OptionError: as :meth:`TrainConfig.from_dict` and :func:`read_recipe`, or a decay of no length.
    """
    values: dict[str, Any] = dict(stored or {})
    for later in (read_recipe(recipe) if recipe else {}, options):
        if "steps" in later:
            values.pop("minutes", None)
        values |= later
    if values.get("decay") and values.get("steps") is None and values.get("minutes") is None:
        raise OptionError("say how long the decay takes: --minutes or --steps")
    return TrainConfig.from_dict(values, recipe or "options")


def read_recipe(recipe: str) -> dict[str, Any]:
    """The settings in a TOML file, or in a recipe of the package (its name without .toml).

    `lambda` stands for `lambdas`. Relative paths are relative to the working directory.

    Raises:
        OptionError: no such file, or no TOML.
        MissingDependencyError: Python is older than 3.11, and tomli is not installed.
    """
    reader = "tomllib" if installed("tomllib") else "tomli"
    require("recipes need", "train", reader)
    tomllib = import_module(reader)
    path = Path(recipe)
    if path.suffix != ".toml":
        path = RECIPES / f"{recipe}.toml"
        if not path.is_file():
            raise OptionError(f"no recipe named {recipe!r}; known: {', '.join(recipes())} (or give a .toml file)")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise OptionError(f"{path}: not a TOML file ({error})") from error
    if "lambda" in values:
        values["lambdas"] = values.pop("lambda")
    return values


def _renamed(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Settings of older checkpoints, model files and recipes under today's names."""
    renamed = dict(values)
    if "bf16" in renamed:
        fast = renamed.pop("bf16")
        if not isinstance(fast, bool):
            raise OptionError(f"{source}: bf16 = {fast!r}: must be true or false")
        renamed.setdefault("precision", "auto" if fast else "float32")
    return renamed


def _listed(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))
