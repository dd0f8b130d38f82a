"""Validation: ratios to a reference model, errors of brightness, a score that no single picture carries, real files."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_same, training_settings
from PIL import Image

from dcae.codec.codec import Codec

pytest.importorskip("compressai", reason="training needs compressai")

from dcae.train import real_files, validation
from dcae.train.checkpoint import BEST, CHECKPOINT, load_checkpoint, save_checkpoint
from dcae.train.data import load_folder
from dcae.train.export import export_checkpoint
from dcae.train.init import initial_network
from dcae.train.loop import train
from dcae.train.processes import Group
from dcae.train.reference import load_reference
from dcae.train.task import Losses

ALONE = Group(0, 1, "cpu")


def test_validation_measures_files_and_warns_when_the_estimate_is_off(
    training_pictures: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = training_settings(training_pictures)
    network = initial_network(settings)
    pictures = [picture.pixels for picture in load_folder(training_pictures)][:3]
    network.calibrate(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255)
    validator = validation.Validator(pictures, network.config, settings, ALONE)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = validator(network, lambda: False)
    assert found is not None
    assert network.training
    assert not caplog.messages
    assert [point[0] for point in found.row["points"]] == [1.0, 3.0, 6.0, 8.0]
    assert [row[0] for row in found.row["files"]] == [1.0, 6.0, 8.0]
    for quality, whole, coded, estimate in found.row["files"]:
        assert coded < whole < coded + 8 * 80 / (160 * 192)
        assert coded == pytest.approx(estimate, rel=0.03)
        codec = Codec(real_files.coding_model(network))
        data = [codec.encode(Image.fromarray(picture), quality, correct_means=False) for picture in pictures]
        assert whole == pytest.approx(8 * sum(map(len, data)) / (3 * 160 * 192), abs=1e-5)
    assert validator(network, lambda: True) is None

    honest = validation.rate_distortion

    def optimistic(*arguments: Any) -> Any:
        terms = honest(*arguments)
        return terms._replace(bpp_y=0.95 * terms.bpp_y)

    monkeypatch.setattr(validation, "rate_distortion", optimistic)
    with caplog.at_level(logging.WARNING):
        validator(network, lambda: False)
    assert any("more than 2 % apart" in message for message in caplog.messages)


def test_brightness_errors_are_means_of_blocks_in_levels_of_the_8_bit_picture() -> None:
    x = torch.randint(0, 250, (1, 3, 100, 128)) / 255
    assert validation.brightness_errors(x, x + 2 / 255).unique().tolist() == pytest.approx([2.0], abs=1e-4)
    assert validation.brightness_errors(x, x + 0.4 / 255).abs().max() < 1e-4  # rounded away
    checks = torch.ones(100, 128)
    checks[::2, ::2] = checks[1::2, 1::2] = -1
    x = torch.full((1, 3, 100, 128), 100 / 255)
    assert validation.brightness_errors(x, x + 5 / 255 * checks).abs().max() < 1e-4
    corner = x.clone()
    corner[:, 1, 64:, 64:] += 3 / 255  # a block of 36 rows at the lower edge
    errors = validation.brightness_errors(x, corner)
    assert errors.shape == (1, 3, 2, 2)
    assert errors[0, 1, 1, 1] == pytest.approx(3, abs=1e-4)
    assert errors.abs().sum() == pytest.approx(3, abs=1e-3)
    assert validation.brightness_errors(torch.ones(1, 3, 64, 64), torch.full((1, 3, 64, 64), 1.5)).abs().max() == 0


def test_the_score_is_carried_by_no_single_picture() -> None:
    found = np.ones((5, 2, 4))
    found[:, 0, validation.LOSS] = [0.9, 0.9, 0.9, 5.0, 0.8]
    found[:, 1, validation.LOSS] = [22, 20, 20, 0.1, 40]
    found[:, 0, validation.BRIGHTNESS] = [0, 0, 0, 0, 5]
    reference = np.array([[1.0, 10.0]] * 5)
    row = validation.summary(found, reference, [1.0, 8.0])
    assert row["ratios"] == [[1.0, 0.9, 5.0], [8.0, 2.0, 4.0]]
    assert row["score"] == pytest.approx((math.log(0.9) + math.log(2)) / 2, abs=1e-5)
    assert row["brightness"] == [[1.0, 1.0, pytest.approx(5**0.5, abs=1e-4)], [8.0, 1.0, 1.0]]
    assert row["points"][1][1] == pytest.approx(20.42)


def test_qualities_looked_at_include_both_ends() -> None:
    from dcae.networks.lite.config import LiteConfig

    assert validation.validated_qualities(LiteConfig()) == [1.0, 3.0, 6.0, 8.0]
    assert validation.validated_qualities(LiteConfig(lambdas=(0.01,))) == [1.0]
    assert validation.validated_qualities(LiteConfig(lambdas=(0.01, 0.02))) == [1.0, 2.0]


@pytest.mark.slow
def test_the_reference_is_measured_once_and_compared_picture_by_picture(
    training_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(training_settings(training_pictures, steps=1), tmp_path / "first")
    reference = str(tmp_path / "reference.safetensors")
    export_checkpoint(first / CHECKPOINT, Path(reference), {})
    changes: dict[str, Any] = {"init": str(first), "learning_rate": 1e-12, "ema": 0.0, "batch": 1}
    changes |= {"reference": reference, "validation_pictures": 5}
    run = train(training_settings(training_pictures, steps=1, **changes), tmp_path / "run")
    saved = load_checkpoint(run / CHECKPOINT)
    row = saved["state"]["log"][-1]
    # The same weights, but for the rounding of the larger ones: every ratio is 1.
    for _, median, worst in row["ratios"]:
        assert median == pytest.approx(1, abs=2e-3) and worst == pytest.approx(1, abs=5e-3)
    assert row["score"] == pytest.approx(0, abs=2e-3)
    assert np.array(saved["reference"]["losses"]).shape == (2, 4)  # one is held out, one drawn
    assert saved["reference"]["losses"][0][3] > 1.5 * saved["reference"]["losses"][0][0]

    def again(*_: Any) -> Any:
        raise AssertionError("measured again")

    with monkeypatch.context() as patched:
        patched.setattr(validation.Validator, "_measured_reference", again)
        train(training_settings(training_pictures, steps=2, **changes), run, resume=True)
    # Other pictures: measured again, and what was best by the old measure is so no longer.
    best = load_checkpoint(run / BEST)
    best["state"]["best"] = -9.0
    save_checkpoint(run / BEST, best)
    changes["validation_pictures"] = 1
    train(training_settings(training_pictures, steps=3, **changes), run, resume=True)
    saved = load_checkpoint(run / CHECKPOINT)
    assert np.array(saved["reference"]["losses"]).shape == (1, 4)
    assert saved["state"]["best"] == saved["state"]["log"][-1]["score"] > -1


def test_a_reference_answers_at_the_same_lambda_or_not_at_all(
    training_pictures: Path, tiny_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference = load_reference(str(tiny_path))
    assert reference is not None
    config = reference.network.config
    for quality in (1.0, 2.5, 8.0):
        assert reference.quality_at(config.lambda_of(quality)) == pytest.approx(quality)
    assert reference.quality_at(config.lambdas[0] / 2) is None
    with caplog.at_level(logging.WARNING):
        assert load_reference("no-such-model") is None
    assert any("no-such-model" in message for message in caplog.messages)
    # λ that it does not know are judged by themselves.
    settings = training_settings(training_pictures, reference=str(tiny_path), lambdas="0.0001, 0.0018")
    picture = np.zeros((64, 64, 3), np.uint8)
    losses = validation.Validator([picture], initial_network(settings).config, settings, ALONE).reference
    assert losses[0, 0] == 1.0 and 0 < losses[0, 1] != 1.0


def test_a_validation_is_abandoned_when_the_run_is_to_stop_and_made_up_for(
    training_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    from dcae.train.loop import Interrupted

    honest = validation._estimates

    def stop(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return honest(*arguments)

    settings = training_settings(training_pictures, steps=2)
    with monkeypatch.context() as patched:
        patched.setattr(validation, "_estimates", stop)
        with pytest.raises(Interrupted, match="step 2"):
            train(settings, tmp_path)
    assert load_checkpoint(tmp_path / CHECKPOINT)["state"]["log"] == []
    assert not (tmp_path / BEST).exists()
    train(settings, tmp_path, resume=True)
    assert len(load_checkpoint(tmp_path / CHECKPOINT)["state"]["log"]) == 1
    assert (tmp_path / BEST).exists()


def test_a_task_of_another_family_needs_nothing_of_the_codec(tmp_path: Path) -> None:
    """A straight line is learnt by the same loop, prolonged, and branched off."""
    from line_task import LineTask

    nowhere = Path("nowhere")
    trunk = {"schedule": "constant", "learning_rate": 0.1, "ema": 0.0}
    straight = train(training_settings(nowhere, steps=60, **trunk), tmp_path / "straight", family=LineTask)
    straight_state = load_checkpoint(straight / CHECKPOINT)
    assert straight_state["state"]["patches"] == 240
    assert straight_state["state"]["log"][-1]["error"] < 0.5
    assert straight_state["config"] == {"family": "line"}
    for steps in (20, 60):
        train(training_settings(nowhere, steps=steps, **trunk), tmp_path / "pieces", resume=True, family=LineTask)
    assert_same(straight_state["network"], load_checkpoint(tmp_path / "pieces" / CHECKPOINT)["network"])
    decay = training_settings(nowhere, steps=60, decay=str(straight), **trunk)
    branch = load_checkpoint(train(decay, tmp_path / "branch", family=LineTask) / CHECKPOINT)
    assert branch["state"]["log"][-1]["error"] < straight_state["state"]["log"][-1]["error"]


def test_what_learns_beside_the_network_takes_no_step_that_is_not_finite(tmp_path: Path) -> None:
    """A loss of its own that is not a number at one step leaves no trace, in its weights or in Adam's memory."""
    from line_task import LineTask

    class Beside(LineTask):
        """A line and one number beside it that is to be 1."""

        def optimizers(self) -> list[torch.optim.Optimizer]:
            self.number = torch.nn.Parameter(torch.zeros(()))
            return [*super().optimizers(), torch.optim.Adam([self.number], lr=0.1)]

        def losses(self, batch: torch.Tensor, output: torch.Tensor) -> Losses:
            wrong = float("nan") if batch.equal(self.batch(7, 0.0)[0]) else 1.0
            return super().losses(batch, output)._replace(auxiliary=wrong * (self.number - 1).square())

        def content(self) -> dict[str, Any]:
            return super().content() | {"number": self.number.detach()}

    saved = load_checkpoint(train(training_settings(Path("nowhere"), steps=60), tmp_path, family=Beside) / CHECKPOINT)
    assert saved["state"]["skipped"] == 1
    assert abs(saved["number"] - 1) < 0.1
