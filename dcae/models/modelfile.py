"""Model files: safetensors whose metadata holds one JSON header, everything that coding needs frozen inside.

=====================  ==========================================================================================
metadata `dcae`        JSON: `format` (1), `id`, `config` (with the λ of every quality), `record` (of training)
`network.*`            weights, float16 or float32; `network.entropy_bottleneck.*` only serve further training
`z_median`             (N,) float32, what ẑ is rounded relative to
`z_prediction`, ...    int32, the fields of `dcae.entropy.z_coding.ZCoding`; without them z is coded as it is
`tables.y.*`           integer frequencies per level of the scale table (`frequencies`, `lengths`, `offsets`)
`tables.z.*`           the same per channel of z, for each of its sets of tables
`exact.*`              what exact arithmetic needs beside the weights (`dcae.entropy.exact_bounds`), for `lite`
=====================  ==========================================================================================

The id is the SHA-256 over what decides decoding: the configuration and every tensor but the densities for
training. It is checked whenever a file is loaded, so that a damaged file is an error and not another model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from dcae.entropy.tables import Tables
from dcae.entropy.z_coding import NAMES, ZCoding, plain_coding
from dcae.errors import DCAEError, ModelFileError, OptionError
from dcae.extras import require
from dcae.files import replacing
from dcae.models.empty import empty_network
from dcae.models.header import FORMAT, AnyHeader, ModelHeader, coding_header, read_header
from dcae.models.stored import TABLE_PARTS, identity, read_model
from dcae.networks.config import DCAEConfig, NetworkConfig
from dcae.networks.registry import preset_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dcae.networks.base import DCAE
    from dcae.networks.steps import EntropyModel

__all__ = ["CodingModel", "ModelHeader", "coding_model", "load_model", "read_header", "write_model", "write_tensors"]


@dataclass
class CodingModel:
    """A loaded model, ready to code: network in eval mode, integer tables, medians of z."""

    header: ModelHeader
    network: DCAE
    prior: EntropyModel
    """Entropy model: the exact one where the preset has it, else the network itself."""
    tables_y: Tables
    tables_z: Tables
    z_median: Tensor
    """(1, N, 1, 1) float32 on the network's device."""
    z_coding: ZCoding


def load_model(path: Path, device: str = "cpu") -> CodingModel:
    """Load and verify a model file.

    Raises:
        ModelFileError: damaged (its hash differs), foreign, or incomplete.
        MissingDependencyError: torch is not installed.
    """
    require("the networks need", "torch", "torch")
    import torch

    from dcae.networks.base import DCAE

    stored = read_model(path)
    config = stored.header.config
    try:
        network = empty_network(config, sum(value.size for value in stored.weights.values()))
        assert isinstance(network, DCAE)
        weights = {name: torch.from_numpy(value).float() for name, value in stored.weights.items()}
        if odd := weights.keys() ^ network.state_dict().keys():  # torch would search every name in every module
            raise ValueError(f"{len(odd)} tensors too many or too few, among them {min(odd)!r:.100}")
        network.load_state_dict(weights, assign=True)
        exact = {name: torch.from_numpy(value) for name, value in stored.exact.items()}
    except (LookupError, ArithmeticError, ValueError, RuntimeError, TypeError) as error:
        raise ModelFileError(f"{path}: does not fit its configuration ({str(error).splitlines()[0]})") from error
    tables = stored.tables_y, stored.tables_z
    try:
        median = torch.from_numpy(stored.z_median)
        return coding_model(stored.header, network, exact, tables, median, device, stored.z_coding)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error


def coding_model(
    header: ModelHeader,
    network: DCAE,
    exact: dict[str, Tensor],
    tables: tuple[Tables, Tables],
    z_median: Tensor,
    device: str | torch.device,
    z_coding: ZCoding | None = None,
) -> CodingModel:
    """Make a network ready to code.

    Args:
        exact: the fields of `dcae.entropy.exact_tensors.ExactTensors` for `lite`, else empty.
        tables: of y and z.
        z_coding: None where neighbours have no say.

    Raises:
        ModelFileError: `exact` is incomplete, or the weights do not fit it.
    """
    import torch

    from dcae.entropy.exact import ExactEntropyModel
    from dcae.entropy.exact_tensors import ExactTensors
    from dcae.networks.exact_ready import ExactReady

    network = network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    network.prepare_for_coding()
    prior: EntropyModel = network
    if preset_of(network.config).exact:
        assert isinstance(network, ExactReady)
        if set(exact) != set(ExactTensors._fields):
            raise ModelFileError("made before `lite` had exact arithmetic, or incomplete; export it again")
        prior = ExactEntropyModel(network, ExactTensors(**exact))
        if not bool((z_median * network.latent_grid == (z_median * network.latent_grid).round()).all()):
            raise ModelFileError("medians of z that are not on their grid")
    elif exact:
        raise ModelFileError(f"exact arithmetic for {header.config.preset}, which has none")
    z_coding = z_coding or plain_coding(header.config.hyper_channels)
    return CodingModel(header, network, prior, *tables, z_median.to(device), z_coding)


def write_model(
    path: Path,
    config: DCAEConfig,
    weights: dict[str, Tensor],
    tables_y: Tables,
    tables_z: Tables,
    z_median: Tensor,
    record: dict[str, Any],
    exact: dict[str, Tensor],
    force: bool = True,
) -> ModelHeader:
    """Write a model file, replacing `path` only once it is whole.

    Args:
        weights: state dict of the network, in the precision to store.
        z_median: (N,).
        force: overwrite a file of that name.

    Raises:
        ModelFileError: it cannot be written.
        OptionError: it exists, and `force` is not set.
    """
    import torch

    tensors = {f"network.{name}": value.detach().cpu().contiguous() for name, value in weights.items()}
    tensors |= {f"exact.{name}": value for name, value in exact.items()}
    tensors["z_median"] = z_median.detach().cpu().to(torch.float32).reshape(-1)
    for which, tables in (("y", tables_y), ("z", tables_z)):
        for part in TABLE_PARTS:
            tensors[f"tables.{which}.{part}"] = torch.from_numpy(getattr(tables, part).copy())
    arrays = {name: value.contiguous().numpy() for name, value in tensors.items()}
    return coding_header(write_tensors(path, config, arrays, record, force))


def with_tables(
    model: Path,
    tables_y: Tables,
    tables_z: Tables,
    z_coding: ZCoding,
    record: dict[str, Any],
    path: Path,
    force: bool = True,
) -> ModelHeader:
    """Write a model file anew with other probability tables and another coding of z.

    Args:
        model: file that all else is taken from.
        record: joined to that file's.
        path: of the file to be written.
        force: overwrite a file of that name.

    Raises:
        ModelFileError: `model` is damaged, or the other cannot be written.
        OptionError: it exists, and `force` is not set.
    """
    from safetensors.numpy import load_file

    header = read_model(model).header
    tensors = load_file(model)
    for which, tables in (("y", tables_y), ("z", tables_z)):
        tensors |= {f"tables.{which}.{part}": getattr(tables, part) for part in TABLE_PARTS}
    tensors |= {f"z_{name}": getattr(z_coding, name) for name in NAMES}
    return coding_header(write_tensors(path, header.config, tensors, header.record | record, force))


def write_tensors(
    path: Path, config: NetworkConfig, tensors: dict[str, NDArray[Any]], record: dict[str, Any], force: bool = True
) -> AnyHeader:
    """Write the file of a model of whatever task, replacing `path` only once it is whole.

    Args:
        tensors: everything that decides what the model makes of a picture, by name, in the type to store.
        record: how it was trained, JSON-serialisable.
        force: overwrite a file of that name.

    Raises:
        ModelFileError: it cannot be written.
        OptionError: it exists, and `force` is not set.
    """
    # Copied, since arrays of one memory would be written wrongly.
    tensors = {name: np.array(value, order="C") for name, value in tensors.items()}
    found = identity(config.to_dict(), tensors)
    header = {"format": FORMAT, "id": found, "config": config.to_dict(), "record": record}
    data = save(tensors, metadata={"dcae": json.dumps(header, sort_keys=True)})
    try:
        with replacing(path, force) as file:
            file.write(data)
    except OptionError:
        raise
    except DCAEError as error:
        raise ModelFileError(str(error)) from error
    return AnyHeader(path, found, config, record)
