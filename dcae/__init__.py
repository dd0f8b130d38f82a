"""DCAE: a learned image codec.

`encode` and `decode` turn pictures into `.dcae` bytes and back with the installed default model, `info` says what a
file is; `Codec` keeps a model loaded; `register_pillow` teaches Pillow the format; `build_model` gives the networks.
Importing the package imports neither torch nor anything heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dcae.errors import DCAEError

if TYPE_CHECKING:
    from dcae.codec.api import decode, encode, info
    from dcae.codec.codec import Codec
    from dcae.codec.plugin import register_pillow
    from dcae.networks.registry import build_model

__version__ = "0.1.0"
__all__ = ["Codec", "DCAEError", "build_model", "decode", "encode", "info", "register_pillow"]

_LAZY = {
    "Codec": "dcae.codec.codec:Codec",
    "build_model": "dcae.networks.registry:build_model",
    "decode": "dcae.codec.api:decode",
    "encode": "dcae.codec.api:encode",
    "info": "dcae.codec.api:info",
    "register_pillow": "dcae.codec.plugin:register_pillow",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from pkgutil import resolve_name

        return resolve_name(_LAZY[name])
    raise AttributeError(f"module 'dcae' has no attribute {name!r}")
