"""The commands `dcae export-web` and `dcae serve`. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dcae.errors import OptionError
from dcae.models.installed import DEFAULT_MODEL, full_name, installed_models


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


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8420, show_default=True, help="0: any that is free.")
@click.option("--open", "open_browser", is_flag=True, help="Open the page in the browser.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that code.  [default: half the cores, up to 4]")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Installed model that encodes by default.")
@click.option("--keys", type=click.Path(path_type=Path), help="File with keys; without one everybody may ask.")
@click.option("--new-key", metavar="NAME", help="Print a new key and its line for the file of keys, and end.")
@click.option("--rate", metavar="N/PERIOD", help="Requests of one key or address: 60/minute, 5/second, 1000/hour.")
@click.option("--queue", type=click.IntRange(1, 10_000), default=32, show_default=True, help="Requests that may wait.")
@click.option(
    "--connections", type=click.IntRange(1), default=64, show_default=True, help="Of one address, open at once."
)
@click.option("--max-bytes", default="64MiB", show_default=True, metavar="SIZE", help="Of a request's body.")
@click.option(
    "--max-pixels", type=click.IntRange(1), default=24 << 20, show_default=True,
    help="Of a picture, padded to multiples of 64.",
)  # fmt: skip
@click.option(
    "--max-seconds", type=click.FloatRange(0.1), default=300.0, show_default=True, help="Of work on a request."
)
@click.option(
    "--body-seconds", type=click.FloatRange(0.1), default=120.0, show_default=True, help="In which a body has to come."
)
@click.option("--memory", default="3GiB", show_default=True, metavar="SIZE", help="Of each worker, at most (Linux).")
@click.option(
    "--keep", default="1GiB", show_default=True, metavar="SIZE", help="Of results that are kept for a while, together."
)
@click.option("--cors", multiple=True, metavar="ORIGIN", help="Origin whose pages may ask; several times for several.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Name that the service is asked for under.")
@click.option("--proxy", multiple=True, metavar="ADDRESS", help="Proxy that is believed when it says who asks.")
@click.option(
    "--runtime", metavar="DIST", type=click.Path(path_type=Path),
    help="Folder `dist` of the npm package onnxruntime-web: the page decodes by itself.",
)  # fmt: skip
@click.option("--grace", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds to finish in.")
def serve(
    open_browser: bool, workers: int | None, new_key: str | None, rate: str | None, max_bytes: str, memory: str,
    keep: str, allow_host: tuple[str, ...], proxy: tuple[str, ...], runtime: Path | None, **settings: Any,
) -> None:  # fmt: skip
    """Serve a page that compares codecs, and an API, until Ctrl-C: docs/serve.md."""
    from dcae.extras import require

    require("dcae serve needs", "serve", "fastapi", "uvicorn", "prometheus_client")
    from dcae.codec.options import cores
    from dcae.codec.targets import parse_size
    from dcae.serve.service.settings import Settings, parse_rate

    if new_key is not None:
        from dcae.serve.service.keys import new_key as make

        key, line = make(new_key)
        click.echo(f"{key}\n{line}")
        click.echo("the first line is the key, shown this once; append the second to the file of --keys", err=True)
        return
    from dcae.serve.service.run import run

    if full_name(settings["model"], names := installed_models()) is None:
        raise OptionError(f"--model: no installed model is called {settings['model']!r}; there are {', '.join(names)}")
    workers = workers or max(1, min(4, cores() // 2))
    found = Settings(
        workers=workers, threads=max(1, cores() // workers), rate=None if rate is None else parse_rate(rate),
        max_bytes=parse_size(max_bytes), memory=parse_size(memory), keep_bytes=parse_size(keep), hosts=allow_host,
        proxies=",".join(proxy), runtime=runtime_of(runtime), **settings,
    )  # fmt: skip
    run(found, open_browser)


def runtime_of(folder: Path | None) -> Path | None:
    """The folder of ONNX Runtime for browsers: the one given, or what `npm install` brought into a checkout; None
    without either.

    Raises:
        OptionError: the one given does not have it.
    """
    from dcae.serve.web_folder import MODULES, RUNTIME

    wanted = folder or MODULES / "node_modules/onnxruntime-web/dist"
    lacking = [name for name in RUNTIME if not (wanted / name).is_file()]
    if folder is not None and lacking:
        raise OptionError(f"{folder / lacking[0]}: no such file; give the folder dist of onnxruntime-web")
    return None if lacking else wanted
