"""The bounds that make sums exact, each at its edge: the last number that is allowed, and the first that is not.

The numbers are written out, not imported: 2**24 is what float32 holds, 2047 the largest input of a map, 2048 the
largest component of a query, and a changed constant has to fail here.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from safetensors import safe_open

from dcae.entropy.exact_bounds import streams
from dcae.entropy.exact_export import _round_map
from dcae.entropy.exact_tensors import ExactTensors, check, maps, sites
from dcae.errors import ModelFileError
from dcae.models.modelfile import CodingModel
from dcae.networks.lite.wiring import LiteDCAE


class Subject:
    """A tiny network and its exact tensors, to be changed and checked."""

    def __init__(self, model: CodingModel) -> None:
        assert isinstance(model.network, LiteDCAE)
        self.network = copy.deepcopy(model.network)
        with safe_open(model.header.path, framework="numpy") as file:
            arrays = {name: np.array(file.get_tensor(f"exact.{name}")) for name in ExactTensors._fields}
        self.exact = ExactTensors(**{name: torch.from_numpy(array) for name, array in arrays.items()})
        self.maps = maps(self.network)
        self.fractions = dict(zip(sites(self.network), self.exact.fractions.tolist(), strict=True))

    def shifts(self, name: str) -> torch.Tensor:
        """The shifts of a map's rows, (rows,), as a view."""
        rows = [module.weight.shape[0] for module in self.maps.values()]
        return dict(zip(self.maps, self.exact.shifts.split(rows), strict=True))[name]

    def set_row(self, name: str, integers: list[int], bias: int) -> None:
        """Make the first row of a map these integers and zeros, and its bias this integer."""
        module, shift = self.maps[name], int(self.shifts(name)[0])
        row = module.weight[0].view(-1)
        row.zero_()
        row[: len(integers)] = torch.tensor(integers) / 2.0**shift
        if module.bias is not None:
            module.bias[0] = bias / 2.0 ** (shift + self.fractions[name])

    def check(self) -> None:
        check(self.network, self.exact)

    def refused(self, message: str) -> None:
        with pytest.raises(ModelFileError, match=message):
            self.check()


@pytest.fixture
def subject(tiny_model: CodingModel) -> Subject:
    return Subject(tiny_model)


def test_weights_of_every_map(tiny_model: CodingModel) -> None:
    """2047 * 8196 + 4 is 2**24."""
    for name, module in Subject(tiny_model).maps.items():
        subject = Subject(tiny_model)
        subject.set_row(name, [-8000, 196], 4)
        subject.check()
        message = f"the weights of {name} are too large for exact sums"
        if module.bias is not None:
            for bias in (5, -5):
                subject.set_row(name, [-8000, 196], bias)
                subject.refused(message)
        subject.set_row(name, [8000, -197], 0)
        subject.refused(message)


def test_grids_of_the_maps_that_make_the_state(tiny_model: CodingModel) -> None:
    """Weights and inputs together have one bit more than the state."""
    streaming = [name for name in Subject(tiny_model).maps if streams(name)]
    assert len(streaming) > 10
    for name in streaming:
        subject = Subject(tiny_model)
        for bits, refused in ((13, False), (12, True)):
            subject.shifts(name)[0] = bits - subject.fractions[name]
            subject.set_row(name, [1, -1], 1)
            if refused:
                subject.refused(f"the weights of {name} are too coarse")
            else:
                subject.check()


@torch.no_grad()
def test_export_refuses_what_loading_would() -> None:
    """A weight of 1 becomes 1024 / 2**10, so that inputs of 3 fractional bits make 13 in all."""
    layer = torch.nn.Linear(1, 1)
    layer.weight.fill_(1.0)
    assert _round_map(layer, 3, True, 16).tolist() == [10]
    assert _round_map(layer, 2, False, 16).tolist() == [10]
    with pytest.raises(ModelFileError, match="too large for exact arithmetic"):
        _round_map(layer, 2, True, 16)


def test_heads_and_the_scale_offsets(subject: Subject) -> None:
    name = next(name for name in subject.maps if name.endswith(".head"))
    subject.exact.gain_shifts[3] = subject.fractions[name] + 4
    for apart in (16, -16, 17, -17):
        subject.shifts(name)[0] = 4 + apart
        subject.set_row(name, [1], 1)
        if abs(apart) == 16:
            subject.check()
        else:
            subject.refused(f"the weights of {name} do not fit the scale offsets")


@pytest.mark.parametrize("sign", [1, -1])
def test_keys(subject: Subject, sign: int) -> None:
    """2048 * 8192 is 2**24."""
    keys = subject.exact.keys[1, 3]
    keys[:16] = 0
    keys[0], keys[1] = sign * 8000, 192
    subject.check()
    keys[1] = 193
    subject.refused("keys are too large for exact sums")


def test_dictionary_as_values(subject: Subject) -> None:
    """(4096 + 8 / 2) * 4092 is just below 2**24: 8 entries, each weight of the softmax rounded by half at most."""
    one = 2.0 ** -int(subject.exact.value_shift)
    subject.network.dictionary[2, 1] = -4092 * one
    subject.check()
    subject.network.dictionary[2, 1] = 4093 * one
    subject.refused("dictionary is not on its grid, or too large")
    subject.network.dictionary[2, 1] = 0.5 * one
    subject.refused("dictionary is not on its grid, or too large")


def test_exponentials(subject: Subject) -> None:
    """8 * 2097152 is 2**24."""
    table = subject.exact.exponentials
    table[0] = 2097152
    table[-1] = 0
    subject.check()
    table[0] = 2097153
    subject.refused("exponentials is out of range")
    table[0] = 1
    subject.check()
    table[0] = 0
    subject.refused("exponentials begins with nothing")
    table[0], table[-1] = 1, -1
    subject.refused("exponentials is out of range")


def test_gain_tables(subject: Subject) -> None:
    for sign in (1, -1):
        subject.exact.gains[0, 0] = sign * 2**20
        subject.check()
        subject.exact.gains[0, 0] = sign * (2**20 + 1)
        subject.refused("gain table is out of range")
        subject.exact.gains[0, 0] = 0


def test_shifts(subject: Subject) -> None:
    """Those of the keys, which no other bound holds."""
    subject.exact.key_shifts[0, 0, :2] = torch.tensor([-16, 24], dtype=torch.int8)
    subject.check()
    for shift in (-17, 25):
        subject.exact.key_shifts[0, 0, 0] = shift
        subject.refused("exact.key_shifts is out of range")
