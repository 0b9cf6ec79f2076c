"""Inputs of a model that takes several, cleaned and standardized, each by its own statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from diag.prescribe.arguments import Argument
from diag.prescribe.patient import Patient
from diag.prescribe.remedy import STEP, Advice, Remedy
from diag.prescribe.scale import Misfit, misfit

_CLEANED = """from torch import nn


class Cleaned(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *args, **kwargs):
        given = {{**dict(enumerate(args)), **kwargs}}
        for key in {keys}:
            given[key] = given[key].nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        args = [given.pop(at) for at in range(len(args))]
        return self.model(*args, **given)


model = Cleaned(model)
"""
_STANDARDIZED = """import torch
from torch import nn


class Standardize(nn.Module):  # each input by its own statistics; integers, and what is in scale, as they are
    def __init__(self, model, statistics):
        super().__init__()
        self.model, self.keys = model, list(statistics)
        for number, (mean, std) in enumerate(statistics.values()):
            self.register_buffer(f"mean_{{number}}", mean)
            self.register_buffer(f"std_{{number}}", std)

    def forward(self, *args, **kwargs):
        given = {{**dict(enumerate(args)), **kwargs}}
        for number, key in enumerate(self.keys):
            given[key] = (given[key] - getattr(self, f"mean_{{number}}")) / getattr(self, f"std_{{number}}")
        args = [given.pop(at) for at in range(len(args))]
        return self.model(*args, **given)


def statistics_of(inputs, *over, **options):
    x = torch.cat(inputs).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    mean, std = x.double().mean(*over, **options), x.double().std(*over, **options)
    std = torch.where(std > 0, std, torch.ones_like(std))
    device = next(model.parameters()).device
    return mean.to(device, x.dtype), std.to(device, x.dtype)


statistics = {{  # by position or name
{entries}
}}
model = Standardize(model, statistics)
"""


def several(
    patient: Patient, given: Sequence[Argument], answers: tuple[str, ...], place: int
) -> Iterator[Remedy | Advice]:
    """Those of the inputs that are not finite cleaned; those that are out of scale standardized."""
    known = [(one, x) for one in given if (x := one.values(patient)) is not None]
    # Minus infinity alone is a mask.
    broken = [one.key for one, x in known if (x.isnan() | x.isposinf()).any()]
    if broken:
        change = "Replace what is not finite in the inputs by 0."
        code = _CLEANED.format(keys=repr(broken))
        yield Remedy("inputs cleaned", "inputs", change, code, STEP, direct=True, surgery=True, place=place + 1)
    found = []
    for one, x in known:
        if one.key in broken or torch.isfinite(x).all():
            off = misfit(x.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0))
            found += [(one, off)] if off is not None else []
    if found:
        by_feature = any(off.by_feature for _, off in found)
        why = "; ".join(f"{one.code}: {off.why} now" for one, off in found)
        yield Remedy(
            "inputs standardized by feature" if by_feature else "inputs standardized",
            "inputs",
            f"Subtract the mean of each input that is out of scale and divide by its standard deviation ({why}), in "
            "front of the model; integers and other inputs stay as they are.",
            _STANDARDIZED.format(entries="\n".join(_entry(one, off) for one, off in found)),
            answers,
            direct=True,
            surgery=True,
            place=place,
        )
    elif any(one.path is None for one in given):
        why = "the loss makes the model's inputs of the batch, so only there can they be measured: do it by hand"
        yield Advice("inputs standardized", "Subtract the inputs' mean and divide by their standard deviation.", why)


def _entry(one: Argument, off: Misfit) -> str:
    over = f", {off.over}" if off.over else ""
    return f"    {one.key!r}: statistics_of([{one.code} for _, batch in zip(range(1000), batches)]{over}),"
