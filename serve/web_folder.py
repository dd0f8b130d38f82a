"""The folder that a web page loads the decoder for browsers from."""

from __future__ import annotations

from pathlib import Path

from dcae.errors import DCAEError, OptionError
from dcae.files import replacing
from dcae.models.installed import DEFAULT_MODEL, find_model

MODULES = Path(__file__).with_name("web")
"""Folder of the decoder's modules, which are served as they are."""
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""Files of the npm package onnxruntime-web, of the version in `web/package.json`, that the decoder loads."""
SUFFIX = ".dcaeweb"


def web_model_name(model: str = DEFAULT_MODEL) -> str:
    """Name of the file that the decoder looks for: the id as `.dcae` files have it, so that a folder can hold several
    models, and a browser keep them for ever."""
    return find_model(model).short_id.hex() + SUFFIX


def write_web_folder(
    folder: str | Path, model: str = DEFAULT_MODEL, runtime: str | Path | None = None, force: bool = False
) -> dict[Path, int]:
    """Write the decoder's modules, a model and the runtime into a folder.

    Args:
        folder: made if it is not there.
        model: name of an installed model, or a path.
        runtime: folder `dist` of the npm package; None leaves it out.
        force: overwrite files; else those that are there are an error.

    Returns:
        the files and their sizes in bytes.

    Raises:
        ModelNotFoundError, ModelFileError: no such model, or a damaged one.
        OptionError: a file is there already or in the folder's place, a model that browsers cannot run, or no runtime
            in that folder.
        DCAEError: a file that cannot be read or written.
    """
    from dcae.serve.web_model import web_model  # which imports an engine

    folder = Path(folder)
    _check_folder(folder)
    contents = {path.name: path.read_bytes() for path in sorted(MODULES.glob("*.js"))}
    if runtime is not None:
        for name in RUNTIME:
            try:
                contents[name] = (Path(runtime) / name).read_bytes()
            except OSError as error:
                raise OptionError(f"{Path(runtime) / name}: {error.strerror}; give the folder dist of it") from error
    model_name = web_model_name(model)
    if there := [name for name in (*contents, model_name) if not force and (folder / name).exists()]:
        raise OptionError(f"{folder / there[0]}: exists already; use --force to overwrite it")
    contents[model_name] = web_model(find_model(model).path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DCAEError(f"{folder}: {error.strerror}") from error
    for name, data in contents.items():
        with replacing(folder / name) as file:
            file.write(data)
    return {folder / name: len(data) for name, data in contents.items()}


def _check_folder(folder: Path) -> None:
    """Refuse what is no folder, nor can become one."""
    first = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not first.is_dir():
        problem = "not a folder to write into" if first == folder else f"cannot be made a folder, {first} is a file"
        raise OptionError(f"{folder}: {problem}; name another, or a new one")
