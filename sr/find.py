"""The upscaler that a name or path stands for."""

from __future__ import annotations

from dcae.resize import KERNELS
from dcae.sr.models import find_sr_model, load_network
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
    header = find_sr_model(name, scale)
    if isinstance(header.config, TableConfig):
        return TableUpscaler(*read_tables(header.path), name, tile)
    network = load_network(header.path, device)
    from dcae.sr.networks.upscaler import TILE, NetworkUpscaler

    return NetworkUpscaler(network, name, TILE if tile is None else tile)
