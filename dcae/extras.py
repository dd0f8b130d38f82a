"""Packages beyond the plain install, which extras of `pip install` bring, and the sentence for those that are missing.

The extras are declared in setup.cfg: `torch`, `train`, `eval`, `rivals`, `serve`, `dev`.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

from dcae.errors import MissingDependencyError

COMPRESSAI_HAS_WHEELS = sys.version_info < (3, 13) and sys.platform != "win32"
"""Whether the extra `train` brings compressai to this machine, as setup.cfg says."""


def installed(package: str) -> bool:
    """Whether a package can be imported, by the name that it is imported by."""
    return find_spec(package) is not None


def missing(need: str, extra: str, *packages: str) -> str:
    """The sentence for packages that are not installed, with the command that brings them; "" when none is missing.

    Args:
        need: who needs them, with its verb: "training needs".
        extra: the extra of this package that brings them.
        packages: by the names that they are imported by.
    """
    what = _absent(need, packages)
    return what and f"{what}: {_command(extra)}"


def _absent(need: str, packages: tuple[str, ...]) -> str:
    absent = [name.replace("_", "-") for name in packages if not installed(name)]
    if not absent:
        return ""
    verb = "is" if len(absent) == 1 else "are"
    names = " and ".join(filter(None, (", ".join(absent[:-1]), absent[-1])))
    return f"{need} {names}, which {verb} not installed"


def _command(extra: str) -> str:
    return f"pip install 'dcae[{extra}]'"


def require(need: str, extra: str, *packages: str) -> None:
    """Refuse to go on without packages; arguments as of :func:`missing`.

    Raises:
        MissingDependencyError: some are not installed.
    """
    if what := _absent(need, packages):
        raise MissingDependencyError(what, _command(extra))


def require_training() -> None:
    """Refuse to train, or to make a model file, without what that takes.

    Raises:
        MissingDependencyError: some of it is not installed.
    """
    if sentence := missing("training needs", "train", "torch", "compressai"):
        where = "" if COMPRESSAI_HAS_WHEELS else " (compressai has wheels for Linux and macOS, Python 3.10 to 3.12)"
        raise MissingDependencyError(sentence + where)
