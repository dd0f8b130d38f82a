"""The command `dcae export-web`. Heavy imports happen inside."""

from __future__ import annotations

import click

from dcae.models.installed import DEFAULT_MODEL


@click.command("export-web")
@click.option("-o", "--output", required=True, help="Folder to write into; it is made if it is not there.")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Model that is written, a name or a path.")
@click.option(
    "--runtime", metavar="DIST", help="Folder `dist` of the npm package onnxruntime-web, to copy what is used of it."
)
@click.option("--force", is_flag=True, help="Overwrite files.")
def export_web(output: str, model: str, runtime: str | None, force: bool) -> None:
    """Write what a web page needs to show .dcae files, to be served as it is: decoder, model, ONNX Runtime.

    Further models can be written into the same folder, with --force; files name the one that they need.
    """
    from dcae.serve.web_folder import write_web_folder

    for path, size in write_web_folder(output, model, runtime, force).items():
        click.echo(f"{path}: {size} bytes", err=True)
    if runtime is None:
        click.echo("ONNX Runtime is not among them: give --runtime, or put its two files beside them", err=True)
