"""The network a run begins with: from scratch, or from the weights of a model, a checkpoint or another run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dcae.errors import OptionError
from dcae.models.installed import find_model
from dcae.models.modelfile import load_model
from dcae.networks.base import DCAE
from dcae.networks.config import METRICS, DCAEConfig
from dcae.networks.registry import build_model, config_from_dict
from dcae.train.checkpoint import BEST, CHECKPOINT, best_checkpoint, load_checkpoint
from dcae.train.config import TrainConfig

_ENTROPY_MODELS = ("entropy_bottleneck.", "gaussian_conditional.")


def initial_network(config: TrainConfig) -> DCAE:
    """The network of `config`, with the weights of `config.init` where that is given.

    λ are those of `config`, else of the model it starts from (of another metric, those of about the same rate); per-λ
    parameters are interpolated.

    Raises:
        OptionError: fields that do not fit the preset, or the model started from.
        ModelNotFoundError, ModelFileError: nothing to start from at `config.init`, or a damaged file.
        MissingDependencyError: compressai is not installed.
    """
    own: dict[str, Any] = dict(config.network)
    if config.lambdas:
        own["lambdas"] = config.lambdas
    if not config.init:
        network = _build(config.preset, own, config.metric)
        if config.metric != "mse" and not config.lambdas:
            raise OptionError(f"give the λ of {config.metric} training with --lambda (3 to 150 are usual)")
        return network

    found, weights = load_weights(config.init)
    if found.preset != config.preset:
        raise OptionError(f"{config.init} is a {found.preset} model; set --preset {found.preset} or another --init")
    if found.metric != config.metric and not config.lambdas:
        own["lambdas"] = tuple(METRICS[config.metric] * v for v in found.mse_lambdas)
    network = _build(found, own, config.metric)
    weights = _for_lambdas(weights, network, found)
    if network.closed_loop and not getattr(found, "skip_channels", 0):
        weights = grown(weights, network)
    try:
        missing, unknown = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise OptionError(f"{config.init} does not have the shape asked for ({str(error).splitlines()[-1]})") from error
    missing = [name for name in missing if not name.startswith(_ENTROPY_MODELS)]
    if missing or unknown:
        raise OptionError(f"{config.init} does not have the shape asked for ({', '.join((missing + unknown)[:3])})")
    return network


def _build(preset: str | DCAEConfig, fields: dict[str, Any], metric: str) -> DCAE:
    base = preset.to_dict() if isinstance(preset, DCAEConfig) else {"preset": preset}
    config = config_from_dict(base | fields | {"metric": metric})
    try:
        return build_model(config)
    except (TypeError, ValueError, RuntimeError) as error:  # fields of a type or size that no tensor has
        raise OptionError(f"no network of these fields: {fields} ({str(error).splitlines()[0]})") from error


def is_run(init: str) -> bool:
    """Whether this is a checkpoint or another run, and no model."""
    path = Path(init)
    return path.suffix == ".pt" or (path / CHECKPOINT).is_file() or (path / BEST).is_file()


def load_weights(init: str) -> tuple[DCAEConfig, dict[str, Tensor]]:
    """Configuration and weights (with the densities that training needs) of a model, a checkpoint or another run.

    Raises:
        ModelNotFoundError, ModelFileError: nothing there, or a damaged file.
    """
    path = Path(init)
    if is_run(init):
        saved = load_checkpoint(best_checkpoint(path))
        return config_from_dict(saved["config"]), saved["average"]
    header = find_model(init)
    load_model(header.path)  # verifies the file
    prefix = "network."
    tensors = load_file(header.path)
    return header.config, {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}


def _for_lambdas(weights: dict[str, Tensor], network: DCAE, found: DCAEConfig) -> dict[str, Tensor]:
    """Parameters with a row per λ, interpolated (on a logarithmic scale of λ) to the network's λ."""
    old = torch.tensor(found.mse_lambdas, dtype=torch.float64).log2()
    new = torch.tensor(network.config.mse_lambdas, dtype=torch.float64).log2()
    if old.shape == new.shape and torch.allclose(old, new, atol=1e-3):
        return weights
    # Linear interpolation at `new` of the rows at `old`, held constant outside.
    above = torch.searchsorted(old, new).clamp(max=len(old) - 1)
    below = (above - 1).clamp(min=0)
    t = ((new - old[below]) / (old[above] - old[below]).clamp(min=1e-9)).clamp(0, 1)
    rows = torch.zeros(len(new), len(old), dtype=torch.float64)
    for row, (a, b, share) in enumerate(zip(below.tolist(), above.tolist(), t.tolist(), strict=True)):
        rows[row, a] += 1 - share
        rows[row, b] += share
    anchored = network.anchored_parameters()
    return {k: (rows @ v.double()).float() if k in anchored else v for k, v in weights.items()}


def grown(weights: dict[str, Tensor], network: DCAE) -> dict[str, Tensor]:
    """Weights of a network without closed loop as those of one with it: its tables begin with theirs, and what is new
    keeps its starting values, with which it changes nothing."""
    grown = {k: v.detach().clone() for k, v in network.state_dict().items()}
    for name, value in weights.items():
        if name in grown and grown[name].dim() == value.dim():
            corner = tuple(slice(n) for n in value.shape)
            grown[name][corner] = value
    extend = f"slice_networks.{len(network.config.slices) - 2}.extend."
    for name in grown:
        if name.startswith(extend):
            grown[name].zero_()
    return grown
