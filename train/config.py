"""What a training run of the codec is told, and where settings come from: recipes (TOML), checkpoints, options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from dcae.checks import check_between, check_positive
from dcae.errors import OptionError
from dcae.extras import installed, require
from dcae.networks.registry import config_from_dict, preset_names
from dcae.train.looks import ADVERSARIAL, LooksSettings
from dcae.train.settings import S, listed, setting
from dcae.train.written import flag, number, parse_lambdas, text, whole

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class TrainConfig(LooksSettings):
    """Settings of a run of the codec.

    Raises:
        OptionError: a value out of range, or one that does not go with another.
    """

    task: ClassVar[str] = "codec"
    fixed: ClassVar[tuple[str, ...]] = (
        "preset", "network", "lambdas", "metric", "optimizer", "init", "seed", "decay", *ADVERSARIAL,
        "perceptual_weight",  # which decides on what is frozen
    )  # fmt: skip

    preset: str = setting(preset_names()[0], text, "The network.", preset_names())
    lambdas: tuple[float, ...] = setting(
        (), parse_lambdas, "λ of the loss: one for a single-rate model; several, or LOW..HIGH, for one model over all."
    )
    metric: str = setting("mse", text, "Distortion: λ·255²·MSE, or λ·(1 - MS-SSIM).", ("mse", "ms-ssim"))
    optimizer: str = setting(
        "adam", text, "Adam; or SOAP for the matrices, beside Adam for the rest.", ("adam", "soap")
    )
    balance: float = setting(
        0.5, number, "A sample's loss is divided by λ to this power, so that no rate dominates a multi-rate model."
    )
    relative: float = setting(
        0.0, number, "A sample's gradient is divided by its loss to this power, so that rough patches, which take most "
        "bits, do not decide everything; 1 for the mean of logarithms."
    )  # fmt: skip
    block_means: float = setting(
        0.0, number, "Weight of the errors of 8, 16 and 64-pixel means beside the pixels', against blotches."
    )
    pixel_share: float = setting(
        0.0, number, "Of training for MS-SSIM, the share that squared errors have: for colours and plain areas."
    )
    even: bool = setting(
        False, flag, "Of training for MS-SSIM: weigh patches so that smooth ones, where it is strict, drown no others."
    )
    low_rate_weight: float = setting(
        1.0,
        number,
        "Above 1, low λ are drawn more often, below 1 high ones: quality = 1 + range · u^weight, u in strata.",
    )
    smooth: float = setting(
        0.33, number, "Share of patches as smooth as a camera's pictures: cut from large ones, enlarged, or composed."
    )
    drawn: float = setting(
        0.12, number, "Share of patches that are no photographs: text, interfaces, charts, line art, drawn by code."
    )
    colour: float = setting(
        0.3, number, "Share of the photographs' patches whose brightness, contrast and colours are changed."
    )
    cutting: str = setting(
        "auto", text, "Patches are cut each by itself, or a batch at a time, which a GPU needs; auto: by the device.",
        ("auto", "each", "batched"),
    )  # fmt: skip
    drawn_pool: int = setting(
        4096, whole, "Pictures drawn before the training of batched patches, 512x512 pixels each."
    )
    table_pictures: int = setting(
        32, whole, "Training pictures that the probability tables of the model file are fitted to when it is written; "
        "0: tables as they were trained."
    )  # fmt: skip
    reference: str = setting("lite", text, "Model that validations compare with, picture by picture; empty for none.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(p < 64 or p % 64 for p in self.patch):
            raise OptionError(f"patch must be multiples of 64, got {listed(self.patch)}")
        if self.metric == "ms-ssim" and min(self.patch) < 192:
            raise OptionError("MS-SSIM has five scales and needs patches of at least 192; set --patch 192")
        if (self.pixel_share or self.even) and self.metric != "ms-ssim":
            raise OptionError("pixel_share and even are of training for MS-SSIM; give --metric ms-ssim, too")
        if self.block_means and self.metric == "ms-ssim" and not self.pixel_share:
            raise OptionError("block_means weighs squared errors, of which training for MS-SSIM has none without "
                              "pixel_share; give --pixel-share, too, or --block-means 0")  # fmt: skip
        check_between("drawn_pool", self.drawn_pool, 1)
        check_between("table_pictures", self.table_pictures, 0)
        check_positive("low_rate_weight", self.low_rate_weight)
        limits = {"smooth": 1.0, "drawn": 1.0, "colour": 1.0, "block_means": 100.0, "balance": 2.0, "relative": 1.0,
                  "pixel_share": 1.0}  # fmt: skip
        for name, highest in limits.items():
            check_between(name, getattr(self, name), 0, highest)
        if self.smooth + self.drawn > 1:
            raise OptionError(
                f"smooth and drawn are shares of all patches, together at most 1, got {self.smooth + self.drawn:g}"
            )
        if wrong := {"lambdas", "metric", "preset"} & set(self.network):
            raise OptionError(f"{', '.join(sorted(wrong))}: a setting of its own, not one of the table `network`")

    def network_defaults(self) -> dict[str, Any]:
        fields = config_from_dict({"preset": self.preset}).to_dict()
        return {name: value for name, value in fields.items() if name not in ("preset", "lambdas", "metric")}


def recipes() -> list[str]:
    """Names of the package's recipes."""
    return sorted(p.stem for p in RECIPES.glob("*.toml"))


def effective_config(
    recipe: str | None,
    options: Mapping[str, Any],
    stored: Mapping[str, Any] | None = None,
    kind: type[S] = TrainConfig,  # type: ignore[assignment]
) -> S:
    """Defaults, overridden by stored settings, overridden by a recipe, overridden by options.

    Args:
        recipe: as :func:`read_recipe` takes it.
        options: settings by name, as text or as values. `steps` also overrides `minutes` of a recipe or checkpoint.
        stored: settings of the checkpoint that is continued or branched off, as the checkpoint has them.
        kind: those of which task.

    Raises:
        OptionError: as :meth:`Settings.from_dict` and :func:`read_recipe`, or a decay of no length, or `options` with
            two lengths.
    """
    if options.get("steps") is not None and options.get("minutes") is not None:
        raise OptionError("--steps and --minutes both say how long the run is; give one of the two")
    values: dict[str, Any] = dict(stored or {})
    for later in (read_recipe(recipe) if recipe else {}, options):
        if "steps" in later:
            values.pop("minutes", None)
        values |= later
    if values.get("decay") and values.get("steps") is None and values.get("minutes") is None:
        raise OptionError("say how long the decay takes: --minutes or --steps")
    return kind.from_dict(values, recipe or "options")


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
