"""The installed package: what lands in site-packages, and that the command is there."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest


def test_nothing_but_dcae_lands_in_site_packages() -> None:
    files = metadata.files("dcae")
    assert files
    tops = {path.parts[0] for path in files if path.parts[0] != ".."}
    if any(top.startswith("__editable__") for top in tops):
        pytest.skip("an editable install, whose files are only a pointer here")
    assert {top for top in tops if not top.startswith("dcae-")} == {"dcae"}
    names = {"/".join(path.parts[:2]) for path in files}
    assert {"dcae/codec", "dcae/train", "dcae/eval"} <= names


def test_default_model_is_in_the_package_and_small() -> None:
    import dcae
    from dcae.models.installed import find_model

    header = find_model("lite")
    assert header.path.is_relative_to(Path(dcae.__file__).parent)
    assert header.path.stat().st_size <= 16 * 2**20
    assert header.config.qualities == (1.0, 8.0)
    assert header.record["data"]
    assert header.record["patches"] > 0


def test_importing_dcae_imports_nothing_heavy() -> None:
    code = "import sys, dcae, dcae.cli; print([m for m in ('torch', 'numpy', 'compressai') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() in ("[]", "['numpy']")
