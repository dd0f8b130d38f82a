"""Command line of training: `dcae train` and `dcae export`. Heavy imports happen inside."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import click

from dcae.errors import OptionError
from dcae.extras import require
from dcae.files import check_output
from dcae.train.config import effective_config, recipes
from dcae.train.families import FAMILIES
from dcae.train.settings import Settings


def _options(kind: type[Settings]) -> list[click.Option]:
    """One option for every setting; what is not given stays out, so that a recipe's value holds."""
    options = []
    for field in dataclasses.fields(kind):
        if field.name == "network":  # a table: recipes only
            continue
        name = "lambda" if field.name == "lambdas" else field.name.replace("_", "-")
        text = field.metadata["help"]
        if field.default not in (None, "", ()):
            shown = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
            text += f"  [default: {shown}]"
        form: dict[str, Any] = {"metavar": field.metadata["metavar"]}
        if field.metadata["choices"]:
            form = {"type": click.Choice(field.metadata["choices"])}
        flag = f"--{name}"
        if isinstance(field.default, bool):
            flag, form = f"--{name}/--no-{name}", {}
        elif field.name == "lambdas":
            form["multiple"] = True
        options.append(click.Option([flag, field.name], default=None, help=text, **form))
    return options


class _OfTask(click.Command):
    """A command whose options are its own and the settings of the task that `--task` names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for word, following in zip(args, [*args[1:], ""], strict=True):
            if word == "--task" or word.startswith("--task="):
                ctx.meta[_TASK] = following if word == "--task" else word.removeprefix("--task=")
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *own, help_option = super().get_params(ctx)
        # A task that does not exist is refused by its own option.
        family = FAMILIES.get(ctx.meta.get(_TASK, ""), FAMILIES["codec"])
        return [*own, *_options(family.settings_type()), help_option]


_TASK = "dcae.train.task"
"""Key under which the context has the name of the task while the options are read."""


@click.command(cls=_OfTask)
@click.option("-o", "--output", type=Path, metavar="RUN", help="Folder of the run.")
@click.option(
    "--task", type=click.Choice(list(FAMILIES)), default="codec", show_default=True,
    help="What is trained: a codec, or what enlarges pictures: a network (sr) or tables. With it, --help lists its "
    "settings.",
)  # fmt: skip
@click.option(
    "--recipe", metavar="NAME|FILE",
    help=f"Settings from a TOML file or a recipe of the package ({', '.join(recipes())}); options go before it.",
)  # fmt: skip
@click.option(
    "--write-config", "written", type=Path, metavar="FILE",
    help="Train nothing; write all settings, with what the options and the recipe say and a comment for each, as a "
    "TOML file that --recipe reads.",
)  # fmt: skip
@click.option(
    "--resume", type=click.Choice(["auto", "never"]), default="never", show_default=True,
    help="auto: continue the run in the folder if there is one, with its settings where none are given. "
    "never: refuse a folder that holds one.",
)  # fmt: skip
@click.option(
    "--device", default="cpu", show_default=True, help="torch device; of several processes on cuda each has its GPU."
)
@click.option(
    "--processes", default="1", show_default=True, metavar="N|auto",
    help="Train data parallel in so many processes; auto: one for every core, or GPU. `--batch` is that of each, and "
    "each keeps all pictures in memory.",
)  # fmt: skip
def train(
    output: Path | None, task: str, recipe: str | None, written: Path | None, resume: str, device: str,
    processes: str, **options: Any,
) -> None:  # fmt: skip
    """Train a model; RUN gets checkpoints, TensorBoard files and, at the end, model.safetensors."""
    family = FAMILIES[task]
    given = {k: v for k, v in options.items() if v is not None and v != ()}
    if written:
        from dcae.train.configuration import write_configuration

        write_configuration(effective_config(recipe, given, None, family.settings_type()), written)
        return
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output': the folder of the run.")
    family.require()
    stored: dict[str, Any] = {}
    if resume == "auto" or "decay" in given:
        from dcae.train.start import stored_settings

        stored = stored_settings(output, resume == "auto", given.get("decay"))
    config = effective_config(recipe, given, stored, family.settings_type())
    from dcae.networks.base import check_device
    from dcae.train.export import export_checkpoint
    from dcae.train.machine import process_count
    from dcae.train.processes import launch

    check_device(device)
    count = process_count(processes, device)
    if count > 1 and "RANK" in os.environ:
        raise OptionError("the processes are there already (torchrun has started them); leave out --processes")
    if count == 1:
        _run(config, output, device, resume == "auto")
    else:
        launch(count, _run, config, output, device, resume == "auto")
    if int(os.environ.get("RANK", "0")) == 0:
        header = export_checkpoint(output, output / "model.safetensors", {})
        click.echo(f"{header.path}: model {header.short_id.hex()}", err=True)


def _run(config: Settings, output: Path, device: str, resume: bool) -> None:
    """Train in this process. Of several only the first reports, since the others see the same."""
    import logging

    from dcae.train.loop import train as run

    level = logging.INFO if int(os.environ.get("RANK", "0")) == 0 else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    run(config, output, device, resume)


@click.command()
@click.argument("run", type=Path)
@click.option("-o", "--output", required=True, type=Path, help="Model file to write (.safetensors).")
@click.option("--data", "data_note", default="", help="What it was trained on, for the record.")
@click.option(
    "--pictures", type=Path, metavar="DIR",
    help="Folder of training pictures that a codec's tables are fitted to, where the run's is not there any more.",
)  # fmt: skip
@click.option("--table-pictures", type=int, metavar="N", help="To how many; 0 leaves tables as they were trained.")
@click.option("--force", is_flag=True, help="Overwrite the output.")
def export(
    run: Path, output: Path, data_note: str, pictures: Path | None, table_pictures: int | None, force: bool
) -> None:
    """Write the model file of a training RUN: of its folder the best checkpoint, or of the checkpoint given."""
    check_output(str(output), force)
    require("training needs", "train", "torch")
    import logging

    from dcae.train.export import export_checkpoint

    logging.basicConfig(format="%(message)s")
    if pictures and not pictures.is_dir():
        raise OptionError(f"{pictures}: no such folder of training pictures")
    given = {"data": pictures and str(pictures), "table_pictures": table_pictures}
    settings = {name: value for name, value in given.items() if value is not None}
    header = export_checkpoint(run, output, {"data": data_note} if data_note else {}, force, settings)
    click.echo(f"{output}: model {header.short_id.hex()}", err=True)
