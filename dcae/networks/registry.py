"""From a preset's name or a configuration to a network."""

from __future__ import annotations

from typing import Any

from dcae.errors import OptionError
from dcae.networks.base import DCAE
from dcae.networks.config import DCAEConfig, LiteConfig, PaperConfig, config_from_dict


def build_model(preset: str | DCAEConfig = "lite", *, entropy_models: bool = True, **overrides: Any) -> DCAE:
    """A freshly initialised network.

    Args:
        preset: "lite", "paper", or a configuration.
        entropy_models: attach the densities that `forward` and training need (imports compressai).
        overrides: fields of the preset's configuration, e.g. `lambdas=(0.0018,)`.

    Raises:
        OptionError: an unknown preset or a bad field.
        MissingDependencyError: `entropy_models` without compressai.
    """
    values = preset.to_dict() if isinstance(preset, DCAEConfig) else {"preset": preset}
    config = config_from_dict(values | overrides)
    network = network_of(config)
    network.initialise()
    if entropy_models:
        network.add_entropy_models()
    return network


def network_of(config: DCAEConfig) -> DCAE:
    """The network of a configuration, for weights that are loaded afterwards: no entropy models, no starting values."""
    if isinstance(config, LiteConfig):
        from dcae.networks.lite.wiring import LiteDCAE

        return LiteDCAE(config)
    if isinstance(config, PaperConfig):
        from dcae.networks.paper.wiring import PaperDCAE

        return PaperDCAE(config)
    raise OptionError(f"no network for a configuration of type {type(config).__name__}")
