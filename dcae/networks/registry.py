"""The presets: one entry for each, from its name to its configuration, its network, and what it can do.

Nobody else asks which preset a model is of. Importing this imports neither torch nor any network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from dcae.checks import check_choice, check_names
from dcae.errors import OptionError
from dcae.extras import require
from dcae.networks.config import DCAEConfig, NetworkConfig

if TYPE_CHECKING:
    from torch import nn

    from dcae.networks.base import DCAE


@dataclass(frozen=True)
class Preset:
    """A kind of network. Types are named as `module:name`, and imported when they are asked for."""

    name: str
    """Name of the preset in configurations, on the command line and in model files."""
    config: str
    """Type of its configuration, a :class:`NetworkConfig`; a :class:`DCAEConfig` if it codes."""
    network: str
    """Type of its network, made of a configuration; a :class:`DCAE` if it codes."""
    task: str = "codec"
    """How it is trained, see `dcae/train/families.py`: "codec"; "sr" and "tables" enlarge pictures."""
    exact: bool = False
    """Whether its entropy model has an exact integer form (`dcae/networks/exact_ready.py`), which coding then uses."""
    graphs: str = ""
    """Module that builds its graphs for ONNX Runtime, see `dcae/networks/lite/graphs.py`; "" where there is none."""
    search: str = ""
    """Module that builds the graphs of the encoder's search, see `dcae/networks/lite/graph_search.py`, wherever there
    are `graphs`."""
    reach: str = ""
    """Module that knows the reach of its layers, see `dcae/networks/lite/reach.py`; "" where pictures are only taken
    whole."""
    effort: int = 0
    """How long encoding searches by default, see `dcae/codec/effort.py`; docs/effort.md says why."""
    portable: bool = False
    """Whether its entropy model may be evaluated in float64 instead, for files that other machines shall read."""


_PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "lite",
            "dcae.networks.lite.config:LiteConfig",
            "dcae.networks.lite.wiring:LiteDCAE",
            exact=True,
            graphs="dcae.networks.lite.graphs",
            search="dcae.networks.lite.graph_search",
            reach="dcae.networks.lite.reach",
            effort=2,
        ),
        Preset(
            "paper", "dcae.networks.paper.config:PaperConfig", "dcae.networks.paper.wiring:PaperDCAE", portable=True
        ),
        Preset("sr-small", "dcae.sr.networks.config:SmallConfig", "dcae.sr.networks.small:SmallUpscaler", task="sr"),
        Preset("srresnet", "dcae.sr.networks.config:SRResNetConfig", "dcae.sr.networks.srresnet:SRResNet", task="sr"),
        Preset("drct", "dcae.sr.networks.config:DRCTConfig", "dcae.sr.networks.drct:DRCT", task="sr"),
        Preset("drct-l", "dcae.sr.networks.config:DRCTLargeConfig", "dcae.sr.networks.drct:DRCT", task="sr"),
        Preset("tables", "dcae.sr.tables.config:TableConfig", "dcae.sr.tables.export:blank_network", task="tables"),
    )
}


def preset_names(task: str = "codec") -> tuple[str, ...]:
    """Names of all presets of a task, the default first."""
    return tuple(name for name, preset in _PRESETS.items() if preset.task == task)


def preset_of(config: NetworkConfig) -> Preset:
    """Entry of the preset that a configuration is of."""
    return _PRESETS[config.preset]


def config_from_dict(values: dict[str, Any]) -> DCAEConfig:
    """Inverse of :meth:`DCAEConfig.to_dict`.

    Raises:
        OptionError: an unknown preset or field, or a value out of range.
    """
    config = any_config(values, "codec")
    assert isinstance(config, DCAEConfig)
    return config


def any_config(values: dict[str, Any], task: str | None = None) -> NetworkConfig:
    """Inverse of :meth:`NetworkConfig.to_dict`.

    Args:
        task: that of the preset; None for any.

    Raises:
        OptionError: an unknown preset or field, or a value out of range.
    """
    fields = dict(values)
    preset = str(fields.pop("preset", None))
    check_choice("preset", preset, _PRESETS if task is None else preset_names(task))
    kind: type[NetworkConfig] = resolve_name(_PRESETS[preset].config)
    check_names(fields, kind, f"fields of preset {preset}:")
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    try:
        return kind(**arguments)
    except OptionError:
        raise
    except (TypeError, ValueError) as error:
        raise OptionError(f"bad configuration for preset {preset}: {error}") from error


def build_model(preset: str | DCAEConfig = "lite", *, entropy_models: bool = True, **overrides: Any) -> DCAE:
    """A freshly initialised network.

    Args:
        preset: "lite", "paper", or a configuration.
        entropy_models: attach the densities that `forward` and training need (imports compressai).
        overrides: fields of the preset's configuration, e.g. `lambdas=(0.0018,)`.

    Raises:
        OptionError: an unknown preset or a bad field.
        MissingDependencyError: torch is not installed, or for `entropy_models` compressai.
    """
    values = preset.to_dict() if isinstance(preset, DCAEConfig) else {"preset": preset}
    config = config_from_dict(values | overrides)
    network = network_of(config)
    network.initialise()
    if entropy_models:
        network.add_entropy_models()
    return network


def network_of(config: DCAEConfig) -> DCAE:
    """The network of a configuration, for weights that are loaded afterwards: no entropy models, no starting values.

    Raises:
        MissingDependencyError: torch is not installed.
    """
    network: Any = any_network_of(config)
    return network


def any_network_of(config: NetworkConfig) -> nn.Module:
    """The network of a configuration, of whatever task.

    Raises:
        MissingDependencyError: torch is not installed.
    """
    require("the networks need", "torch", "torch")
    network: nn.Module = resolve_name(preset_of(config).network)(config)
    return network
