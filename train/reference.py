"""Reference of a run's validations: an installed model, measured once on the same pictures."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from dcae.errors import ModelNotFoundError
from dcae.models.installed import find_model
from dcae.networks.base import DCAE
from dcae.networks.registry import build_model
from dcae.train.init import load_weights

log = logging.getLogger(__name__)


class Reference(NamedTuple):
    """A model to compare with, in evaluation mode."""

    name: str
    network: DCAE

    def quality_at(self, lambda_: float) -> float | None:
        """The quality at which it minimises the same sum, or None where its range has no such λ."""
        own = np.log(self.network.config.lambdas)
        wanted = np.log(lambda_)
        if not own[0] - 1e-6 <= wanted <= own[-1] + 1e-6:
            return None
        return float(np.interp(wanted, own, np.arange(1, len(own) + 1)))


def load_reference(model: str, metric: str) -> Reference | None:
    """The reference of this name; None, with a line in the log, where there is none for this metric.

    Args:
        model: an installed model's name or a model file.

    Raises:
        ModelFileError: a damaged model file.
    """
    try:
        header = find_model(model)
    except ModelNotFoundError as error:
        log.warning("no reference in validations: %s", error)
        return None
    if header.config.metric != metric:
        log.info("no reference in validations: %s was trained for %s", model, header.config.metric)
        return None
    config, weights = load_weights(model)
    network = build_model(config)
    network.load_state_dict(weights, strict=False)
    return Reference(f"{model} {header.short_id.hex()}", network.eval())
