"""Tuning: the distortion that the encoder lowers beside the bytes, and the model that is made for it."""

from __future__ import annotations

from pathlib import Path

from dcae.errors import OptionError
from dcae.models.installed import DEFAULT_MODEL
from dcae.networks.config import DCAEConfig

TUNES = "psnr", "ms-ssim"
"""What the search lowers: the squared error, or 1 - MS-SSIM."""
_OWN = {"mse": "psnr", "ms-ssim": "ms-ssim"}


def tune_for(tune: str | None, effort: int, config: DCAEConfig) -> str:
    """The tune, or where there is none what a model was trained for.

    Raises:
        OptionError: no such tune, or one that only a search heeds, without a search.
    """
    if tune is not None and tune not in TUNES:
        raise OptionError(f"tune must be {' or '.join(TUNES)}, got {tune!r:.60}")
    own = _OWN[config.metric]
    if tune not in (None, own) and not effort:
        raise OptionError(
            f"tune={tune} is not what this model was trained for, so that only a search heeds it; give an effort of "
            "at least 1"
        )
    return tune or own


def model_or_default(model: str | Path | None, tune: str | None) -> str | Path:
    """The model, or where there is none that of a tune."""
    return model or (f"{DEFAULT_MODEL}-msssim" if tune == "ms-ssim" else DEFAULT_MODEL)
