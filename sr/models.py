"""Model files of networks that enlarge pictures: written, found by name, loaded.

They are of the codec's format (`dcae/models/modelfile.py`) with the weights alone, `network.*` in float32. A shipped
one is called by preset, scale and version, `sr-small-x2-1`; `sr-small` stands for the newest of the scale asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcae.errors import ModelFileError, ModelNotFoundError, OptionError
from dcae.extras import require
from dcae.models.header import AnyHeader, read_any_header
from dcae.models.installed import full_name, model_read_by, models_read_by
from dcae.models.modelfile import write_tensors
from dcae.models.stored import read_tensors
from dcae.networks.registry import any_config, any_network_of
from dcae.sr.networks.config import SRConfig

if TYPE_CHECKING:
    from torch import Tensor

    from dcae.sr.networks.base import SRNetwork

_PREFIX = "network."


@dataclass(frozen=True)
class SRHeader(AnyHeader):
    """Header of the file of a model that enlarges pictures."""

    config: SRConfig


def read_sr_header(path: Path) -> SRHeader:
    """The header of the file of a model that enlarges pictures.

    Raises:
        ModelFileError: no such file, none of ours, cut short, of a newer format, or a model that does something else.
    """
    return _enlarging(read_any_header(path))


def _enlarging(header: AnyHeader) -> SRHeader:
    if not isinstance(header.config, SRConfig):
        raise ModelFileError(
            f"{header.path}: a model that codes ({header.config.preset}), not one that enlarges pictures"
        )
    return SRHeader(header.path, header.id, header.config, header.record)


def find_sr_model(model: str, scale: int) -> SRHeader:
    """The header of a model that enlarges by `scale`.

    Args:
        model: name of an installed one, with or without scale and version; or a path (anything with a suffix or a
            separator).

    Raises:
        ModelNotFoundError: no such name or file.
        ModelFileError: the file is no such model.
        OptionError: it has another scale.
    """
    names = models_read_by(read_sr_header)
    if full_name(f"{model}-x{scale}", names):
        model = f"{model}-x{scale}"
    try:
        header = model_read_by(model, read_sr_header)
    except ModelNotFoundError:
        scales = [name for name in names if name.startswith(f"{model}-x")]
        if not scales:
            raise
        raise ModelNotFoundError(
            f"no model named {model!r} for scale {scale}; installed: {', '.join(scales)}"
        ) from None
    if header.config.scale != scale:
        raise OptionError(f"{model} enlarges by {header.config.scale}, not by {scale}; name another scale or model")
    return header


def load_network(path: Path, device: str = "cpu") -> SRNetwork:
    """The network of a model file, verified and ready to enlarge.

    Raises:
        ModelFileError: damaged (its hash differs), foreign, or incomplete.
        MissingDependencyError: torch is not installed.
        OptionError: no such device.
    """
    require("the networks need", "torch", "torch")
    import torch

    from dcae.models.empty import empty_network
    from dcae.networks.base import check_device
    from dcae.sr.networks.base import SRNetwork

    check_device(device)
    any_header, tensors = read_tensors(path)
    header = _enlarging(any_header)
    try:
        network = empty_network(header.config, sum(value.size for value in tensors.values()))
        assert isinstance(network, SRNetwork)
        weights = {name.removeprefix(_PREFIX): torch.from_numpy(value) for name, value in tensors.items()}
        weights = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
        if odd := weights.keys() ^ network.state_dict().keys():
            raise ValueError(f"{len(odd)} tensors too many or too few, among them {min(odd)!r:.100}")
        network.load_state_dict(weights, assign=True)
    except (LookupError, ArithmeticError, ValueError, RuntimeError, TypeError) as error:
        raise ModelFileError(
            f"{path}: does not fit its configuration ({str(error).splitlines()[-1].strip()})"
        ) from error
    return network.to(device).eval().requires_grad_(False)


def new_network(values: dict[str, Any]) -> SRNetwork:
    """A network with starting values.

    Args:
        values: fields of its configuration, `preset` among them.

    Raises:
        OptionError: an unknown preset or field, or a value out of range.
        MissingDependencyError: torch is not installed.
    """
    network: Any = any_network_of(any_config(values, "sr"))
    return network


def export_network(
    config: dict[str, Any], weights: dict[str, Tensor], path: Path, record: dict[str, Any], force: bool
) -> AnyHeader:
    """Write the model file of a network as it is trained; arguments as :class:`dcae.train.families.Family` says.

    Raises:
        RuntimeError: weights that do not fit.
        ModelFileError: weights that are not finite, or a file that cannot be written.
        OptionError: it exists, and `force` is not set.
    """
    network = new_network(config)
    network.expand()
    network.load_state_dict(weights)
    network.fold()
    return write_network(network, path, record, force)


def write_network(network: SRNetwork, path: Path, record: dict[str, Any], force: bool) -> AnyHeader:
    """Write the model file of a network in the form in which it is used.

    Raises:
        ModelFileError: weights that are not finite, or a file that cannot be written.
        OptionError: it exists, and `force` is not set.
    """
    tensors = network.state_dict()
    if bad := [name for name, value in tensors.items() if not value.isfinite().all()]:
        raise ModelFileError(f"weights that are not finite: {', '.join(bad[:3])}")
    arrays = {_PREFIX + name: value.detach().cpu().numpy() for name, value in tensors.items()}
    return write_tensors(path, network.config, arrays, record, force)
