"""Files of tables: model files of the codec's format (`dcae/models/modelfile.py`) with other tensors.

==================  =======================================================================================
`tables.SLOT`       int8 (entries, outputs); with DFC `tables.SLOT.diagonal` and `tables.SLOT.coarse`
`samplers.SLOT`     int32 (4, k, k), weights of AutoSample in units of 2^-24
`residuals.SLOT`    int32 (4,), shares of the earlier map (AdaRL) in units of 2^-24
==================  =======================================================================================

SLOT is `stageS.channelC.unitU`. Nothing is allocated before every type and shape has been found to be what the
configuration says (:func:`dcae.sr.tables.layout.tensor_layouts`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcae.errors import ModelFileError
from dcae.models.header import AnyHeader, parse_header
from dcae.models.modelfile import write_tensors
from dcae.models.stored import identity, opened
from dcae.sr.tables.config import TableConfig
from dcae.sr.tables.layout import WEIGHT_BITS, table_bytes, tensor_layouts

MAX_BYTES = 1 << 26
"""Largest number of bytes of a network's tables; SPF-LUT at x4 has 18 million."""
_KINDS = {"I8": "int8", "I32": "int32"}


@dataclass(frozen=True)
class TableHeader(AnyHeader):
    """Header of a file of tables."""

    config: TableConfig


def read_tables(path: Path) -> tuple[TableHeader, dict[str, NDArray[Any]]]:
    """The header and tensors of a file of tables, verified.

    Raises:
        ModelFileError: no such file, foreign, damaged (its hash differs), too large, or incomplete.
    """
    with opened(path) as file:
        any_header, stored = parse_header(path, file.metadata() or {})
        header = _of_tables(any_header)
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


def _of_tables(header: AnyHeader) -> TableHeader:
    """The header as that of tables.

    Raises:
        ModelFileError: it is another model's, or its tables would be too large.
    """
    if not isinstance(header.config, TableConfig):
        raise ModelFileError(f"{header.path}: a model ({header.config.preset}), but not one of tables")
    if (size := table_bytes(header.config)) > MAX_BYTES:
        raise ModelFileError(f"{header.path}: tables of {size} bytes, the limit is {MAX_BYTES}")
    return TableHeader(header.path, header.id, header.config, header.record)


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
    """Write a file of tables, replacing `path` only once it is whole.

    Args:
        tensors: as :func:`dcae.sr.tables.layout.tensor_layouts` lists them.
        record: JSON-serialisable.
        force: overwrite a file of that name.

    Raises:
        ModelFileError: tensors that do not fit the configuration, or a file that cannot be written.
        OptionError: it exists, and `force` is not set.
    """
    found = {name: (str(value.dtype), value.shape) for name, value in tensors.items()}
    if found != {name: tuple(layout) for name, layout in tensor_layouts(config).items()}:
        raise ModelFileError(f"{path}: tables that do not fit their configuration")
    check_weights(path, tensors)
    return _of_tables(write_tensors(path, config, tensors, record, force))
