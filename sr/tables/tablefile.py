"""Table files: safetensors with one JSON header, whose tensors `layout.tensor_layouts` lists.

======================  =======================================================================================
metadata `dcae-tables`  JSON: `format` (1), `id`, `config` (:class:`dcae.sr.tables.config.TableConfig`), `record`
`tables.SLOT`           int8 (entries, outputs); with DFC `tables.SLOT.diagonal` and `tables.SLOT.coarse`
`samplers.SLOT`         int32 (4, k, k), weights of AutoSample in units of 2^-24
`residuals.SLOT`        int32 (4,), shares of the earlier map (AdaRL) in units of 2^-24
======================  =======================================================================================

SLOT is `stageS.channelC.unitU`. The id is the SHA-256 of what decides the enlarged pixels: the configuration and all
tensors. Nothing is allocated before every type and shape has been found to be the configuration's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcae.errors import DCAEError, ModelFileError, OptionError
from dcae.files import replacing
from dcae.models.header import damaged_header, header_fields
from dcae.models.stored import identity, opened
from dcae.sr.tables.config import TableConfig
from dcae.sr.tables.layout import WEIGHT_BITS, table_bytes, tensor_layouts

FORMAT = 1
KEY = "dcae-tables"
MAX_BYTES = 1 << 26
"""Largest number of bytes of a network's tables; SPF-LUT at x4 has 18 million."""
_KINDS = {"I8": "int8", "I32": "int32"}


@dataclass(frozen=True)
class TableHeader:
    """Header of a table file."""

    path: Path
    id: str
    """SHA-256, in hex, of everything that decides enlarged pixels."""
    config: TableConfig
    record: dict[str, Any]
    """How it was trained, or where it comes from."""


def read_tables(path: Path) -> tuple[TableHeader, dict[str, NDArray[Any]]]:
    """The header and tensors of a table file, verified.

    Raises:
        ModelFileError: no such file, foreign, damaged (its hash differs), too large, or incomplete.
    """
    with opened(path) as file:
        header, stored = _header(path, file.metadata() or {})
        wanted = tensor_layouts(header.config)
        if odd := set(file.keys()) ^ wanted.keys():
            raise ModelFileError(f"{path}: {len(odd)} tensors too many or too few, among them {min(odd)!r:.100}")
        for name, layout in wanted.items():
            part = file.get_slice(name)
            kind, shape = _KINDS.get(part.get_dtype(), part.get_dtype()), tuple(part.get_shape())
            if (kind, shape) != layout:
                raise ModelFileError(
                    f"{path}: {name} is {kind} {shape!s:.60}, its configuration says {layout.dtype} {layout.shape}"
                )
        tensors = {name: file.get_tensor(name) for name in wanted}
    if identity(stored, tensors) != header.id:
        raise ModelFileError(f"{path}: the contents do not match the model id; the file is damaged, get it again")
    check_weights(path, tensors)
    return header, tensors


def read_table_header(path: Path) -> TableHeader:
    """The header of a table file; its tensors are not looked at.

    Raises:
        ModelFileError: no such file, or no table file.
    """
    with opened(path) as file:
        return _header(path, file.metadata() or {})[0]


def _header(path: Path, metadata: dict[str, str]) -> tuple[TableHeader, Any]:
    if KEY not in metadata:
        raise ModelFileError(f"{path}: a safetensors file, but not one of DCAE's tables (no `{KEY}` header)")
    fields = header_fields(path, metadata[KEY], FORMAT)
    try:
        config = TableConfig.from_dict(fields.config)
    except (ValueError, TypeError, RecursionError, DCAEError) as error:
        raise damaged_header(path, error) from error
    if (size := table_bytes(config)) > MAX_BYTES:
        raise ModelFileError(f"{path}: tables of {size} bytes, the limit is {MAX_BYTES}")
    return TableHeader(path, fields.id, config, fields.record), fields.config


def check_weights(path: Path, tensors: dict[str, NDArray[Any]]) -> None:
    """Refuse weights of samplers that are no means, and shares that are none.

    Raises:
        ModelFileError: there are some.
    """
    one = 1 << WEIGHT_BITS
    for name, value in tensors.items():
        sums = value.reshape(len(value), -1).sum(1, dtype=np.int64) if name.startswith("samplers.") else np.array([one])
        positive = name.startswith("tables.") or bool((value >= 0).all() and (value <= one).all())
        if not positive or (sums != one).any():
            raise ModelFileError(f"{path}: {name} has weights that are no shares of {one}")


def write_tables(
    path: Path, config: TableConfig, tensors: dict[str, NDArray[Any]], record: dict[str, Any], force: bool = True
) -> TableHeader:
    """Write a table file, replacing `path` only once it is whole.

    Args:
        tensors: as :func:`dcae.sr.tables.layout.tensor_layouts` lists them.
        record: JSON-serialisable.
        force: overwrite a file of that name.

    Raises:
        ModelFileError: tensors that do not fit the configuration, or a file that cannot be written.
        OptionError: it exists, and `force` is not set.
    """
    from safetensors.numpy import save

    found = {name: (str(value.dtype), value.shape) for name, value in tensors.items()}
    if found != {name: tuple(layout) for name, layout in tensor_layouts(config).items()}:
        raise ModelFileError(f"{path}: tables that do not fit their configuration")
    check_weights(path, tensors)
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    header = {
        "format": FORMAT, "id": identity(config.to_dict(), tensors), "config": config.to_dict(), "record": record,
    }  # fmt: skip
    data = save(tensors, metadata={KEY: json.dumps(header, sort_keys=True)})
    try:
        with replacing(path, force) as file:
            file.write(data)
    except OptionError:
        raise
    except DCAEError as error:
        raise ModelFileError(str(error)) from error
    return TableHeader(path, header["id"], config, record)
