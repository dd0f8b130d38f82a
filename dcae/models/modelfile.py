"""Model files: safetensors whose metadata holds one JSON header, everything that coding needs frozen inside.

=====================  ==========================================================================================
metadata `dcae`        JSON: `format` (1), `id`, `config` (with the λ of every quality), `record` (of training)
`network.*`            weights, float16 or float32; `network.entropy_bottleneck.*` only serve further training
`z_median`             (N,) float32, what ẑ is rounded relative to
`tables.y.*`           integer frequencies of the Gaussian scale table (`frequencies`, `lengths`, `offsets`)
`tables.z.*`           the same per channel of z
`exact.*`              what exact arithmetic needs beside the weights (`dcae.entropy.exact_tensors`), for `lite`
=====================  ==========================================================================================

The id is the SHA-256 over what decides decoding: the configuration and every tensor but the densities for
training. It is checked whenever a file is loaded, so that a damaged file is an error and not another model.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from dcae.entropy.tables import Tables
from dcae.errors import DCAEError, ModelFileError, OptionError
from dcae.files import replacing
from dcae.models.empty import empty_network
from dcae.networks.config import DCAEConfig
from dcae.networks.registry import config_from_dict, preset_of
from dcae.networks.scales import SCALE_LEVELS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dcae.networks.base import DCAE, EntropyModel

FORMAT = 1
ID_BYTES = 8
"""Length of the id inside a `.dcae` file; the model file has the whole hash."""
MAX_HEADER = 1 << 22
"""Largest number of bytes of a model file's header, JSON and all tensors' names; `lite` has 40 thousand."""
MAX_DIMENSIONS = 8
"""Largest number of dimensions of a tensor; NumPy has at most 32."""
MAX_NUMBERS = 1 << 40
"""Largest product of a tensor's sizes, a size of 0 taken as 1: NumPy refuses such shapes though they hold nothing."""
MAX_BRACKETS = 1 << 17
"""Largest number of lists and objects in the JSON header; reading millions of empty ones takes many seconds."""
MAX_DEPTH = 32
"""Levels of a record, its values included; Python's JSON reads deeper ones than it writes."""
MAX_MEDIAN = 1 << 14
"""Largest magnitude of a median of z."""
_TRAINING_ONLY = ("network.entropy_bottleneck.", "network.gaussian_conditional.")
_TABLE_PARTS = ("frequencies", "lengths", "offsets")


@dataclass(frozen=True)
class ModelHeader:
    """Header of a model file; reading it imports no torch."""

    path: Path
    id: str
    """SHA-256, in hex, of everything that decides decoding."""
    config: DCAEConfig
    record: dict[str, Any]
    """How it was trained: data, patches seen, hardware, date, loss."""

    @property
    def short_id(self) -> bytes:
        """The id as stored in a `.dcae` file."""
        return bytes.fromhex(self.id)[:ID_BYTES]


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


def read_header(path: Path) -> ModelHeader:
    """The header of a model file.

    Raises:
        ModelFileError: no such file, not a model file of ours, or a newer format.
    """
    with _opened(path, "numpy") as file:
        return _parse_header(path, file.metadata() or {})[0]


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:
    """A safetensors file.

    Raises:
        ModelFileError: it cannot be read, here or within the block.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("not a file")  # a pipe would block
        with open(path, "rb") as start:
            if (size := int.from_bytes(start.read(8), "little")) > MAX_HEADER:
                raise OSError(f"its header has {size} bytes, the limit is {MAX_HEADER}")
        with safe_open(path, framework=framework) as file:
            yield file
    except (OSError, SafetensorError, TypeError, AttributeError, NotImplementedError) as error:
        # The last three: a type of number that NumPy or torch does not have.
        reason = (str(error).splitlines() or ["damaged"])[0]  # torch adds its stack
        raise ModelFileError(f"{path}: not a readable model file ({reason})") from error


def _parse_header(path: Path, metadata: dict[str, str]) -> tuple[ModelHeader, dict[str, Any]]:
    """The header, and its configuration as stored: a field that a later version adds must not change the id."""
    if "dcae" not in metadata:
        raise ModelFileError(f"{path}: a safetensors file, but not a DCAE model (no `dcae` header)")
    text = metadata["dcae"]
    if text.count("[") + text.count("{") > MAX_BRACKETS:
        raise ModelFileError(
            f"{path}: a record of more than {MAX_BRACKETS} lists and objects; get the model file again"
        )
    try:
        header = json.loads(text)
        if header["format"] != FORMAT:
            found = f"{header['format']!s:.20}"
            raise ModelFileError(f"{path}: model format {found}, this version reads {FORMAT}; update dcae")
        identity, record = header["id"], header["record"]
        config = config_from_dict(header["config"])
        if not re.fullmatch("[0-9a-f]{64}", identity) or not isinstance(record, dict) or _too_deep(record):
            raise ValueError("bad id or record")
    except ModelFileError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, DCAEError) as error:
        raise ModelFileError(f"{path}: damaged model header ({error})") from error
    return ModelHeader(path, identity, config, record), header["config"]


def _too_deep(record: dict[str, Any]) -> bool:
    level: list[Any] = [record]
    for _ in range(MAX_DEPTH):
        level = [v for c in level if isinstance(c, dict | list) for v in (c.values() if isinstance(c, dict) else c)]
    return bool(level)


def load_model(path: Path, device: str = "cpu") -> CodingModel:
    """Load and verify a model file.

    Raises:
        ModelFileError: damaged (its hash differs), foreign, or incomplete.
    """
    import torch

    tensors: dict[str, Tensor] = {}
    with _opened(path, "pt") as file:
        header, config = _parse_header(path, file.metadata() or {})
        for name in file.keys():  # noqa: SIM118 (not a dict)
            if not name.startswith(_TRAINING_ONLY):
                _check_shape(path, name, file.get_slice(name).get_shape())
                tensors[name] = file.get_tensor(name)
        identity = _identity(config, tensors)
    if identity != header.id:
        raise ModelFileError(f"{path}: the contents do not match the model id; the file is damaged, get it again")

    tables = []
    try:
        for which in ("y", "z"):
            tables.append(Tables(*(tensors.pop(f"tables.{which}.{part}").numpy() for part in _TABLE_PARTS)))
        expected = {"y": SCALE_LEVELS, "z": header.config.hyper_channels}
        for (which, rows), table in zip(expected.items(), tables, strict=True):
            if len(table.lengths) != rows:
                raise ModelFileError(f"{path}: {len(table.lengths)} probability tables for {which} instead of {rows}")
        z_median = tensors.pop("z_median").to(torch.float32).reshape(1, header.config.hyper_channels, 1, 1)
        if not bool((z_median.abs() <= MAX_MEDIAN).all()):  # nor NaN
            raise ModelFileError(f"{path}: medians of z out of range")
        names = [name for name in tensors if name.startswith("exact.")]
        exact = {name.removeprefix("exact."): tensors.pop(name) for name in names}
        network = empty_network(header.config, sum(value.numel() for value in tensors.values()))
        weights = {name.removeprefix("network."): value.float() for name, value in tensors.items()}
        if odd := weights.keys() ^ network.state_dict().keys():  # torch would search every name in every module
            raise ValueError(f"{len(odd)} tensors too many or too few, among them {min(odd)!r:.100}")
        network.load_state_dict(weights, assign=True)
    except (LookupError, ArithmeticError, ValueError, RuntimeError, TypeError) as error:
        raise ModelFileError(f"{path}: does not fit its configuration ({str(error).splitlines()[0]})") from error
    try:
        return coding_model(header, network, exact, (tables[0], tables[1]), z_median, device)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error


def _check_shape(path: Path, name: str, shape: list[int]) -> None:
    """Refuse shapes that NumPy or torch cannot hold, whatever the tensor's size in bytes.

    Raises:
        ModelFileError: see above.
    """
    if len(shape) > MAX_DIMENSIONS or math.prod(max(size, 1) for size in shape) > MAX_NUMBERS:
        found = f"{len(shape)} dimensions" if len(shape) > MAX_DIMENSIONS else f"shape {shape}"
        raise ModelFileError(f"{path}: tensor {name!r:.100} has {found}, which no model has; get the model file again")


def coding_model(
    header: ModelHeader,
    network: DCAE,
    exact: dict[str, Tensor],
    tables: tuple[Tables, Tables],
    z_median: Tensor,
    device: str | torch.device,
) -> CodingModel:
    """Make a network ready to code.

    Args:
        exact: the fields of `dcae.entropy.exact_tensors.ExactTensors` for `lite`, else empty.
        tables: of y and z.

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
    return CodingModel(header, network, prior, *tables, z_median.to(device))


def _identity(config: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in sorted(tensors):
        if not name.startswith(_TRAINING_ONLY):
            array = tensors[name].contiguous().numpy()
            digest.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


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
    from safetensors.torch import save

    tensors = {f"network.{name}": value.detach().cpu().contiguous() for name, value in weights.items()}
    tensors |= {f"exact.{name}": value for name, value in exact.items()}
    tensors["z_median"] = z_median.detach().cpu().to(torch.float32).reshape(-1)
    for which, tables in (("y", tables_y), ("z", tables_z)):
        for part in _TABLE_PARTS:
            tensors[f"tables.{which}.{part}"] = torch.from_numpy(getattr(tables, part).copy())
    # Shared storage is refused by safetensors, and would be loaded twice anyway.
    tensors = {name: value.clone() for name, value in tensors.items()}
    identity = _identity(config.to_dict(), tensors)
    header = {"format": FORMAT, "id": identity, "config": config.to_dict(), "record": record}
    data = save(tensors, metadata={"dcae": json.dumps(header, sort_keys=True)})
    try:
        with replacing(path, force) as file:
            file.write(data)
    except OptionError:
        raise
    except DCAEError as error:
        raise ModelFileError(str(error)) from error
    return ModelHeader(path, identity, config, record)
