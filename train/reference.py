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
        """The quality of about the same rate, or None where its range has no such λ of MSE training."""
        own = np.log(self.network.config.mse_lambdas)
        wanted = np.log(lambda_)
        if not own[0] - 1e-6 <= wanted <= own[-1] + 1e-6:
            return None
        return float(np.interp(wanted, own, np.arange(1, len(own) + 1)))


def load_reference(model: str) -> Reference | None:
    """The reference of this name; None, with a line in the log, where there is none.

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
    config, weights = load_weights(model)
    network = build_model(config)
    network.load_state_dict(weights, strict=False)
    return Reference(f"{model} {header.short_id.hex()}", network.eval())
