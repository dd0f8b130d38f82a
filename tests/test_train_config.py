"""Settings of a training run: what λ may look like, TOML files, options over recipes, clear refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dcae.cli import main
from dcae.errors import OptionError
from dcae.sr.tables.settings import TableSettings
from dcae.sr.training.settings import SRSettings
from dcae.train.config import TrainConfig, effective_config, recipes
from dcae.train.configuration import configuration
from dcae.train.settings import Settings
from dcae.train.written import parse_lambdas


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("0.0018", (0.0018,)),
        (0.0018, (0.0018,)),
        ("0.0067,0.0018", (0.0018, 0.0067)),
        (["0.0067", 0.0018], (0.0018, 0.0067)),
        ("1..4", (1.0, 2.0, 4.0)),
        ("1..1.1", (1.0, 1.1)),
    ],
)
def test_lambdas(written: Any, expected: tuple[float, ...]) -> None:
    assert parse_lambdas(written) == pytest.approx(expected)


def test_a_range_has_an_anchor_per_octave() -> None:
    anchors = parse_lambdas("0.0009..0.115")
    assert len(anchors) == 8
    assert (anchors[0], anchors[-1]) == (0.0009, pytest.approx(0.115))


@pytest.mark.parametrize("written", ["", "abc", "-1", "0", "nan", "0.1..0.01", "0.1..", "0..1", "0.01..inf", "1,,2"])
def test_wrong_lambdas_are_one_clear_line(written: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["train", "--lambda", written, "--data", str(tmp_path), "-o", str(tmp_path / "r")]
    )
    assert result.exit_code == 1
    assert result.stderr.startswith("dcae: ") and result.stderr.count("\n") == 1
    assert "lambda" in result.stderr
    assert not (tmp_path / "r").exists()


def test_options_go_before_a_recipe_and_a_recipe_before_defaults(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'lambda = "0.0009..0.115"\nminutes = 5\npatch = [64, 128]\nbatch = 2\n[network]\nwidths = [16, 32]\n'
    )
    config = effective_config(str(recipe), {"learning_rate": "2e-3", "batch": "3"})
    assert len(config.lambdas) == 8
    assert (config.minutes, config.patch, config.batch) == (5.0, (64, 128), (3,))
    assert config.learning_rate == 2e-3
    assert config.network == {"widths": [16, 32]}
    assert config.optimizer == TrainConfig().optimizer
    assert effective_config(str(recipe), {"steps": "10"}).minutes is None
    with pytest.raises(OptionError, match="--steps and --minutes both"):
        effective_config(str(recipe), {"steps": "10", "minutes": "1"})
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize = 4", "unknown settings in .*wrong.toml: batchsize; known: data, "),
        ("batch = 1.5", "batch = 1.5: must be a whole number"),
        ("bf16 = 1", "bf16 = 1: must be true or false"),
        ("steps = true", "must be a whole number"),
        ("learning_rate = 'fast'", "learning_rate = 'fast'"),
        ("batch = ", "not a TOML file"),
        ("patch = 100", "multiples of 64"),
        ("patch = [64, 128]\nbatch = [1, 2, 3]", "give one each"),
        ("optimizer = 'sgd'", "unknown optimizer 'sgd'; known: adam, soap"),
        ("even = true", "pixel_share and even are of training for MS-SSIM"),
        ("metric = 'ms-ssim'\npatch = 192\nblock_means = 0.1", "block_means weighs squared errors"),
        ("metric = 'lpips'", "unknown metric"),
        ("minutes = 0", "minutes must be positive"),
        ("ema = 1.5", "ema must be in 0..1"),
        ("clip = nan", "clip must be positive"),
        ("[network]\nlambdas = [1]", "a setting of its own"),
        ("[network]\nmetric = 'mse'", "a setting of its own"),
        ("seed = -1", "seed must be in"),
        ("balance = nan", "balance must be in"),
        ("minutes = inf", "minutes must be positive"),
        ("steps = inf", "steps = inf"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    recipe = tmp_path / "wrong.toml"
    recipe.write_text(text)
    with pytest.raises(OptionError, match=message):
        effective_config(str(recipe), {})


def test_a_missing_recipe_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="lite-cpu, lite-gpu, lite-msssim-cpu, lite-wide-gpu, paper"):
        effective_config("nothing", {})
    with pytest.raises(OptionError, match="No such file"):
        effective_config(str(tmp_path / "none.toml"), {})


def test_every_recipe_is_in_the_help_and_every_setting_an_option() -> None:
    text = CliRunner().invoke(main, ["train", "--help"], terminal_width=200).output
    for name in recipes():
        assert name in text
    names = {f.name.replace("_", "-") for f in dataclasses.fields(TrainConfig)} - {"network", "lambdas"}
    for name in names | {"lambda", "resume", "recipe", "device", "processes", "precision"}:
        assert f"--{name}" in text, name


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (TrainConfig, {}),
        (SRSettings, {}),
        (TableSettings, {}),
        (
            TrainConfig,
            {"lambdas": "0.0009..0.1152", "network": {"slices": [32, 32], "widths": [8, 16], "layers": ["C", "S"]},
             "minutes": 1e-05, "learning_rate": 1e-05, "compile": True, "patch": "64,128", "batch": "4,2"},
        ),
        (SRSettings, {"data": 'C:\\a "b"\n', "init": "λ \x7f", "network": {"depth": 8}, "codec_qualities": "1..2.5"}),
        (TableSettings, {"method": "srlut-s", "network": {"padding": "reflect", "unit": {"features": 8}}}),
    ],
)  # fmt: skip
def test_a_written_configuration_is_read_back(tmp_path: Path, kind: type[Settings], values: dict[str, Any]) -> None:
    config = kind.from_dict(values)
    (tmp_path / "c.toml").write_text(configuration(config), encoding="utf-8")
    assert effective_config(str(tmp_path / "c.toml"), {}, None, kind) == config


@pytest.mark.parametrize("kind", [TrainConfig, SRSettings, TableSettings])
def test_a_written_configuration_says_what_every_setting_means(kind: type[Settings]) -> None:
    text = configuration(kind())
    for field in dataclasses.fields(kind):
        name = "[network]" if field.name == "network" else {"lambdas": "lambda"}.get(field.name, field.name) + " ="
        before, found, _ = text.partition(f"\n{name}" if field.name != "minutes" else "\n# minutes =")
        assert found, name
        said = before.rpartition("\n\n")[2].replace("\n# ", " ")
        assert said.startswith(f"# {field.metadata['help']}"), said
        assert all(choice in said for choice in field.metadata["choices"])


def test_a_network_of_all_defaults_written_out_is_the_default_network(tmp_path: Path) -> None:
    for kind in (TrainConfig, SRSettings, TableSettings):
        before, _, after = configuration(kind()).partition("[network]\n")
        (tmp_path / "c.toml").write_text(f"{before}[network]\n{after.replace('# ', '')}", encoding="utf-8")
        config = effective_config(str(tmp_path / "c.toml"), {}, None, kind)
        assert config.network and config.network == {
            k: list(v) if isinstance(v, tuple) else v for k, v in config.network_defaults().items()
        }


def test_the_command_writes_a_configuration_and_trains_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    words = ["train", "--task", "sr", "--scale", "4", "--write-config", str(path)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0 and not done.output
    assert [p.name for p in tmp_path.iterdir()] == ["c.toml"]
    text = path.read_text(encoding="utf-8")
    assert effective_config(str(path), {"seed": "7"}, None, SRSettings) == SRSettings(scale=4, seed=7)
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 1 and "exists already" in again.stderr and path.read_text(encoding="utf-8") == text
    other = CliRunner().invoke(main, ["train", "--write-config", str(tmp_path / "c.json")])
    assert other.exit_code == 1 and "ends in .toml" in other.stderr
    odd = CliRunner().invoke(main, ["train", "--data", "\udcff", "--write-config", str(tmp_path / "odd.toml")])
    assert odd.exit_code == 1 and "no UTF-8" in odd.stderr and not (tmp_path / "odd.toml").exists()
    assert "--task" in CliRunner().invoke(main, ["train", "--recipe", str(path), "-o", str(tmp_path / "r")]).stderr
    missing = CliRunner().invoke(main, ["train", "--recipe", str(path)])
    assert missing.exit_code == 2 and "Missing option '-o'" in missing.stderr
