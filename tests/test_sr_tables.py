"""Enlarging by look-up: equal to the published programs, exact whatever the tile, checked against a slow look-up."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lut_golden import ROWS, SMALL, golden_case
from numpy.typing import NDArray

from dcae.errors import OptionError
from dcae.networks.registry import any_config
from dcae.sr.tables.config import PUBLISHED, TableConfig, published_config
from dcae.sr.tables.engine import TableEngine, rounded_quotient
from dcae.sr.tables.layout import grid, near_diagonal, table_bytes, tensor_layouts
from dcae.sr.tables.lookup import BIAS, lane_bits

CASES = [
    "srlut_S_x4_interval4", "srlut_S_x2_interval4", "srlut_S_x3_interval6", "srlut_F_x4_interval4",
    "srlut_V_x2_interval0", "mulut_sdy_x4", "mulut_sdy_x2", "mulut_s_x3", "spf_dfc_sdy_x4", "spf_dfc_s_x2",
    "autolut_spf_s_x4_k5", "autolut_spf_sd_x2_k3",
]  # fmt: skip


def _picture(case: str, golden: Any) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = golden["picture_small" if "spf" in case else "picture"]
    return pixels


def _check(case: str, found: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> None:
    if not case.startswith("autolut"):
        np.testing.assert_array_equal(found, wanted)
        return
    # The published program averages in float32, which differs between machines.
    difference = abs(found.astype(int) - wanted)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 3e-4


@pytest.mark.parametrize("case", CASES)
def test_synthetic_tables_enlarge_as_the_published_programs_do(case: str) -> None:
    golden = np.load(SMALL)
    found = TableEngine(*golden_case(f"synthetic/{case}"))(_picture(case, golden))
    _check(case, found[ROWS], golden[f"synthetic/{case}"])


@pytest.mark.parametrize("case", CASES)
def test_so_does_every_row(case: str, shared: Path) -> None:
    golden = np.load(shared / "reference" / "sr" / "lut-golden.npz")
    found = TableEngine(*golden_case(f"synthetic/{case}"))(_picture(case, golden))
    _check(case, found, golden[f"synthetic/{case}"])


def _random(config: TableConfig, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Tables of anything, samplers of even weights."""
    rng, found = np.random.default_rng(seed), {}
    for name, (dtype, shape) in tensor_layouts(config).items():
        if name.startswith("tables."):
            found[name] = rng.integers(-128, 128, shape, np.int8)
        elif name.startswith("samplers."):
            found[name] = np.zeros(shape, dtype)
            found[name][:, 0, -1] = 1 << 24
        else:
            found[name] = rng.integers(0, 1 << 24, shape).astype(dtype)
    return found


@pytest.mark.parametrize(
    ("name", "settings"),
    [(name, {}) for name in PUBLISHED]
    + [("mulut-autolut", {"rounding": "once"}), ("spflut", {"rounding": "once"}), ("mulut", {"units": ("s", "y")})],
)
@pytest.mark.parametrize("tile", [1, 37, 400])
def test_tiles_leave_no_trace(name: str, settings: dict[str, Any], tile: int) -> None:
    config = published_config(name, 2, **settings)
    upscaler = TableEngine(config, _random(config))
    picture = np.random.default_rng(1).integers(0, 256, (9, 14, 1) if tile == 1 else (23, 41, 2), np.uint8)
    np.testing.assert_array_equal(upscaler(picture, tile), upscaler(picture, 10**6))


def _slowly(table: NDArray[np.int8], values: tuple[int, ...], interval: int) -> list[Fraction]:
    """Interpolation by its definition: a point is the mean of the vertices of its simplex, which lie on the way from
    the base along the largest fraction first."""
    count, q = 2 ** (8 - interval) + 1, 2**interval
    vertex, fractions = [v // q for v in values], [v % q for v in values]
    order = sorted(range(len(values)), key=lambda k: -fractions[k])
    steps = [q, *(fractions[k] for k in order), 0]
    total = [Fraction(0)] * table.shape[1]
    for k in range(len(values) + 1):
        index = int(np.ravel_multi_index(vertex, (count,) * len(values))) if steps[k] - steps[k + 1] else 0
        weight = Fraction(steps[k] - steps[k + 1], q)
        total = [t + weight * int(x) for t, x in zip(total, table[index], strict=True)]
        if k < len(values):
            vertex[order[k]] += 1
    return total


@pytest.mark.parametrize(("unit", "interval"), [("s", 4), ("s", 7), ("s", 8), ("f", 5), ("v", 0), ("v", 3)])
def test_a_lookup_is_the_mean_of_the_vertices_of_a_simplex(unit: str, interval: int) -> None:
    """And a stage as the papers say it: rotate the picture, look up, rotate the result back."""
    config = TableConfig(scale=2, stages=("up",), units=(unit,), interval=interval, padding="edge")
    tensors = _random(config, 3)
    rng = np.random.default_rng(2)
    picture = rng.choice([0, 1, 15, 16, 17, 31, 127, 128, 254, 255, *rng.integers(0, 256, 30)], (7, 8)).astype(np.uint8)
    found = TableEngine(config, tensors)(picture)
    (table,) = tensors.values()
    offsets = {"s": [(0, 0), (0, 1), (1, 0), (1, 1)], "f": [(0, 0), (0, 1), (0, 2)], "v": [(0, 0), (0, 1)]}[unit]
    wanted = np.zeros((14, 16))
    for turns in range(4):
        turned = np.rot90(picture, turns)
        padded = np.pad(turned, (0, 2), "edge")
        large = np.zeros((2 * turned.shape[0], 2 * turned.shape[1]))
        for i, j in itertools.product(*map(range, turned.shape)):
            cell = _slowly(table, tuple(int(padded[i + a, j + b]) for a, b in offsets), interval)
            large[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = np.array([float(x) for x in cell]).reshape(2, 2)
        wanted += np.rot90(large, -turns)
    np.testing.assert_array_equal(found, np.rint(wanted.clip(0, 255)))


def test_tables_near_the_diagonal_are_read_there_alone() -> None:
    config = TableConfig(scale=1, stages=("up",), units=("s",), diagonal=2)
    tensors = {name: np.zeros(layout.shape, np.int8) for name, layout in tensor_layouts(config).items()}
    tensors["tables.stage1.channel0.unit0.diagonal"][:] = 20
    tensors["tables.stage1.channel0.unit0.coarse"][:] = 10
    upscale = TableEngine(config, tensors)
    assert (upscale(np.array([[100, 132]], np.uint8)) == 80).all()  # 32 grey levels are near
    far = upscale(np.array([[100, 133]], np.uint8))
    assert (far == [[60, 60]]).all()  # half of the rotations look at the pixel and copies of it alone
    assert len(near_diagonal(config)) == 1807


def test_reading_is_exact_at_the_limits_of_lanes() -> None:
    """Sums of the largest and of the smallest numbers do not run into the neighbouring lane."""
    for value, pixel in ((127, 255), (-128, 0)):
        config = TableConfig(scale=3, stages=("up",), units=("s", "d", "y", "e"), order="srlut", interval=8)
        tensors = {name: np.full(layout.shape, value, np.int8) for name, layout in tensor_layouts(config).items()}
        for table in tensors.values():
            table[:, ::2] = 1
        found = TableEngine(config, tensors)(np.random.default_rng(0).integers(0, 256, (6, 6), np.uint8))
        # Rotations put 127 and 1 into each place of a cell alike, but for the middle one.
        assert set(np.unique(found[1::3, 0::3])) == {pixel}
        assert set(np.unique(found[1::3, 1::3])) == {4}
    assert [lane_bits(n) for n in (257, 258, 1 << 24, 1 << 25)] == [16, 32, 32, 64]
    assert 257 * (2 * BIAS - 1) == 2**16 - 1


def test_halves_are_rounded_to_even() -> None:
    numerators = np.arange(-600, 600)
    for divisor in (1, 2, 3, 7, 12, 192):
        wanted = [round(Fraction(int(n), divisor)) for n in numerators]
        np.testing.assert_array_equal(rounded_quotient(numerators, divisor), wanted)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1, 3), (2, 2, 4)])
@pytest.mark.parametrize("name", ["srlut-s", "mulut", "spf-light"])
def test_pictures_of_every_shape(name: str, shape: tuple[int, ...]) -> None:
    config = published_config(name, 3)
    found = TableEngine(config, _random(config))(np.full(shape, 77, np.uint8))
    assert found.shape == (3 * shape[0], 3 * shape[1], *shape[2:])
    # A flat picture stays flat, but for the pattern of a cell.
    assert (found == np.tile(found[:3, :3], (shape[0], shape[1], *(1 for _ in shape[2:])))).all()


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint16), np.zeros(5, np.uint8), np.zeros((0, 4), np.uint8)])
def test_arrays_that_are_no_pictures_are_refused(picture: NDArray[Any]) -> None:
    config = published_config("srlut-v", 2)
    with pytest.raises(OptionError, match="must be HxW or HxWxC bytes"):
        TableEngine(config, _random(config))(picture)


def test_sizes_are_those_of_the_papers() -> None:
    """Megabytes of 2^20 bytes at x4, without samplers."""
    sizes = {name: table_bytes(published_config(name, 4)) / 2**20 for name in PUBLISHED}
    published = {
        "srlut-v": 1.008, "srlut-f": 0.075, "srlut-s": 1.274, "mulut": 4.062, "mulut-dfc": 0.407, "spflut": 17.284,
        "spflut-dfc": 2.018,
    }  # fmt: skip
    for name, size in published.items():
        assert abs(sizes[name] - size) < 6e-4, name
    assert 0.885 < sizes["spf-light"] < 0.91
    assert published_config("mulut", 4).halo == 4
    assert published_config("spflut", 4).halo == 10
    assert published_config("spf-light", 4).halo == 20


def test_nodes_end_at_255() -> None:
    assert grid(4, 2)[:18].tolist() == [[0, 16 * k] for k in range(16)] + [[0, 255], [16, 0]]


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": 0}, {"scale": 2.0}, {"scale": True}, {"stages": ()}, {"stages": ("up", "up")}, {"stages": ("pass",)},
        {"stages": ("split", "up")}, {"stages": ("keep", "pass", "up")}, {"stages": ("mix", "up")},
        {"stages": ("keep", "mix", "up")}, {"stages": ("split",) * 4 + ("keep", "mix", "up")}, {"stages": ["up"]},
        {"stages": ("pass",) * 8 + ("up",)}, {"stages": "up"}, {"units": ()}, {"units": ("s", "f")}, {"units": ("S",)},
        {"units": ("s",) * 5}, {"units": (1,)}, {"interval": 3}, {"interval": 9}, {"interval": -1},
        {"padding": "wrap"}, {"rounding": "never"}, {"sampler": 1}, {"sampler": 9}, {"diagonal": 9},
        {"diagonal": 2, "coarse": 4}, {"diagonal": 2, "coarse": 9}, {"order": "srlut", "sampler": 3},
        {"units": ("v",), "residual": True}, {"order": "none"}, {"diagonal": -1}, {"sampler": -3},
    ],
)  # fmt: skip
def test_configurations_that_fit_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        TableConfig(**settings)


def test_configurations_survive_json() -> None:
    for name in PUBLISHED:
        config = published_config(name, 3)
        assert any_config(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(OptionError, match="unknown fields of preset tables: depth"):
        any_config({"preset": "tables", "depth": 1})
    with pytest.raises(OptionError, match="unknown method 'lut'"):
        published_config("lut", 2)
