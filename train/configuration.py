"""Configurations written out: all settings of a run as a TOML file with a comment for each, which `--recipe` reads."""

from __future__ import annotations

import dataclasses
import json
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dcae.errors import OptionError
from dcae.files import replacing
from dcae.train.settings import Settings

_WIDTH = 100


def write_configuration(config: Settings, path: Path) -> None:
    """Write what :func:`configuration` makes into a new file.

    Raises:
        OptionError: the file exists, or is not called as a recipe must be.
        DCAEError: it cannot be written.
    """
    if path.suffix != ".toml":
        raise OptionError(f"{path}: a recipe's name ends in .toml; give --write-config such a one")
    if os.path.lexists(path):
        raise OptionError(f"{path}: exists already; give --write-config another name")
    try:
        text = configuration(config).encode()
    except UnicodeEncodeError as error:
        raise OptionError("a setting has bytes that are no UTF-8, which TOML cannot hold; rename the file") from error
    with replacing(path) as file:
        file.write(text)


def configuration(config: Settings) -> str:
    """Text of a TOML file with every setting, its meaning, and the values of `config`.

    :func:`dcae.train.config.read_recipe` reads the same settings from it.
    """
    head = f"dcae train --task {config.task} --recipe THIS_FILE -o RUN   (options go before what stands here)"
    blocks = [f"# {head}\ntask = {_value(config.task)}"]
    for field in dataclasses.fields(config):
        if field.name != "network":
            value = getattr(config, field.name)
            name = "lambda" if field.name == "lambdas" else field.name
            # TOML has no word for a setting that is not given.
            line = f"# {name} =" if value is None else f"{name} = {_value(value)}"
            blocks.append(f"{comment(field)}\n{line}")
        else:
            network = field
    first, *others = _table("network", config.network)
    defaults = {k: v for k, v in config.network_defaults().items() if k not in config.network}
    first += "".join(f"\n# {name} = {_value(value)}" for name, value in defaults.items())
    return "\n\n".join([*blocks, f"{comment(network)}\n{first}", *others]) + "\n"


def comment(field: dataclasses.Field[Any]) -> str:
    """What a setting means, as lines of comment."""
    text = field.metadata["help"]
    if choices := field.metadata["choices"]:
        text += f" One of: {', '.join(choices)}."
    return textwrap.fill(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _table(name: str, values: Mapping[str, Any]) -> list[str]:
    """A table of TOML, with the tables in it after it."""
    lines = [f"[{name}]"] + [f"{k} = {_value(v)}" for k, v in values.items() if not isinstance(v, Mapping)]
    inner = [_table(f"{name}.{k}", v) for k, v in values.items() if isinstance(v, Mapping)]
    return ["\n".join(lines)] + [part for parts in inner for part in parts]


def _value(value: Any) -> str:
    """A value in TOML, whose basic strings are those of JSON but for the last of ASCII's signs."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
