"""Which models are there: those in the package, and those in the folders of `DCAE_MODEL_PATH`."""

from __future__ import annotations

import os
from pathlib import Path

from dcae.errors import ModelFileError, ModelNotFoundError
from dcae.models.modelfile import ModelHeader, read_header

DEFAULT_MODEL = "lite"
_SUFFIX = ".safetensors"


def model_folders() -> list[Path]:
    """Folders searched for `NAME.safetensors`, the package's own first."""
    extra = os.environ.get("DCAE_MODEL_PATH", "")
    return [Path(__file__).parent, *(Path(p) for p in extra.split(os.pathsep) if p)]


def installed_models() -> dict[str, ModelHeader]:
    """Name -> header of every readable model; a name found twice is the first folder's."""
    found: dict[str, ModelHeader] = {}
    for folder in model_folders():
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            try:
                found.setdefault(path.stem, read_header(path))
            except ModelFileError:
                continue
    return found


def find_model(model: str | Path) -> ModelHeader:
    """The header of an installed model's name, or of a path (anything with a suffix or a separator).

    Raises:
        ModelNotFoundError: no such name or file.
        ModelFileError: the file is no model.
    """
    path = Path(model)
    if path.suffix == _SUFFIX or os.path.dirname(model):
        if not path.is_file():
            raise ModelNotFoundError(f"{path}: no such model file")
        return read_header(path.resolve())
    models = installed_models()
    if str(model) not in models:
        raise ModelNotFoundError(
            f"no model named {str(model)!r}; installed: {', '.join(models) or 'none'} (or give a model file's path)"
        )
    return models[str(model)]


def find_model_by_id(short_id: bytes) -> ModelHeader:
    """The installed model that a `.dcae` file was written with.

    Raises:
        ModelNotFoundError: it is not installed.
    """
    for header in installed_models().values():
        if header.short_id == short_id:
            return header
    raise ModelNotFoundError(
        f"the file needs model {short_id.hex()}, which is not installed; pass its file with --model, "
        "or put it in a folder named in DCAE_MODEL_PATH"
    )
