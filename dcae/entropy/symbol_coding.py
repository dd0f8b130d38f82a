"""What a model file says of how symbols are coded, beside the tables themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcae.entropy import y_coding, z_coding
from dcae.entropy.y_coding import YCoding
from dcae.entropy.z_coding import ZCoding
from dcae.errors import ModelFileError

NAMES = (*(f"y_{name}" for name in y_coding.NAMES), *(f"z_{name}" for name in z_coding.NAMES))
"""Tensors of a model file."""


class SymbolCoding(NamedTuple):
    """What neighbours have to say on the tables of symbols, and on what is coded."""

    y: YCoding
    z: ZCoding

    def tensors(self) -> dict[str, NDArray[np.int32]]:
        """Its tensors in a model file, :data:`NAMES`."""
        return {name: getattr(getattr(self, name[0]), name[2:]) for name in NAMES}


def plain_coding(channels: int) -> SymbolCoding:
    """Coding in which neighbours have no say, for `channels` of z."""
    return SymbolCoding(y_coding.plain_coding(), z_coding.plain_coding(channels))


def coding_of(tensors: Mapping[str, NDArray[Any]], channels: int) -> SymbolCoding:
    """What the tensors of a model file say; the plain coding's where they are missing.

    Raises:
        ModelFileError: malformed, or for another number of channels of z.
    """
    found = plain_coding(channels).tensors() | {name: tensors[name] for name in NAMES if name in tensors}
    y = YCoding(*(found[f"y_{name}"] for name in y_coding.NAMES))
    z = ZCoding(*(found[f"z_{name}"] for name in z_coding.NAMES))
    if len(z.activity) != channels:
        raise ModelFileError("the coding of z is malformed; get the model file again")
    return SymbolCoding(y, z)
