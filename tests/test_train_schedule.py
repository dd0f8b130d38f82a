"""Schedule of a run: trunks and the decays that branch off them, learning rates, and qualities in strata."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_same, training_settings

from dcae.errors import ModelFileError, OptionError

pytest.importorskip("compressai", reason="training needs compressai")

from dcae.train import codec_task, loop, run, schedule
from dcae.train.checkpoint import BEST, CHECKPOINT, load_checkpoint, save_checkpoint
from dcae.train.config import TrainConfig, effective_config
from dcae.train.loop import train
from dcae.train.loss import relative
from dcae.train.start import stored_settings


def _stopped_by_a_signal(at: int, monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> None:
    """Train, and be sent SIGTERM in the middle of the `at`-th step."""
    honest, calls = run.update_average, []

    def and_a_signal(*values: Any) -> None:
        calls.append(0)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        honest(*values)

    monkeypatch.setattr(run, "update_average", and_a_signal)
    with pytest.raises(loop.Interrupted, match="--resume auto"):
        train(*arguments)
    monkeypatch.setattr(run, "update_average", honest)


def _rates(run: Path) -> list[float]:
    return [group["lr"] for group in load_checkpoint(run / CHECKPOINT)["optimizers"][0]["param_groups"]]


@pytest.mark.slow
def test_a_trunk_is_prolonged_and_stopped_without_a_trace(
    training_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = {"schedule": "constant", "ema": 0.9, "batch": 2}
    straight = load_checkpoint(
        train(training_settings(training_pictures, steps=12, **trunk), tmp_path / "straight") / CHECKPOINT
    )
    pieces = tmp_path / "pieces"
    train(training_settings(training_pictures, steps=3, **trunk), pieces)  # within the warm-up
    _stopped_by_a_signal(4, monkeypatch, training_settings(training_pictures, steps=12, **trunk), pieces, "cpu", True)
    assert load_checkpoint(pieces / CHECKPOINT)["state"]["step"] == 7
    assert _rates(pieces)[0] == 1e-3
    continued = load_checkpoint(
        train(training_settings(training_pictures, steps=12, **trunk), pieces, resume=True) / CHECKPOINT
    )
    for part in ("network", "average", "optimizers"):
        assert_same(straight[part], continued[part])
    with pytest.raises(OptionError, match="no end"):
        training_settings(training_pictures, schedule="constant", patch=[64, 128])


@pytest.mark.slow
def test_a_decay_branches_off_and_leaves_the_trunk_alone(
    training_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = train(
        training_settings(training_pictures, steps=6, schedule="constant", ema=0.99, batch=2), tmp_path / "trunk"
    )
    before = {path: path.read_bytes() for path in trunk.rglob("*") if path.is_file()}
    options = {"decay": str(trunk), "steps": 8}
    config = effective_config(None, options, stored_settings(tmp_path / "branch", False, str(trunk)))
    assert (config.batch, config.ema, config.schedule, config.network) == (
        (2,),
        0.99,
        "constant",
        training_settings(training_pictures).network,
    )
    straight = load_checkpoint(train(config, tmp_path / "straight") / CHECKPOINT)
    # Where it starts: the trunk's weights, moments of the optimisers, counters and record.
    _stopped_by_a_signal(1, monkeypatch, config, tmp_path / "branch")
    first = load_checkpoint(tmp_path / "branch" / CHECKPOINT)
    assert first["state"]["step"] == 7
    assert first["optimizers"][0]["state"][0]["step"] == 7
    assert first["state"]["log"] == load_checkpoint(trunk / CHECKPOINT)["state"]["log"]
    assert _rates(tmp_path / "branch")[0] == 1e-3
    config = effective_config(None, {}, stored_settings(tmp_path / "branch", True, None))
    _stopped_by_a_signal(4, monkeypatch, config, tmp_path / "branch", "cpu", True)
    assert _rates(tmp_path / "branch")[0] == pytest.approx(1e-3 * (1 - 0.5**0.5))
    continued = load_checkpoint(train(config, tmp_path / "branch", resume=True) / CHECKPOINT)
    assert continued["state"]["step"] == 14
    assert continued["state"]["patches"] == 28
    assert _rates(tmp_path / "branch")[0] == pytest.approx(1e-3 * (1 - (7 / 8) ** 0.5))
    for part in ("network", "average", "optimizers"):
        assert_same(straight[part], continued[part])
    assert {path: path.read_bytes() for path in trunk.rglob("*") if path.is_file()} == before

    for wrong, message in (({"lambdas": 0.01}, "lambdas"), ({"optimizer": "soap"}, "optimizer")):
        with pytest.raises(OptionError, match=f"other settings [(]{message}"):
            train(training_settings(training_pictures, **options, **wrong), tmp_path / "other")
    with pytest.raises(OptionError, match=r"other settings [(]init"):
        train(training_settings(training_pictures, schedule="constant", init="lite"), trunk, resume=True)
    with pytest.raises(OptionError, match=r"fallen to 0\.0% already"):
        train(training_settings(training_pictures, decay=str(tmp_path / "branch")), tmp_path / "other")
    with pytest.raises(OptionError, match=r"other settings [(]decay"):
        train(training_settings(training_pictures, schedule="constant"), tmp_path / "branch", resume=True)
    with pytest.raises(OptionError, match="no optimiser state"):
        train(training_settings(training_pictures, decay=str(trunk / BEST)), tmp_path / "other")
    with pytest.raises(ModelFileError, match="no such checkpoint"):
        stored_settings(tmp_path / "other", False, str(training_pictures))
    with pytest.raises(OptionError, match="--minutes or --steps"):
        effective_config(None, {"decay": str(trunk)}, stored_settings(tmp_path / "other", False, str(trunk)))


def test_checkpoints_of_older_versions_are_continued_and_branched_off(training_pictures: Path, tmp_path: Path) -> None:
    """Those before schedules had starts, scores a measure, and precision more than two values."""
    train(training_settings(training_pictures, steps=2, batch=1), tmp_path / "old")
    saved = load_checkpoint(tmp_path / "old" / CHECKPOINT)
    del saved["train"]["precision"], saved["train"]["decay"], saved["state"]["start"], saved["state"]["measure"]
    saved["train"]["bf16"] = False
    del saved["reference"]
    for name in (CHECKPOINT, BEST):
        save_checkpoint(tmp_path / "old" / name, saved | {"state": saved["state"] | {"best": -9.0}})
    for options, stored, step in (
        ({"steps": 3}, stored_settings(tmp_path / "old", True, None), 3),
        ({"steps": 2, "decay": str(tmp_path / "old")}, stored_settings(tmp_path, False, str(tmp_path / "old")), 5),
    ):
        config = effective_config(None, options, stored)
        assert config.precision == "float32"
        run = train(config, tmp_path / ("new" if "decay" in options else "old"), resume=True)
        state = load_checkpoint(run / CHECKPOINT)["state"]
        assert state["step"] == step
        assert state["best"] == state["log"][-1]["score"]  # scores of another kind are not compared with


def test_a_decay_starts_at_the_learning_rate_patch_and_average_it_finds() -> None:
    cosine = TrainConfig(steps=100, patch=(64, 128), batch=(4, 2), final_fraction=0.0, warmup=0)
    state = schedule.branched_state(cosine, schedule.new_state() | {"step": 50, "seconds": 90.0, "best": 1.0})
    decay = TrainConfig(decay="there", minutes=1)
    assert schedule.progress(decay, state | {"seconds": 120.0}) == pytest.approx(0.5)
    rates = [schedule.rate_factor(decay, state, p) for p in (0.0, 0.25, 1.0)]
    assert rates == pytest.approx([0.5, 0.25, 0.0])
    assert state["best"] == float("inf")
    averages = [schedule.average_decay(decay, state | {"step": step}) for step in (50, 60, 10**6)]
    assert averages == pytest.approx([0.1, 0.55, 0.999])


def test_learning_rate_and_qualities_follow_their_settings() -> None:
    from dcae.networks.lite.config import LiteConfig
    from dcae.train.qualities import qualities_of

    def factor(config: TrainConfig, step: int, progress: float) -> float:
        return schedule.rate_factor(config, schedule.new_state() | {"step": step}, progress)

    cosine = TrainConfig(warmup=10, final_fraction=0.1)
    assert factor(cosine, 4, 0.0) == pytest.approx(0.5)
    assert [factor(cosine, 99, p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.55, 0.1])
    step = TrainConfig(warmup=0, schedule="step")
    assert [factor(step, 0, p) for p in (0.0, 0.79, 0.81)] == [1.0, 1.0, 0.1]
    constant = TrainConfig(warmup=10, schedule="constant")
    assert [factor(constant, step, p) for step, p in ((4, 0.0), (99, 0.5), (99, 1.0))] == [0.5, 1.0, 1.0]

    draws = np.linspace(0, 1, 1000, endpoint=False)
    quality, lambdas = qualities_of(LiteConfig(), draws, 1.0, "cpu")
    assert quality.mean() == pytest.approx(4.5, abs=0.01)
    assert lambdas[0] == pytest.approx(0.0009) and lambdas.log().mean() == pytest.approx(np.log(0.0102), abs=0.01)
    # The ends are trained as they are used: with all of the weight of what belongs to them.
    assert [(quality == end).float().mean().item() for end in (1, 8)] == pytest.approx([0.069, 0.069], abs=0.002)
    assert qualities_of(LiteConfig(), draws, 2.0, "cpu")[0].mean() < 3.5


def test_every_step_has_a_quality_in_every_part_of_the_range(
    training_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    honest = codec_task.qualities_of

    def remember(network: Any, draws: np.ndarray, *others: Any) -> Any:
        seen.append(draws)
        return honest(network, draws, *others)

    monkeypatch.setattr(codec_task, "qualities_of", remember)
    train(training_settings(training_pictures, steps=6, batch=5), tmp_path)
    assert [sorted((5 * draws).astype(int)) for draws in seen] == [[0, 1, 2, 3, 4]] * 6
    assert len({tuple((5 * draws).astype(int)) for draws in seen}) > 3
    assert len({draw % 0.2 for draws in seen for draw in draws}) == 30


def test_strata_do_not_depend_on_the_split_and_leave_each_draw_uniform() -> None:
    from dcae.train.qualities import in_strata

    draws = np.random.default_rng(0).random(6)
    whole = in_strata(draws, 3, 7, 0, 6)
    assert np.array_equal(whole, np.concatenate([in_strata(draws[k : k + 2], 3, 7, k, 6) for k in (0, 2, 4)]))
    assert not np.array_equal(whole, in_strata(draws, 4, 7, 0, 6))
    first = [in_strata(draws, 3, step, 0, 6)[0] for step in range(3000)]
    assert np.histogram(first, 6, (0, 1))[0] == pytest.approx(500, abs=100)  # five standard deviations


def test_gradients_are_clipped_at_ten_unless_told_otherwise(
    training_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []
    honest = torch.nn.utils.clip_grad_norm_

    def remember(parameters: Any, limit: float) -> Any:
        limits.append(limit)
        return honest(parameters, limit)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", remember)
    train(training_settings(training_pictures, steps=1), tmp_path / "default")
    train(training_settings(training_pictures, steps=1, clip=0.5), tmp_path / "told")
    assert limits == [10.0, 0.5]


def test_rough_patches_weigh_what_the_setting_says(
    training_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = torch.tensor([0.1, 1.0, 10.0], requires_grad=True)
    for power, shares in ((0.0, [1.0, 1.0, 1.0]), (0.5, [0.12**-0.5, 1.02**-0.5, 10.02**-0.5])):
        (gradient,) = torch.autograd.grad(relative(losses, power).sum(), losses)
        assert gradient.tolist() == pytest.approx(shares)
    (gradient,) = torch.autograd.grad(relative(losses, 1.0).sum(), losses)
    (logarithms,) = torch.autograd.grad((losses + 0.02).log().sum(), losses)
    assert torch.allclose(gradient, logarithms)

    asked = []
    monkeypatch.setattr(codec_task, "relative", lambda loss, power: asked.append(power) or relative(loss, power))
    train(training_settings(training_pictures, steps=1), tmp_path / "default")
    train(training_settings(training_pictures, steps=1, relative=0.5), tmp_path / "told")
    assert asked == [0.0, 0.5]


def test_speed_is_that_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on on another machine says at once how fast that is, whatever the hours before were."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    going = object.__new__(run.Run)
    going.state = {"patches": 80_000, "waited": 500.0}
    going._seen = deque([going._counted()])
    for _ in range(20):  # slow for 200 seconds
        clock[0] += 10
        going.state["patches"] += 20
        speed = going._speed()
    assert speed == pytest.approx((2, 0))
    for _ in range(12):  # fast for two minutes
        clock[0] += 10
        going.state["patches"] += 1000
        going.state["waited"] += 1
        speed = going._speed()
    assert speed == pytest.approx((100, 0.1)) and len(going._seen) < 10
