"""Weights of half precision, in which small gradients and updates are lost, brought to single precision."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from diag.prescribe.patient import Patient
from diag.prescribe.remedy import SIGNAL, SLOW, STEP, Advice, Remedy, family

PLACE = 93
"""After what else wraps the model."""
ANSWERS = (*STEP, *SLOW, *SIGNAL, "missing-gradient")

_WIDENED = """import torch
from torch import nn


def widened(value):
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: widened(one) for key, one in value.items()}
    return type(value)(map(widened, value)) if type(value) in (list, tuple) else value


class Float32(nn.Module):  # in your own code: no model.half(), and torch.autocast around the forward pass
    def __init__(self, model):
        super().__init__()
        self.model = model.float()

    def forward(self, *args, **kwargs):
        return self.model(*widened(args), **widened(kwargs))


model = Float32(model)
for p, state in optimizer.state.items():
    optimizer.state[p] = widened(state)
"""


@family("precision")
def precision(patient: Patient) -> Iterator[Remedy | Advice]:
    """Weights in float32 where they are in half precision."""
    kinds = {p.dtype for p in patient.model.parameters()} & {torch.float16, torch.bfloat16}
    if not kinds or patient.optimizer is None or not patient.suffers(*ANSWERS):
        return
    names = " and ".join(sorted(str(one).removeprefix("torch.") for one in kinds))
    yield Remedy(
        "weights in float32",
        "precision",
        f"Keep the weights in float32: they are {names}, and what is smaller than that can hold is lost.",
        _WIDENED,
        ANSWERS,
        direct=True,
        surgery=True,
        place=PLACE,
    )
