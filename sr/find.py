"""The upscaler that a name, a path, or the id in a `.dcae` file stands for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from dcae.errors import ModelNotFoundError, OptionError
from dcae.models.header import ID_BYTES
from dcae.models.installed import is_path, models_read_by
from dcae.resize import KERNELS
from dcae.sr.memory import Limits
from dcae.sr.models import SRHeader, find_sr_model, load_network, read_sr_header
from dcae.sr.tables.config import TableConfig
from dcae.sr.tables.tablefile import read_tables
from dcae.sr.tables.upscaler import TableUpscaler
from dcae.sr.upscalers import Interpolation, Upscaler, check_scale

_DEFAULT = "tables"
"""What enlarges unless the caller says otherwise, where there is one of the scale; they need no torch, and make the
same pixels on every machine."""


class Found(NamedTuple):
    """What a name stands for, before it is loaded."""

    name: str
    """Of a kernel, of an installed model with its scale and version, or the path of a file."""
    header: SRHeader | None
    """Of a model; None for kernels."""

    @property
    def reference(self) -> str:
        """Name or path that stands for the same."""
        return self.name if self.header is None else str(self.header.path)

    @property
    def is_network(self) -> bool:
        """Whether torch runs it."""
        return self.header is not None and not isinstance(self.header.config, TableConfig)

    def check(self, device: str, tiled: bool) -> None:
        """Refuse settings that would do nothing.

        Args:
            device: that was asked for.
            tiled: whether something was asked for about tiles.

        Raises:
            OptionError: another device than the processor for what only runs there, or tiles of a kernel.
        """
        if device != "cpu" and not self.is_network:
            raise OptionError(f"{self.name} runs on the CPU", f"leave out --device {device}")
        if tiled and self.header is None:
            raise OptionError(f"{self.name} has no tiles", "leave out --tile and --memory")


def look_up(name: str | None, scale: int) -> Found:
    """What enlarges by `scale` under a name.

    Args:
        name: a kernel of `KERNELS`, an installed model's name (with or without scale and version), or the path of a
            model file; None: the newest installed tables of this scale, and where there are none "bicubic".

    Raises:
        OptionError: a scale that it does not have.
        ModelNotFoundError: no such name or file.
        ModelFileError: a file that is no model that enlarges.
    """
    check_scale(scale)
    if name is None:
        try:
            return look_up(_DEFAULT, scale)
        except ModelNotFoundError:
            return Found("bicubic", None)
    if name in KERNELS:
        return Found(name, None)
    header = find_sr_model(name, scale)
    return Found(name if is_path(name) else header.path.stem, header)


def find_upscaler(
    name: str | None, scale: int, device: str = "cpu", tile: int | None = None, limits: Limits | None = None
) -> Upscaler:
    """The upscaler of a name, ready to enlarge.

    Args:
        name: as of :func:`look_up`.
        device: torch device of a network.
        tile: side in pixels of the tiles that are enlarged at once, before they are; 0: pictures as a whole; None: what
            memory has room for, up to the default.
        limits: on memory, where no tile is given.

    Raises:
        OptionError, ModelNotFoundError: as of :func:`look_up`, or no such device.
        ModelFileError: a file that is no model that enlarges, or damaged.
        MissingDependencyError: a network, and torch is not installed.
    """
    found = look_up(name, scale)
    found.check(device, tile is not None)
    return _opened(found, scale, device, tile, limits or Limits())


def find_upscalers(names: Sequence[str], scale: int, device: str = "cpu") -> list[Upscaler]:
    """The upscalers of several names, each once, the networks among them on a device; arguments and errors as of
    :func:`find_upscaler`.

    Raises:
        OptionError: another device than the processor, and none of them is a network.
    """
    found = list({each.name: each for each in (look_up(name, scale) for name in names)}.values())
    if device != "cpu" and not any(each.is_network for each in found):
        listed = ", ".join(each.name for each in found)
        raise OptionError(f"none of {listed} is a network", f"leave out --device {device}")
    return [_opened(each, scale, device if each.is_network else "cpu", None, Limits()) for each in found]


def find_upscaler_by_id(short_id: bytes, device: str = "cpu") -> Upscaler:
    """The installed upscaler that a `.dcae` file names.

    Args:
        short_id: first 8 bytes of the model's id.
        device: torch device of a network.

    Raises:
        ModelNotFoundError: it is not installed.
        ModelFileError: its file is damaged.
        MissingDependencyError: a network, and torch is not installed.
    """
    for name, header in models_read_by(read_sr_header).items():
        if header.short_id == short_id:
            return _opened(Found(name, header), header.config.scale, device, None, Limits())
    raise ModelNotFoundError(
        f"the file is enlarged by model {short_id.hex()}, which is not installed",
        "put it in a folder named in DCAE_MODEL_PATH, or take the small picture with --native",
    )


def _opened(found: Found, scale: int, device: str, tile: int | None, limits: Limits) -> Upscaler:
    header = found.header
    if header is None:
        return Interpolation(found.name, scale)
    return _loaded(header.path, header.id, found.is_network, found.name, device, tile, limits)


@lru_cache(maxsize=2)  # batches ask for the same one with every file
def _loaded(
    path: Path, identity: str, network: bool, name: str, device: str, tile: int | None, limits: Limits
) -> Upscaler:
    found: Upscaler
    if network:
        loaded = load_network(path, device)
        loaded.merge()
        from dcae.sr.networks.upscaler import NetworkUpscaler

        found = NetworkUpscaler(loaded, name, tile, limits)
    else:
        found = TableUpscaler(*read_tables(path), name, tile, limits)
    found.short_id = bytes.fromhex(identity)[:ID_BYTES]
    return found
