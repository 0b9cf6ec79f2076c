"""Forget gates of LSTMs that are shut, opened."""

from __future__ import annotations

import math
from collections.abc import Iterator

from diag.prescribe.patient import Patient
from diag.prescribe.remedy import Advice, Remedy, family

ANSWERS = ("vanishing-gradient", "loss-not-decreasing")

_OPENED = """import torch
from torch import nn

with torch.no_grad():
    for layer in model.modules():
        if isinstance(layer, (nn.LSTM, nn.LSTMCell)):
            for name, bias in layer.named_parameters(recurse=False):
                if name.startswith("bias"):  # of four gates, the second forgets; its two biases are added
                    bias[layer.hidden_size : 2 * layer.hidden_size] = {bias} if "_ih" in name else 0.0
"""


@family("gates")
def gates(patient: Patient) -> Iterator[Remedy | Advice]:
    """A bias that keeps a state for as long as the sequence is: log(length - 1), of Tallec & Ollivier 2018, section 2,
    and 1 at the least, of Jozefowicz et al. 2015."""
    shut = patient.finding("vanishing-gradient", of="recurrence")
    if shut is None or not patient.watched.trace.coverage.get("forget_bias"):
        return
    bias = max(1.0, round(math.log(max(2, int(shut.evidence["length"]) - 1)), 1))
    change = f"Open the forget gates: give them a bias of {bias:g}."
    yield Remedy("forget gates opened", "gates", change, _OPENED.format(bias=bias), ANSWERS, direct=True, place=32)
