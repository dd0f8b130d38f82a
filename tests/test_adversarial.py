"""Training for looks: the discriminator beside the network, its checkpoints, and a codec whose latents stay."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from group_tasks import contest_gradients, discriminator_gradients, discriminator_of
from helpers import assert_same, synthetic_picture, training_settings
from safetensors.torch import load_file

from dcae.codec.codec import Codec
from dcae.errors import OptionError
from dcae.models.modelfile import CodingModel, load_model
from dcae.sr.protocol import resize
from dcae.sr.training.settings import SRSettings
from dcae.sr.training.task import SRTask
from dcae.train.adversarial import Features, contest
from dcae.train.checkpoint import BEST, CHECKPOINT, load_checkpoint
from dcae.train.config import TrainConfig
from dcae.train.export import export_checkpoint
from dcae.train.loop import train
from dcae.train.processes import Group, launch

LOOKS: dict[str, Any] = {"adversarial": "vanilla", "discriminator_width": 2, "discriminator_rate": 1e-3}
ALONE = Group(0, 1, "cpu")


def settings_of(data: Path, **changes: Any) -> SRSettings:
    """Of a run of seconds."""
    values: dict[str, Any] = {
        "data": str(data), "network": {"channels": 8, "depth": 1}, "patch": 32, "batch": 2, "steps": 4,
        "validation_pictures": 1, "precision": "float32", "warmup": 0,
    }  # fmt: skip
    return SRSettings.from_dict(values | LOOKS | changes)


def test_a_contest_is_won_by_higher_logits() -> None:
    zero, high = torch.zeros(3, 1), torch.tensor([[2.0], [4.0], [6.0]])
    assert contest(zero, None) == contest(zero, zero) == pytest.approx(math.log(2))
    assert contest(high, None) == pytest.approx(np.mean(np.log1p(np.exp([-2, -4, -6]))), abs=1e-6)
    # Of the relativistic one only differences count, from the mean of the other's.
    assert contest(high, zero) == pytest.approx(
        (np.log1p(np.exp([-2, -4, -6])).mean() + np.log1p(np.exp(-4))) / 2, abs=1e-6
    )
    assert contest(high + 9, zero + 9) == pytest.approx(float(contest(high, zero)), abs=1e-6)
    assert contest(zero, high) > math.log(2) > contest(high, zero)


@pytest.mark.parametrize("kind", ["vanilla", "relativistic"])
@pytest.mark.parametrize("discriminator", ["unet", "vgg"])
def test_each_player_has_a_loss_of_its_own(training_pictures: Path, kind: str, discriminator: str) -> None:
    config = settings_of(training_pictures, adversarial=kind, discriminator=discriminator, adversarial_weight=3.0)
    torch.manual_seed(1)
    task = SRTask(config, ALONE, None)
    batch, _ = task.batch(0, 0.0)
    losses = task.losses(batch, task.forward(task.network, batch))
    other = task._looks.discriminator
    assert other is not None
    weights = [p for p in task.network.parameters() if p.requires_grad]
    losses.main.backward()
    assert all(p.grad is None for p in other.parameters())
    before = [None if p.grad is None else p.grad.clone() for p in weights]
    losses.auxiliary.backward()
    assert_same(before, [p.grad for p in weights])
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in other.parameters())
    plain = SRTask(settings_of(training_pictures, adversarial="none"), ALONE, None)
    without = plain.losses(batch, task.forward(task.network, batch))
    for each in (task, plain):
        each.close()
    assert float(losses.main.detach()) == pytest.approx(
        float(without.main.detach() + 3 * losses.curves["adversarial"]), rel=1e-4
    )
    assert len(task.optimizers()) == 2 and len(plain.optimizers()) == 1


def test_the_discriminator_learns_to_tell_pictures_apart(training_pictures: Path) -> None:
    looks = discriminator_of(1)
    (optimizer,) = looks.optimizers()
    optimizer.param_groups[0]["lr"] = 5e-3
    found = []
    for step in range(40):
        torch.manual_seed(step)
        real = torch.rand(4, 3, 16, 16)
        _, loss = looks._contest(looks.discriminator, real, torch.nn.functional.avg_pool2d(real, 3, 1, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert found[0] == pytest.approx(math.log(2), abs=0.1) and found[-1] < 0.6 * found[0]


@pytest.mark.parametrize("discriminator", ["unet", "vgg"])
def test_a_run_in_pieces_is_the_run_in_one(tmp_path: Path, training_pictures: Path, discriminator: str) -> None:
    fields = {"discriminator": discriminator, "schedule": "constant"}
    straight = train(settings_of(training_pictures, **fields), tmp_path / "straight")
    for steps in (2, 4):
        pieces = train(settings_of(training_pictures, steps=steps, **fields), tmp_path / "pieces", resume=True)
    one, other = (load_checkpoint(folder / CHECKPOINT) for folder in (straight, pieces))
    for part in ("network", "average", "discriminator", "optimizers"):
        assert one[part]
        assert_same(one[part], other[part])
    with pytest.raises(OptionError, match=r"other settings \(adversarial\)"):
        train(settings_of(training_pictures, **fields | {"adversarial": "none"}), straight, resume=True)


def test_the_newest_weights_are_kept(tmp_path: Path, training_pictures: Path) -> None:
    """The pixels' error says nothing about looks."""
    run = train(settings_of(training_pictures, learning_rate=0.3, validate_every=1e-9, steps=3), tmp_path)
    best = load_checkpoint(run / BEST)
    assert best["state"]["step"] == 3 and not best["discriminator"]
    gains = [row["gain"] for row in best["state"]["log"]]
    assert gains[-1] < max(gains), "a step size that spoils the network"


def test_gradients_are_the_mean_of_all_processes(tmp_path: Path) -> None:
    launch(2, discriminator_gradients, tmp_path)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert_same(*found)
    for rank in (0, 1):
        alone = contest_gradients(discriminator_of(1), rank)
        found[0] = [both - own / 2 for both, own in zip(found[0], alone, strict=True)]
    for left, own in zip(found[0], alone, strict=True):
        assert left.abs().max() < 1e-4 * own.abs().max()


def test_features_are_the_codecs(tiny_path: Path) -> None:
    features = Features(str(tiny_path), "cpu")
    real = torch.from_numpy(resize.to_float(np.asarray(synthetic_picture(80, 72)))).permute(2, 0, 1)[None]
    made = (real + 0.05 * torch.randn_like(real)).requires_grad_(True)
    assert float(features.distance(real, real)) == 0
    distance = features.distance(made, real)
    distance.backward()
    distance = distance.detach()
    assert float(distance) > 0.01 and made.grad.abs().sum() > 0
    assert float(features.distance(real + 0.5 * (made.detach() - real), real)) < float(distance)


def test_of_a_codec_the_synthesis_alone_changes(
    tmp_path: Path, training_pictures: Path, tiny_path: Path, tiny_model: CodingModel
) -> None:
    pytest.importorskip("compressai", reason="training a codec needs compressai")
    values = {"lambdas": (), "init": str(tiny_path), "network": {}, "batch": 2, "learning_rate": 1e-2}
    values |= LOOKS | {"perceptual_weight": 0.1, "perceptual_model": str(tiny_path)}
    run = train(training_settings(training_pictures, **values), tmp_path / "run")
    path = export_checkpoint(run, tmp_path / "m.safetensors", {}).path
    with pytest.raises(OptionError, match="keeps the tables of"):
        export_checkpoint(run, tmp_path / "fitted.safetensors", {}, settings={"data": str(training_pictures)})
    for other in ({"lambdas": (0.01,)}, {"network": {"step_worth": 50.0}}):  # which no export could make a file of
        with pytest.raises(OptionError, match="changes nothing but the synthesis"):
            train(training_settings(training_pictures, **values | other), tmp_path / "other")
    before, after = load_file(tiny_path), load_file(path)
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed and all(name.startswith("network.g_s.") for name in changed)
    picture = synthetic_picture(70, 50)
    # Correcting brightness is the encoder's look at the decoded picture.
    codecs = [Codec(tiny_model), Codec(load_model(path))]
    files = [codec.encode(picture, 2, correct_means=False) for codec in codecs]
    one, other = (codec.decode_latents(file) for codec, file in zip(codecs, files, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip([one.z, *one.y], [other.z, *other.y], strict=True))
    assert len(files[0]) == len(files[1]) and codecs[0].decode(files[0]) != codecs[1].decode(files[1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"adversarial": "wgan"}, "unknown adversarial 'wgan'; known: none, vanilla, relativistic"),
        ({"discriminator": "vgg", "patch": (64, 128)}, "one size of patch"),
        ({"discriminator": "vgg", "patch": 24}, "one size of patch, a multiple of 16, got 24"),
        ({"adversarial_weight": -1}, "adversarial_weight must be in"),
        ({"discriminator_rate": 0}, "discriminator_rate must be positive"),
        ({"discriminator_width": 0}, "discriminator_width must be in"),
    ],
)
def test_bad_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SRSettings.from_dict(LOOKS | values)


def test_a_codec_from_scratch_is_refused(tmp_path: Path, training_pictures: Path) -> None:
    pytest.importorskip("compressai", reason="training a codec needs compressai")
    with pytest.raises(OptionError, match="goes on from a trained model"):
        train(TrainConfig.from_dict(training_settings(training_pictures).to_dict() | LOOKS), tmp_path)
