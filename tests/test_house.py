"""The rules of the house: which way imports point, that a preset is one entry, where commands are, how long code is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcae.cli import COMMANDS
from dcae.eval.cli import COMMANDS as MEASUREMENTS

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {name: path for name in ("codec", "train", "eval", "sr", "serve") if (path := ROOT / name).is_dir()}
"""Folders beside `dcae/`, which install as `dcae.codec`, ..."""
BENEATH = {"sr": {"train", "eval"}, "serve": {"eval", "sr"}}
"""Folder -> those that it may import beside `dcae` and `codec`."""
PLACES = [*COMMANDS.values(), *MEASUREMENTS.values()]
FLOORS = ("networks", "entropy", "models", "runtime")
"""Folders of `dcae/`, each importing those before it alone."""
PRESETS = ("dcae.networks.lite", "dcae.networks.paper")


def _modules() -> dict[str, Path]:
    """Every module of the package -> its file."""
    found = {}
    for name, folder in ({"dcae": ROOT / "dcae"} | {f"dcae.{room}": path for room, path in ROOMS.items()}).items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((name, *(part for part in parts if part != "__init__")))] = path
    return found


def _imports(tree: ast.AST) -> Iterator[str]:
    """Names that a file imports, within functions as well, but not for types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not followed here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        yield from _imports(node)


MODULES = _modules()
IMPORTS = {module: set(_imports(ast.parse(path.read_text(encoding="utf-8")))) for module, path in MODULES.items()}


def _module_of(name: str) -> str:
    """The module of ours that a dotted name is, or is in; empty for others'."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


GRAPH = {module: {_module_of(name) for name in names} - {"", module} for module, names in IMPORTS.items()}
"""Module -> the modules of ours that it imports."""


def _room(module: str) -> str:
    """The folder a module lies in: "dcae", or the name of one beside it."""
    first = module.split(".")[1] if "." in module else ""
    return first if first in ROOMS else "dcae"


def _floor(module: str) -> str:
    """The folder or file within `dcae/` that a module lies in."""
    return module.split(".")[1] if "." in module else ""


def test_the_rules_see_the_imports() -> None:
    assert "dcae.errors" in GRAPH["dcae.files"]
    assert "dcae.codec.codec" in GRAPH["dcae.codec.filecoders"]  # within a function
    assert sum(map(len, GRAPH.values())) > 100


@pytest.mark.parametrize("module", [m for m in MODULES if _room(m) == "dcae"])
def test_dcae_imports_no_other_folder_and_its_own_downwards(module: str) -> None:
    assert {_room(target) for target in GRAPH[module]} <= {"dcae"}
    if (floor := _floor(module)) in FLOORS:
        above = {*FLOORS[FLOORS.index(floor) + 1 :], "cli"}
        assert not {target for target in GRAPH[module] if _floor(target) in above}
    elif floor in ("errors", "files", "checks"):
        assert GRAPH[module] <= {"dcae.errors"}


@pytest.mark.parametrize("module", [m for m in MODULES if _room(m) != "dcae"])
def test_other_folders_import_dcae_the_codec_and_what_is_beneath_them_alone(module: str) -> None:
    assert {_room(target) for target in GRAPH[module]} <= {
        "dcae",
        "codec",
        _room(module),
        *BENEATH.get(_room(module), ()),
    }
    assert "dcae.cli" not in GRAPH[module]


def test_imports_have_no_circles() -> None:
    left = {module: set(targets) for module, targets in GRAPH.items()}
    while free := {module for module, targets in left.items() if not targets}:
        left = {module: targets - free for module, targets in left.items() if module not in free}
    assert not left


def test_coding_does_without_torch() -> None:
    """All but the engine itself."""
    for module in MODULES:
        if _room(module) == "codec" or module in ("dcae.runtime.protocol", "dcae.networks.walk", "dcae.cli"):
            assert not {name for name in IMPORTS[module] if name.split(".")[0] == "torch"}, module


@pytest.mark.parametrize("preset", PRESETS)
def test_nobody_asks_for_a_preset_outside_its_folder(preset: str) -> None:
    """But the command that reads the authors' checkpoints, which exist for one network alone."""
    asking = {module for module, targets in GRAPH.items() if any(target.startswith(preset) for target in targets)}
    assert {module for module in asking if not module.startswith(preset)} <= {"dcae.models.cli"}


@pytest.mark.parametrize("place", PLACES)
def test_a_folder_brings_its_own_commands(place: str) -> None:
    module, name = place.split(":")
    assert module.endswith(".cli") and module != "dcae.cli"
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("room", ["dcae", "tools", *ROOMS])
def test_files_are_read_in_one_sitting_and_functions_on_one_screen(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 320, f"{path}: split it"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 65, f"{path}: split {node.name}"
