"""`dcae serve`: what it tells clients is for clients, not for who runs it or the command line."""

from __future__ import annotations

import ast
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, features
from service import ADVICE, TINY, flat, picture, saved

import dcae
from dcae.errors import DCAEError, MissingDependencyError, PictureError
from dcae.extras import installed
from dcae.models.installed import find_model_by_id
from dcae.serve.service.coding import Coder
from dcae.serve.service.settings import Settings
from dcae.serve.service.tasks import Failed, Task
from dcae.serve.service.work import outcome

pytest.importorskip("fastapi", reason="needs fastapi, which pip install '.[dev]' brings")

from dcae.serve.service.options import OPTIONS


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models of the service are those of its tests."""
    monkeypatch.setenv("DCAE_MODEL_PATH", str(TINY.parent))


def failed(folder: Path, kind: str, body: bytes, **options: Any) -> str:
    """The sentence of a job that fails, without what is for others than clients."""
    (folder / "body").write_bytes(body)
    coder = Coder(Settings(model="tiny", max_pixels=400_000), lambda told: None)
    whole = OPTIONS[kind].model_validate(options).model_dump()
    found = outcome(coder, Task(kind, str(folder / "body"), str(folder), whole))
    assert isinstance(found, Failed), found
    assert not ADVICE.search(found.sentence), found.sentence
    return found.sentence


def frames() -> bytes:
    """A picture file with three frames."""
    buffer = io.BytesIO()
    pages = [Image.new("L", (16, 16), shade) for shade in (0, 90, 180)]
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    return buffer.getvalue()


def test_pictures_that_are_not_taken(tmp_path: Path) -> None:
    limit = "more than the limit of 400000"
    assert failed(tmp_path, "encode", flat(800, 600)).endswith(limit)
    assert failed(tmp_path, "compare", flat(800, 600), rival="jpeg").endswith(limit)
    assert failed(tmp_path, "upscale", flat(400, 300)).endswith("more than the limit of 100000")
    large = dcae.encode(flat(800, 600), 1, model=TINY, effort=0, fallback=False)
    assert failed(tmp_path, "decode", large).endswith(limit)
    assert failed(tmp_path, "encode", frames()).endswith("the picture has 3 frames, a .dcae file one")


def test_transparency_that_the_format_does_not_have(tmp_path: Path) -> None:
    clear = saved(Image.new("RGBA", (64, 64), (90, 90, 90, 0)), "PNG")
    coded = dcae.encode(clear, 1, model=TINY, effort=0)
    sentence = failed(tmp_path, "decode", coded, format="jpg")
    assert sentence.endswith("holds no transparency; use PNG, or name a background")  # which a request can


def test_models_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = failed(tmp_path, "encode", picture(), model="nothing")
    assert "'nothing'; installed: " in sentence and sentence.endswith("tiny")
    sentence = failed(tmp_path, "upscale", picture(), scale=3, model="tables-x2-1")
    assert sentence == "tables-x2-1 enlarges by 2, not by 3; name another scale or model"
    coded = dcae.encode(picture(), 1, model=TINY, effort=0, fallback=False)
    monkeypatch.delenv("DCAE_MODEL_PATH")
    assert failed(tmp_path, "decode", coded).endswith("which is not installed")


def test_packages_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcae.extras.installed", lambda package: package != "torch" and installed(package))
    sentence = failed(tmp_path, "upscale", picture(), scale=2, model="sr-small-x2-1")
    assert sentence == "the networks need torch, which is not installed"
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    sentence = failed(tmp_path, "compare", picture(), rival="avif")
    assert sentence == "this service has no AVIF; /info names the rivals that it has"


def test_no_error_of_what_workers_load_names_an_option(tmp_path: Path) -> None:
    """But in its advice: of all errors that are raised there, whether a test provokes them or not."""
    source = f"""
import sys
from test_serve_sentences import *
def did(kind, body, **options):
    open({str(tmp_path / "body")!r}, "wb").write(body)
    options = OPTIONS[kind].model_validate(options).model_dump()
    task = Task(kind, {str(tmp_path / "body")!r}, {str(tmp_path)!r}, options)
    assert not isinstance(outcome(coder, task), Failed)
coder = Coder(Settings(model="tiny"), lambda told: None)
did("encode", picture(64, 64), effort=1)
did("decode", open({str(tmp_path / "result")!r}, "rb").read())
did("upscale", picture(64, 64))
did("compare", picture(64, 64), rival="jpeg", effort=0)
print(*(m.__file__ for name, m in sys.modules.items() if name.startswith("dcae.") and m.__file__), sep="\\n")
"""
    command = [sys.executable, "-c", source]
    environment = {"cwd": Path(__file__).parent, "capture_output": True, "text": True}
    done = subprocess.run(command, check=False, **environment)
    assert done.returncode == 0, done.stderr
    files = [Path(line) for line in done.stdout.splitlines()]
    assert {"limits.py", "find.py", "container.py", "coder.py", "compare.py"} <= {path.name for path in files}
    raised = [(path, call) for path in files for call in raised_in(path)]
    assert len(raised) > 100
    wrong = [f"{path.name}:{call.lineno} {words(call)}" for path, call in raised if names_options(words(call))]
    assert not wrong


def raised_in(path: Path) -> list[ast.Call]:
    """The errors that a module makes, as far as they have something to say."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id.lower().endswith("error")]


def words(call: ast.Call) -> str:
    """What a call says in its first argument, as far as that stands there."""
    parts = [node.value for node in ast.walk(call.args[0]) if isinstance(node, ast.Constant)]
    return " ".join(part for part in parts if isinstance(part, str))


def names_options(text: str) -> bool:
    """Whether words of the package's are advice; "max_pixels" is also what an argument of Python is called."""
    return ADVICE.search(text.replace("max_pixels must be", "")) is not None


@pytest.mark.parametrize(("kind", "joint"), [(PictureError, "; "), (MissingDependencyError, ": ")])
def test_advice_is_for_the_command_line(kind: type[DCAEError], joint: str) -> None:
    error = kind("it is large", "take --less")
    assert str(error) == f"it is large{joint}take --less"
    copied = pickle.loads(pickle.dumps(error))  # as between processes
    assert (str(copied), copied.what, copied.advice) == (str(error), "it is large", "take --less")
    assert str(kind("it is large")) == kind("it is large").what == "it is large"
    with pytest.raises(DCAEError, match="not installed; pass its file with --model"):
        find_model_by_id(bytes(8))
