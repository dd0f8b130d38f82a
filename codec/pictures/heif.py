"""HEIC and HEIF, which Pillow reads and writes with the plugin pillow-heif, where that is installed."""

from __future__ import annotations

SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
NEEDED = "HEIC pictures need another library", "pip install pillow-heif"
"""The error where it is not installed: what is wrong, and what to do about it."""


def register_heif() -> bool:
    """Whether pillow-heif is installed; Pillow knows the format from then on."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True
