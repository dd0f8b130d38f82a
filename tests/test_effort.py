"""The encoder's search: files that are ordinary, better by what they are measured by, and the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import synthetic_picture
from numpy.typing import NDArray
from PIL import Image

import dcae
from dcae.cli import main
from dcae.codec import effort as effort_module
from dcae.codec.codec import Codec
from dcae.codec.effort import EFFORTS, STEPS, effort_or_default, roi_of
from dcae.errors import OptionError, PictureError
from dcae.networks.registry import config_from_dict
from dcae.runtime.protocol import Trial
from dcae.runtime.search import tried

torch = pytest.importorskip("torch")

from dcae.runtime.torch_search import LatentSearch, _bits, soft_round  # noqa: E402


def _cost(codec: Codec, data: bytes, picture: Image.Image, quality: float) -> float:
    error = np.asarray(picture, float) - np.asarray(codec.decode(data), float)
    return codec.config.lambda_of(quality) * float((error**2).mean()) * error[..., 0].size + 8 * len(data)


@pytest.fixture(scope="module", params=["plain", "closed loop"])
def codecs(request: pytest.FixtureRequest, tiny_path: Path, looped_path: Path) -> dict[str, Codec]:
    """By the name of the engine."""
    path = tiny_path if request.param == "plain" else looped_path
    return {engine: Codec(path, engine=engine) for engine in ("torch", "onnx")}


@pytest.fixture(scope="module", params=["torch", "onnx"])
def codec(request: pytest.FixtureRequest, codecs: dict[str, Codec]) -> Codec:
    return codecs[request.param]


@pytest.mark.parametrize("quality", [1, 4.5, 8])
def test_effort_lowers_the_cost_and_never_raises_it(codec: Codec, quality: float) -> None:
    picture = synthetic_picture(150, 100)
    costs = [_cost(codec, codec.encode(picture, quality, effort=effort), picture, quality) for effort in EFFORTS]
    assert all(cost <= costs[0] for cost in costs[1:])
    if quality == 8:
        assert min(costs) < 0.995 * costs[0]


def test_the_same_file_every_time(codec: Codec) -> None:
    picture = synthetic_picture(150, 100)
    for effort in (1, 3):
        files = {codec.encode(picture, 6, effort=effort) for _ in range(2)}
        assert len(files) == 1
        with torch.autocast("cpu", torch.bfloat16):
            assert codec.encode(picture, 6, effort=effort) in files


def test_a_search_that_makes_it_worse_is_dropped(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = synthetic_picture(150, 100)
    plain = codec.encode(picture, 4)
    monkeypatch.setattr(codec.engine, "search_latents", lambda x, y, *rest: y + 3)
    assert codec.encode(picture, 4, effort=1) == plain


def test_large_pictures_are_searched_in_parts(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    picture, sizes = synthetic_picture(300, 200), []
    whole = _cost(codec, codec.encode(picture, 8, effort=1), picture, 8)
    plain = _cost(codec, codec.encode(picture, 8), picture, 8)
    search = codec.engine.search_latents

    def watched(x: NDArray[np.float32], y: NDArray[np.float32], z: NDArray[np.float32], *rest) -> NDArray[np.float32]:  # type: ignore[no-untyped-def]
        assert x.shape[-2:] == (16 * y.shape[-2], 16 * y.shape[-1]) == (64 * z.shape[-2], 64 * z.shape[-1])
        sizes.append(x.shape[-2:])
        return search(x, y, z, *rest)

    monkeypatch.setattr(codec.engine, "search_latents", watched)
    monkeypatch.setattr(effort_module, "PART", 128)
    parts = _cost(codec, codec.encode(picture, 8, effort=1), picture, 8)
    assert sizes == [(rows, columns) for rows in (192, 256) for columns in (192, 256, 256)]
    assert abs(parts - whole) < 0.2 * (plain - whole)


@pytest.mark.parametrize(("effort", "similar"), [(1, False), (2, False), (4, False), (2, True), (3, True)])
def test_engines_find_the_same(codecs: dict[str, Codec], effort: int, similar: bool) -> None:
    """As far as float32 goes: what rounding decides otherwise here and there is left out of the comparison."""
    first = codecs["torch"]
    x = np.asarray(synthetic_picture(192, 128), np.float32).transpose(2, 0, 1)[None] / 255
    weights = np.ones((1, 1, 128, 192), np.float32)
    weights[..., 150:] = 0 if similar else 0.25
    for quality in (1, 5.5):
        y = first.engine.analysis(x, quality)[:, : first.config.latent_channels - first.config.skip_channels]
        z_hat = np.rint(first.engine.hyper_analysis(y, quality) - first.engine.z_median) + first.engine.z_median
        found = [
            codec.engine.search_latents(x, y, z_hat.astype(np.float32), quality, weights, STEPS[effort], similar)
            for codec in codecs.values()
        ]
        assert np.abs(found[0] - y).mean() > 0.01
        difference = np.abs(found[0] - found[1])
        assert np.quantile(difference, 0.95) < 1e-4 * effort, difference.max()


def test_padding_does_not_count(codecs: dict[str, Codec]) -> None:
    """Whatever lies under the padding, the gradient is that of the picture's own errors."""
    network = codecs["torch"].engine.model.network  # type: ignore[attr-defined]
    x = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    weights = torch.ones(1, 1, 64, 128)
    weights[..., 100:] = 0
    other = x.clone()
    other[..., 100:] = 0.5
    with torch.enable_grad():
        y = network.analysis(x, network.conditioning(8.0))
        z_hat = network.hyper_analysis(y, network.conditioning(8.0)).round()
        values = [LatentSearch(network, picture, z_hat, 8.0, weights).objective(y, 0.2)[0] for picture in (x, other)]
    if not network.closed_loop:  # which codes what is left of the padding as well
        assert float(values[0]) == float(values[1])
    assert torch.isfinite(torch.stack(values)).all()


def test_soft_rounding() -> None:
    x = torch.linspace(-3.2, 3.3, 300, dtype=torch.float64)
    assert float((soft_round(x, 0.01) - x.round()).abs().mean()) < 0.02
    assert float((soft_round(x, 100.0) - x).abs().max()) < 1e-4
    assert bool((soft_round(x, 0.2).diff() >= 0).all())


def test_bits_are_those_of_the_gaussian() -> None:
    symbols = torch.arange(-4, 5, dtype=torch.float64)
    sigma = torch.tensor(1.3, dtype=torch.float64)
    steps = torch.linspace(-0.5, 0.5, 20_001, dtype=torch.float64)
    density = torch.distributions.Normal(0.0, sigma).log_prob(symbols[:, None] + steps).exp().mean(1)
    np.testing.assert_allclose(_bits(symbols, sigma), -density.log2(), rtol=1e-5)


def test_efforts_that_there_are_not(codec: Codec) -> None:
    for effort in (-1, 5, 1.5, True, None):
        with pytest.raises(OptionError, match="effort must be"):
            codec.encode(synthetic_picture(8, 8), effort=effort)  # type: ignore[arg-type]


def _problem(codec: Codec, quality: float) -> tuple[LatentSearch, NDArray[np.float32]]:
    """The search's problem of a picture, and its latents."""
    engine = codec.engine
    x = np.asarray(synthetic_picture(192, 128), np.float32).transpose(2, 0, 1)[None] / 255
    y = engine.analysis(x, quality)[:, : codec.config.latent_channels - codec.config.skip_channels]
    z_hat = torch.from_numpy(np.rint(engine.hyper_analysis(y, quality) - engine.z_median) + engine.z_median).float()
    network = engine.model.network  # type: ignore[attr-defined]
    return LatentSearch(network, torch.from_numpy(x), z_hat, quality, torch.ones(1, 1, 128, 192)), y


def test_what_moves_say_comes_true(codecs: dict[str, Codec]) -> None:
    """The mean of the gradients before and after, times the change, and the symbols' own bits, are what it did to J."""
    if codecs["torch"].engine.closed_loop:
        pytest.skip("it mends some of what changes do, which gradients do not know")
    with torch.enable_grad():
        problem, y = _problem(codecs["torch"], 6)
        before, draw = problem.moves(y, True), np.random.RandomState(0)
        assert np.array_equal(problem.moves(before.means + before.symbols, True).symbols, before.symbols)
        for _ in range(3):
            change = np.where(draw.random_sample(y.shape) < 0.02, draw.randint(0, 2, y.shape) * 2 - 1, 0)
            after = problem.moves(before.symbols + change.astype(np.float32), False)
            said = float(((before.gradient + after.gradient) / 2 * change).sum())
            said += float(before.up[change > 0].sum() + before.down[change < 0].sum())
            assert abs(after.value - before.value) > 100
            assert said == pytest.approx(after.value - before.value, rel=0.1)


def test_trials_keep_what_was_worth_it(codecs: dict[str, Codec]) -> None:
    with torch.enable_grad():
        problem, y = _problem(codecs["torch"], 6)
        curvature, values = problem.curvature(torch.from_numpy(y)).numpy(), [problem.moves(y, True).value]
        for count in (1, 4):
            values.append(problem.moves(tried(problem, y, curvature, [Trial(0.5)] * count), True).value)
    assert values[2] < values[1] < 0.995 * values[0]


def test_errors_count_as_the_mask_says(codec: Codec) -> None:
    picture = synthetic_picture(200, 120)
    mask = np.zeros((120, 200), np.uint8)
    mask[:, :64] = 255
    data = [codec.encode(picture, 8, effort=2, roi=roi) for roi in (None, np.full_like(mask, 255), mask)]
    assert data[0] == data[1] and len(data[2]) < len(data[0])
    error = [np.square(np.asarray(picture, float) - np.asarray(codec.decode(file), float)) for file in data]
    assert error[2][:, :48].mean() < 1.05 * error[0][:, :48].mean()
    assert error[2][:, 80:].mean() > error[0][:, 80:].mean()


def test_masks_that_are_none(codec: Codec) -> None:
    picture = synthetic_picture(30, 20)
    with pytest.raises(OptionError, match=r"the mask .* is 20x30 of uint8, the picture 30x20"):
        codec.encode(picture, effort=1, roi=np.zeros((30, 20), np.uint8))
    with pytest.raises(OptionError, match="needs an effort"):
        codec.encode(picture, effort=0, roi=np.zeros((20, 30), np.uint8))


def test_masks_are_gray_pictures(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dcae
    from dcae.cli import main

    monkeypatch.chdir(tmp_path)
    picture = synthetic_picture(200, 120)
    picture.save("a.png")
    mask = Image.new("L", picture.size)
    mask.paste(255, (0, 0, 64, 120))
    mask.convert("RGB").save("mask.png")
    expected = Codec(tiny_path).encode(picture, 8, effort=2, roi=np.asarray(mask))
    assert dcae.encode(picture, 8, model=tiny_path, fallback=False, roi="mask.png") == expected
    command = ["encode", "a.png", "-q", "8", "--no-fallback", "--model", str(tiny_path), "--roi"]
    assert CliRunner().invoke(main, [*command, "mask.png"]).exit_code == 0
    assert Path("a.dcae").read_bytes() == expected
    for wrong, said in (("missing.png", "missing.png: no such file"), (str(tiny_path), "not a picture")):
        done = CliRunner().invoke(main, [*command, wrong, "--force"])
        assert done.exit_code == 1 and said in done.stderr
    assert Path("a.dcae").read_bytes() == expected


@pytest.mark.filterwarnings("ignore:the model does badly")
def test_by_default_there_are_two_steps(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of functions, of the command and in Pillow; of a codec none."""
    import dcae
    import dcae.pillow
    from dcae.cli import main

    monkeypatch.chdir(tmp_path)
    picture, codec = synthetic_picture(60, 50), Codec(tiny_path)
    expected, plain = (codec.encode(picture, 8, effort=effort) for effort in (2, 0))
    assert expected != plain == codec.encode(picture, 8) == dcae.encode(picture, 8, model=tiny_path, effort=0)
    assert dcae.encode(picture, 8, model=tiny_path) == expected
    picture.save("a.dcae", quality=8, model=tiny_path)
    picture.save("b.png")
    CliRunner().invoke(main, ["encode", "b.png", "-q", "8", "--model", str(tiny_path)], catch_exceptions=False)
    assert Path("a.dcae").read_bytes() == Path("b.dcae").read_bytes() == expected
    assert effort_or_default(None, config_from_dict({"preset": "paper"})) == 0


@pytest.mark.slow
def test_other_presets_are_searched_too() -> None:
    """With the wiring of `paper`, and weights that are none: nothing of the search knows a preset."""
    pytest.importorskip("compressai")
    from dcae.models.export import coding_model
    from dcae.networks.registry import build_model

    torch.manual_seed(0)
    codec = Codec(coding_model(build_model("paper")))
    picture = synthetic_picture(70, 64)
    costs = [_cost(codec, codec.encode(picture, 1, effort=effort), picture, 1) for effort in (0, 2)]
    assert costs[1] < 0.99 * costs[0]


def test_masks_are_as_large_as_pictures_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture = synthetic_picture(64, 64)
    picture.save("photo.png")
    Image.new("L", (64, 64), 255).save("mask.png")
    Image.new("L", (256, 256)).save("large.png")
    with pytest.raises(PictureError, match=r"^the mask \(roi\): .*large.png: 256x256 pixels, .* the limit of 4096;"):
        dcae.encode(picture, roi="large.png", max_pixels=4096)
    with pytest.raises(PictureError, match=r"^the mask \(roi\): not a picture"):
        dcae.encode(picture, roi=b"junk")
    # Pillow's limit is not above ours on the command line.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    run = CliRunner().invoke(main, ["encode", "photo.png", "--roi", "mask.png", "--max-pixels", "100000"])
    assert run.exit_code == 0, run.output


def test_masks_of_16_bits_and_wrong_kinds(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert roi_of(tmp_path / "deep.png").tolist() == [[0, 1, 255]]
    codec = Codec("lite")
    assert codec.encode(synthetic_picture(16, 16), effort=np.int64(1)) == codec.encode(
        synthetic_picture(16, 16), effort=1
    )
    for options in ({"effort": 2.0}, {"effort": 1, "roi": [[1]]}, {"quality": "4"}, {"quality": True},
                    {"preparation": None}):  # fmt: skip
        with pytest.raises(OptionError):
            codec.encode(synthetic_picture(16, 16), **options)  # type: ignore[arg-type]
