"""Reading of model files, whose format `modelfile.py` describes, as arrays: what every engine starts from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from dcae.entropy.tables import Tables
from dcae.entropy.z_coding import NAMES, ZCoding, plain_coding
from dcae.errors import ModelFileError
from dcae.models.header import AnyHeader, ModelHeader, coding_header, parse_header, safetensors_header, unreadable
from dcae.networks.scales import SCALE_LEVELS

MAX_DIMENSIONS = 8
"""Largest number of dimensions of a tensor; NumPy has at most 32."""
MAX_NUMBERS = 1 << 40
"""Largest product of a tensor's sizes, a size of 0 taken as 1: NumPy refuses such shapes though they hold nothing."""
MAX_MEDIAN = 1 << 14
"""Largest magnitude of a median of z."""
TRAINING_ONLY = ("network.entropy_bottleneck.", "network.gaussian_conditional.")
TABLE_PARTS = ("frequencies", "lengths", "offsets")


@dataclass
class StoredModel:
    """Contents of a model file, checked as far as they are the same for every network."""

    header: ModelHeader
    weights: dict[str, NDArray[Any]]
    """Weights of the network by name, as they are stored."""
    exact: dict[str, NDArray[Any]]
    """Fields of `dcae.entropy.exact_bounds.ExactArrays`, or none."""
    tables_y: Tables
    tables_z: Tables
    z_median: NDArray[np.float32]
    """(1, N, 1, 1)."""
    z_coding: ZCoding


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file.

    Raises:
        ModelFileError: it cannot be read, here or within the block.
    """
    safetensors_header(path)
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (OSError, SafetensorError, TypeError, AttributeError, NotImplementedError) as error:
        # The last three: a type of number that NumPy does not have.
        raise unreadable(path, error) from error


def read_tensors(path: Path) -> tuple[AnyHeader, dict[str, NDArray[Any]]]:
    """Header and tensors of a model file, whatever its network is for, verified.

    Raises:
        ModelFileError: damaged (its hash differs) or foreign.
    """
    tensors: dict[str, NDArray[Any]] = {}
    with opened(path) as file:
        header, config = parse_header(path, file.metadata() or {})
        for name in file.keys():  # noqa: SIM118 (not a dict)
            if not name.startswith(TRAINING_ONLY):
                _check_shape(path, name, file.get_slice(name).get_shape())
                tensors[name] = file.get_tensor(name)
                if tensors[name].dtype.kind not in "fiu":  # bfloat16, where a library has taught it to NumPy
                    raise TypeError(f"{name} has numbers of type {tensors[name].dtype}")
        found = identity(config, tensors)
    if found != header.id:
        raise ModelFileError(f"{path}: the contents do not match the model id; the file is damaged, get it again")
    return header, tensors


def read_model(path: Path) -> StoredModel:
    """The contents of the file of a model that codes, verified.

    Raises:
        ModelFileError: damaged (its hash differs), foreign, incomplete, or a model that does not code.
    """
    any_header, tensors = read_tensors(path)
    header = coding_header(any_header)
    tables = []
    try:
        for which in ("y", "z"):
            tables.append(Tables(*(tensors.pop(f"tables.{which}.{part}") for part in TABLE_PARTS)))
        z_coding = _z_coding(tensors, header.config.hyper_channels)
        expected = {"y": SCALE_LEVELS, "z": z_coding.sets * header.config.hyper_channels}
        for (which, rows), table in zip(expected.items(), tables, strict=True):
            if len(table.lengths) != rows:
                raise ModelFileError(f"{path}: {len(table.lengths)} probability tables for {which} instead of {rows}")
        z_median = tensors.pop("z_median").astype(np.float32).reshape(1, header.config.hyper_channels, 1, 1)
        if not bool((abs(z_median) <= MAX_MEDIAN).all()):  # nor NaN
            raise ModelFileError(f"{path}: medians of z out of range")
    except (LookupError, ArithmeticError, ValueError, TypeError) as error:
        raise ModelFileError(f"{path}: does not fit its configuration ({str(error).splitlines()[0]})") from error
    exact = {name: tensors.pop(name) for name in list(tensors) if name.startswith("exact.")}
    return StoredModel(
        header,
        {name.removeprefix("network."): value for name, value in tensors.items()},
        {name.removeprefix("exact."): value for name, value in exact.items()},
        tables[0],
        tables[1],
        z_median,
        z_coding,
    )


def _z_coding(tensors: dict[str, NDArray[Any]], channels: int) -> ZCoding:
    """What the tensors say of the coding of z, taken out of them."""
    plain = plain_coding(channels)
    found = ZCoding(*(tensors.pop(f"z_{name}", getattr(plain, name)) for name in NAMES))
    if len(found.activity) != channels:
        raise ModelFileError("the coding of z is malformed; get the model file again")
    return found


def _check_shape(path: Path, name: str, shape: list[int]) -> None:
    """Refuse shapes that NumPy cannot hold, whatever the tensor's size in bytes.

    Raises:
        ModelFileError: see above.
    """
    if len(shape) > MAX_DIMENSIONS or math.prod(max(size, 1) for size in shape) > MAX_NUMBERS:
        found = f"{len(shape)} dimensions" if len(shape) > MAX_DIMENSIONS else f"shape {shape}"
        raise ModelFileError(f"{path}: tensor {name!r:.100} has {found}, which no model has; get the model file again")


def identity(config: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> str:
    """The id of a model: SHA-256, in hex, of what decides what it makes of a picture."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in sorted(tensors):
        if not name.startswith(TRAINING_ONLY):
            array = np.ascontiguousarray(tensors[name]).reshape(tensors[name].shape)
            digest.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
            digest.update(array)
    return digest.hexdigest()
