"""Models that are installed: those in the package, in the user's own folder, and in the folders of `DCAE_MODEL_PATH`.

A model that was shipped is kept, here or in the repository's `archive/`, so that its files can be decoded: its name
ends in its version, `lite-1`, and the name without one, `lite`, means the newest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import click

from dcae.errors import DCAEError, ModelFileError, ModelNotFoundError, OptionError
from dcae.files import check_output, read_bytes, replacing
from dcae.models.header import AnyHeader, ModelHeader, read_any_header, read_header

DEFAULT_MODEL = "lite"
_SUFFIX = ".safetensors"
H = TypeVar("H", bound=AnyHeader)


def model_folders() -> list[Path]:
    """Folders searched for `NAME.safetensors`, the package's own first."""
    extra = os.environ.get("DCAE_MODEL_PATH", "")
    return [Path(__file__).parent, own_folder(), *(Path(p) for p in extra.split(os.pathsep) if p)]


def own_folder() -> Path:
    """The user's folder that :func:`install_model` copies into; it need not exist."""
    return Path(click.get_app_dir("dcae")) / "models"


def install_model(path: Path, read: Callable[[Path], AnyHeader]) -> str:
    """Copy a model file into the user's folder, unless it is installed already.

    Args:
        read: as of :func:`models_read_by`.

    Returns:
        Its name.

    Raises:
        OptionError: no model file's name, or that of another installed model.
        ModelFileError, ModelNotFoundError: no model.
        DCAEError: it cannot be written.
    """
    if path.suffix != _SUFFIX:
        raise OptionError(f"{path}: model files end in {_SUFFIX}")
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: no such model file")
    header, there = read(path), models_read_by(read).get(path.stem)
    if there and there.id != header.id:
        raise OptionError(f"{path}: {there.path} is another model of this name", "rename the file")
    if not there:
        folder = own_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DCAEError(f"{folder}: {error.strerror or error}") from error
        with replacing(folder / path.name) as file:
            file.write(read_bytes(str(path)))
    return path.stem


def installed_models() -> dict[str, ModelHeader]:
    """Name -> header of every readable model that codes; a name found twice is the first folder's."""
    return models_read_by(read_header)


def models_read_by(read: Callable[[Path], H]) -> dict[str, H]:
    """Name -> header of every installed model.

    Args:
        read: gives the header of a file, or raises a ModelFileError for those that are not meant.
    """
    return dict(_each(read))


def _each(read: Callable[[Path], H], wanted: Callable[[str], object] = bool) -> Iterator[tuple[str, H]]:
    """Installed models one after the other: who stops looking imports no other kind's configuration.

    Args:
        read: as of :func:`models_read_by`.
        wanted: whether a file is read at all, by its name without suffix.
    """
    found = set()
    for folder in model_folders():
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            if path.stem in found or not wanted(path.stem):
                continue
            try:
                header = read(path)
            except ModelFileError:
                continue
            found.add(path.stem)
            yield path.stem, header


def damaged_models() -> list[str]:
    """What is wrong with each file of the model folders that is no model, or a damaged one."""
    found = []
    for folder in model_folders():
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            try:
                read_any_header(path)
            except ModelFileError as error:
                found.append(error.what)
    return found


def _damaged() -> str:
    """For advice alone: a service's clients are not told its paths."""
    return "".join(f"; {what}" for what in damaged_models())


def full_name(model: str, names: Iterable[str]) -> str | None:
    """Name that `model` stands for among the installed `names`: itself, or its highest version; None without any."""
    names = list(names)
    versions = [m for m in (re.fullmatch(re.escape(model) + r"-(\d+)", name) for name in names) if m]
    newest = max(versions, key=lambda m: int(m[1]), default=None)
    return model if model in names else newest and newest[0]


def is_path(model: str | Path) -> bool:
    """Whether what stands for a model is a file's path rather than an installed one's name."""
    return Path(model).suffix == _SUFFIX or bool(os.path.dirname(model))


def check_model_output(path: str, force: bool) -> None:
    """Refuse early a file that no model can be written to.

    Raises:
        OptionError: another suffix, or as of :func:`dcae.files.check_output`.
    """
    if Path(path).suffix != _SUFFIX:
        raise OptionError(f"{path}: model files end in {_SUFFIX}")
    check_output(path, force)


def find_model(model: str | Path) -> ModelHeader:
    """The header of a model that codes, as :func:`model_read_by` finds it."""
    return model_read_by(model, read_header)


def model_read_by(model: str | Path, read: Callable[[Path], H]) -> H:
    """The header of an installed model's name, without a version its newest, or of a path (anything with a suffix or a
    separator).

    Args:
        read: as of :func:`models_read_by`.

    Raises:
        ModelNotFoundError: no such name or file.
        ModelFileError: the file is no model, or not one that is meant.
        OptionError: neither a name nor a path.
    """
    if not isinstance(model, str | os.PathLike):
        raise OptionError(f"a model is a name or a path, got {type(model).__name__}")
    path = Path(model)
    if is_path(model):
        if not path.is_file():
            raise ModelNotFoundError(f"{path}: no such model file")
        return read(path.resolve())
    models = dict(_each(read, lambda name: full_name(str(model), [name])))
    name = full_name(str(model), models)
    if name is None:
        known = ", ".join(models_read_by(read)) or "none"
        raise ModelNotFoundError(
            f"no model named {str(model)!r}; installed: {known}", f"or give a model file's path{_damaged()}"
        )
    return models[name]


def find_model_by_id(short_id: bytes) -> ModelHeader:
    """The installed model that a `.dcae` file was written with.

    Raises:
        ModelNotFoundError: it is not installed.
    """
    for _, header in _each(read_header):
        if header.short_id == short_id:
            return header
    raise ModelNotFoundError(
        f"the file needs model {short_id.hex()}, which is not installed",
        f"pass its file with --model, or install it with `dcae models --install FILE`{_damaged()}",
    )
