"""Inputs cleaned and standardized, and targets brought to unit scale, by a wrapper around the model."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from diag.prescribe.arguments import arguments
from diag.prescribe.patient import Patient
from diag.prescribe.remedy import SIGNAL, SLOW, STEP, Advice, Remedy, family
from diag.prescribe.scale import LARGEST, OFFSET, misfit
from diag.prescribe.several import several

PLACE = 90
"""Last: a wrapper changes the names of what is inside."""
ANSWERS = (*SIGNAL, *SLOW, *STEP)

_CLEANED = """import torch
from torch import nn


class Cleaned(nn.Module):
    def forward(self, x):
        return x.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


model = nn.Sequential(Cleaned(), model)
"""
_STANDARDIZED = """import torch
from torch import nn


class Standardize(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x):
        return (x - self.mean) / self.std


x = torch.cat([{inputs} for _, batch in zip(range(1000), batches)]).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
mean, std = x.double().mean({over}), x.double().std({over})
std = torch.where(std > 0, std, torch.ones_like(std))
standardize = Standardize(mean.to(x.dtype), std.to(x.dtype)).to(next(model.parameters()).device)
model = nn.Sequential(standardize, model)
"""
_RESCALED = """import torch
from torch import nn


class Rescaled(nn.Module):
    def __init__(self, model, mean, std):
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, *args, **kwargs):
        return self.model(*args, **kwargs) * self.std + self.mean


targets = torch.cat([batch[1] for _, batch in zip(range(1000), batches)])
model = Rescaled(model, targets.mean(), targets.std()).to(next(model.parameters()).device)
scale = float(targets.std()){power}


def loss_in_units(model, batch):
    return loss(model, batch) / scale
"""


@family("inputs")
def inputs(patient: Patient) -> Iterator[Remedy | Advice]:
    """NaN and infinities replaced, and the scale and the mean of the inputs taken out, as a whole or by feature."""
    if not patient.suffers(*ANSWERS):
        return
    if (given := arguments(patient)) is not None:
        yield from several(patient, given, ANSWERS, PLACE)
        return
    x = patient.inputs
    if x is None:
        return
    if not torch.isfinite(x).all():
        change = "Replace what is not finite in the inputs by 0."
        yield Remedy("inputs cleaned", "inputs", change, _CLEANED, STEP, direct=True, surgery=True, place=PLACE + 1)
        x = x.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    if (off := misfit(x)) is not None:
        name = "inputs standardized by feature" if off.by_feature else "inputs standardized"
        yield _standardized(patient, name, off.why, off.over)


def _standardized(patient: Patient, name: str, why: str, over: str) -> Remedy:
    return Remedy(
        name,
        "inputs",
        f"Subtract the inputs' mean and divide by their standard deviation ({why} now), in front of the model.",
        _STANDARDIZED.format(inputs=patient.input_code, over=over),
        ANSWERS,
        direct=True,
        surgery=True,
        place=PLACE,
    )


@family("targets")
def targets(patient: Patient) -> Iterator[Remedy | Advice]:
    """Outputs in the units of targets that are far from unit scale, and the loss in units of theirs."""
    y = patient.targets
    if y is None or not y.is_floating_point() or not patient.suffers(*STEP, *SIGNAL, *SLOW):
        return
    y = y.double()
    deviation = float(y.std())
    if not deviation > 0 or (1 / LARGEST**2 <= deviation <= LARGEST**2 and float(y.mean().abs()) <= OFFSET * deviation):
        return
    sites = patient.watched.trace.sites
    squared = bool((sites["op"] == "mse_loss").any())
    yield Remedy(
        "targets standardized",
        "targets",
        f"Let the model put out multiples of the targets' standard deviation, {deviation:.3g}, and scale its outputs.",
        _RESCALED.format(power=" ** 2" if squared else ""),
        (*STEP, *SIGNAL, *SLOW),
        direct=True,
        surgery=True,
        place=PLACE + 2,
        loss="loss_in_units",
    )
