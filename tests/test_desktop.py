"""What docs/desktop says to file managers is true of the files."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import synthetic_picture
from PIL import Image

from dcae.cli import main
from dcae.codec.codec import Codec
from dcae.codec.container import SIGNATURE
from dcae.codec.plugin import MIME_TYPE
from dcae.models.modelfile import CodingModel

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "desktop"


@pytest.fixture
def photo(tiny_path: Path, tiny_model: CodingModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the tiny model, which is installed."""
    monkeypatch.setenv("DCAE_MODEL_PATH", str(tiny_path.parent))
    path = tmp_path / "a photo.dcae"
    path.write_bytes(Codec(tiny_model).encode(synthetic_picture(70, 50)))
    return path


@pytest.mark.skipif(shutil.which("file") is None, reason="no command `file`")
def test_file_knows_the_signature(photo: Path) -> None:
    for options, said in (([], f"DCAE image data, version {photo.read_bytes()[9]}"), (["--mime-type"], MIME_TYPE)):
        command = ["file", "--brief", *options, "-m", str(FOLDER / "dcae.magic"), str(photo)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == said


def test_type_and_signature() -> None:
    space = {"": "http://www.freedesktop.org/standards/shared-mime-info"}
    kind = ElementTree.parse(FOLDER / "dcae.xml").getroot().find("mime-type", space)
    assert kind is not None and kind.get("type") == MIME_TYPE
    match, pattern = kind.find("magic/match", space), kind.find("glob", space)
    assert match is not None and pattern is not None and pattern.get("pattern") == "*.dcae"
    assert (match.get("value") or "").encode().decode("unicode_escape").encode("latin-1") == SIGNATURE


def test_thumbnailer(photo: Path, tmp_path: Path) -> None:
    """As a desktop runs it: the output is an empty file without a suffix."""
    entry = configparser.RawConfigParser()
    entry.read(FOLDER / "dcae.thumbnailer")
    section = entry["Thumbnailer Entry"]
    assert section["mimetype"] == f"{MIME_TYPE};"
    output = tmp_path / "thumbnail.X3F9"
    output.touch()
    values = {"%i": str(photo), "%o": str(output), "%s": "32"}
    command, *arguments = [values.get(word, word) for word in shlex.split(section["exec"])]
    assert command == section["tryexec"] == "dcae"
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.output) == (0, "")
    with Image.open(output) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("PNG", (32, 23))
