"""Pillow's plugin for `.dcae` files: `import dcae.pillow` registers it, as :func:`dcae.register_pillow` does."""

from __future__ import annotations

from pkgutil import resolve_name

resolve_name("dcae.codec.plugin:register_pillow")()  # by name: what lies in this folder imports no other
