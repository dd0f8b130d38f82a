"""The upscaler that a name, a path, or the id in a `.dcae` file stands for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from dcae.errors import ModelNotFoundError
from dcae.models.header import ID_BYTES
from dcae.models.installed import models_read_by
from dcae.resize import KERNELS
from dcae.sr.models import SRHeader, find_sr_model, load_network, read_sr_header
from dcae.sr.tables.config import TableConfig
from dcae.sr.tables.tablefile import read_tables
from dcae.sr.tables.upscaler import TableUpscaler
from dcae.sr.upscalers import Interpolation, Upscaler, check_scale


def find_upscaler(name: str, scale: int, device: str = "cpu", tile: int | None = None) -> Upscaler:
    """The upscaler of a name, ready to enlarge.

    Args:
        name: a kernel of `KERNELS`, an installed model's name (with or without scale and version), or the path of a
            model file.
        device: torch device of a network.
        tile: side in pixels of the tiles that are enlarged at once, before they are; 0: pictures as a whole; None: the
            default.

    Raises:
        OptionError: a scale that it does not have, or no such device.
        ModelNotFoundError: no such name or file.
        ModelFileError: a file that is no model that enlarges, or damaged.
        MissingDependencyError: a network, and torch is not installed.
    """
    check_scale(scale)
    if name in KERNELS:
        return Interpolation(name, scale)
    return _opened(find_sr_model(name, scale), name, device, tile)


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
            return _opened(header, name, device, None)
    raise ModelNotFoundError(
        f"the file is enlarged by model {short_id.hex()}, which is not installed; put it in a folder named in "
        "DCAE_MODEL_PATH, or take the small picture with --native"
    )


def _opened(header: SRHeader, name: str, device: str, tile: int | None) -> Upscaler:
    return _loaded(header.path, header.id, isinstance(header.config, TableConfig), name, device, tile)


@lru_cache(maxsize=2)
def _loaded(path: Path, identity: str, tables: bool, name: str, device: str, tile: int | None) -> Upscaler:
    found: Upscaler
    if tables:
        found = TableUpscaler(*read_tables(path), name, tile)
    else:
        network = load_network(path, device)
        from dcae.sr.networks.upscaler import TILE, NetworkUpscaler

        found = NetworkUpscaler(network, name, TILE if tile is None else tile)
    found.short_id = bytes.fromhex(identity)[:ID_BYTES]
    return found
