"""Run under `torchrun` (or alone) by test_train.py: trains without the rate's noise, which every process draws for
itself, so that two processes and one can be compared."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from compressai.entropy_models import EntropyModel

from dcae.train.config import TrainConfig
from dcae.train.loop import train

torch.set_num_threads(1)
original = EntropyModel.quantize


def noiseless(self, inputs, mode, means=None):  # type: ignore[no-untyped-def]
    return inputs if mode == "noise" else original(self, inputs, mode, means)


EntropyModel.quantize = noiseless
settings, out = sys.argv[1:]
train(TrainConfig.from_dict(json.loads(settings)), Path(out), resume=True)
