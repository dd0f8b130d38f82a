"""What a service offers, as `/info` says it."""

from __future__ import annotations

from typing import Any

from dcae.extras import installed

RIVALS = {"avif": ("AVIF", ".avif", "avif-psnr"), "jpeg": ("JPEG", ".jpg", "jpeg"), "webp": ("WebP", ".webp", "webp")}
"""Name -> label, suffix and name in `dcae.eval.rivals` of what pictures are compared with."""
MEDIA_TYPES = {".avif": "image/avif", ".jpg": "image/jpeg", ".webp": "image/webp", ".png": "image/png"}


def rivals() -> list[dict[str, str]]:
    """The rivals that work in this install."""
    from dcae.eval.rivals import RIVALS as KNOWN

    return [
        {"name": name, "label": label, "suffix": suffix}
        for name, (label, suffix, known) in RIVALS.items()
        if KNOWN[known].available
    ]


def coding_models() -> list[str]:
    """Names of the installed models that code."""
    from dcae.models.installed import installed_models

    return list(installed_models())


def upscalers() -> list[str]:
    """Names of what enlarges pictures in this install: kernels and installed models."""
    from dcae.models.installed import models_read_by
    from dcae.sr.cli import KERNEL_NAMES
    from dcae.sr.models import read_sr_header
    from dcae.sr.tables.config import TableConfig

    found = models_read_by(read_sr_header).items()
    usable = [name for name, header in found if isinstance(header.config, TableConfig) or installed("torch")]
    return [*KERNEL_NAMES, *usable]


def examples() -> list[dict[str, str]]:
    """The example pictures."""
    from dcae.serve.examples import EXAMPLES

    return [{"name": name, "title": title, "url": f"/examples/{name}.png"} for name, title in EXAMPLES.items()]


def web_model_names() -> dict[str, str]:
    """Name of a model's file for browsers -> name of the model."""
    from dcae.serve.web_folder import web_model_name

    return {web_model_name(name): name for name in coding_models()}


def everything() -> dict[str, Any]:
    """All of it."""
    return {"models": coding_models(), "rivals": rivals(), "upscale_models": upscalers(), "examples": examples()}
