"""The commands `dcae models` and `dcae import-checkpoint`. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path

import click

from dcae.errors import one_line
from dcae.extras import require_training
from dcae.models.header import read_any_header
from dcae.models.installed import (
    DEFAULT_MODEL,
    check_model_output,
    damaged_models,
    full_name,
    install_model,
    models_read_by,
)


@click.command()
@click.option("--install", "files", metavar="FILE", multiple=True, help="Copy a model file to where models are found.")
def models(files: tuple[str, ...]) -> None:
    """List the installed models: those that code, and those that enlarge pictures."""
    for file in files:
        install_model(Path(file), read_any_header)
    found = models_read_by(read_any_header)
    newest = full_name(DEFAULT_MODEL, found)
    for name, header in found.items():
        size = header.path.stat().st_size / 2**20
        default = " (default)" if name == newest else ""
        click.echo(
            f"{name}{default}  {header.short_id.hex()}  {header.config.preset}  {size:.1f} MiB  {header.config.said()}"
        )
    for what in damaged_models():
        click.echo(f"dcae: {one_line(what)}", err=True)


@click.command("import-checkpoint")
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, help="Model file to write (.safetensors).")
@click.option("--lambda", "lambda_", type=float, help="The λ it was trained for, which checkpoints do not say.")
@click.option("--force", is_flag=True, help="Overwrite the output.")
def import_checkpoint(checkpoint: str, output: str, lambda_: float | None, force: bool) -> None:
    """Turn a published DCAE CHECKPOINT (.pth.tar) into a model file."""
    check_model_output(output, force)
    require_training()
    from dcae.models.export import export_model
    from dcae.networks.paper.importer import import_checkpoint as read

    network = read(checkpoint) if lambda_ is None else read(checkpoint, lambda_)
    record = {"imported_from": Path(checkpoint).name, "lambda": "unknown" if lambda_ is None else lambda_}
    header = export_model(network, Path(output), record, half=False, force=force)
    click.echo(f"{output}: model {header.short_id.hex()}", err=True)
