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
    assert {"dcae/codec", "dcae/train", "dcae/eval", "dcae/sr", "dcae/serve"} <= names
    assert {"dcae/serve/web/dcae.js", "dcae/serve/web/package.json"} <= {str(path) for path in files}


@pytest.mark.parametrize(("name", "metric"), [("lite", "mse"), ("lite-msssim", "ms-ssim")])
def test_default_models_are_in_the_package_and_small(name: str, metric: str) -> None:
    import dcae
    from dcae.models.installed import find_model

    header = find_model(name)
    assert header.config.metric == metric
    assert header.path.is_relative_to(Path(dcae.__file__).parent)
    assert header.path.stat().st_size <= 18 * 2**20
    assert sum(path.stat().st_size for path in header.path.parent.iterdir() if path.is_file()) < 40 * 2**20
    assert header.config.qualities == (1.0, 8.0)
    assert header.record["data"]
    assert header.record["patches"] > 0


def test_importing_dcae_imports_nothing_heavy() -> None:
    code = "import sys, dcae, dcae.cli; print([m for m in ('torch', 'numpy', 'compressai') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"


_COMMANDS = """
import sys
from click.testing import CliRunner
from dcae.cli import main
done = CliRunner().invoke(main, sys.argv[1:])
assert done.exit_code == 0, done.output
print([name for name in ("torch", "numpy", "onnxruntime", "PIL", "safetensors") if name in sys.modules])
"""


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["info", "FILE"], ["train", "--help"]])
def test_commands_that_compute_nothing_import_nothing_heavy(arguments: list[str]) -> None:
    file = Path(__file__).with_name("golden") / "pixel.dcae"
    arguments = [str(file) if word == "FILE" else word for word in arguments]
    done = subprocess.run([sys.executable, "-c", _COMMANDS, *arguments], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
