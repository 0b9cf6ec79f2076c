"""Residual branches scaled down, so that their sum does not grow with depth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from diag.prescribe.patient import Patient
from diag.prescribe.remedy import STEP, Advice, Remedy, family
from diag.train.workload import Workload

PLACE = 35
ANSWERS = ("exploding-gradient", "exploding-activation", *STEP, "collapsed-signal")
FEWEST = 2
CLOSE, NEGLIGIBLE = 1e-4, 1e-2
"""Of the norm of a sum: what rounding may err by, and what a part of it must at least be."""
MOST_CALLS, SAMPLE = 400, 256
"""Calls of modules that are compared with each other, and elements of each."""

_CODE = """import torch

with torch.no_grad():
    for name in {names}:  # the last layer of each residual branch
        for parameter in model.get_submodule(name).parameters(recurse=False):
            parameter.mul_({factor:.4g})
"""


@family("residual scaling")
def residual(patient: Patient) -> Iterator[Remedy | Advice]:
    """The last layer of each of L residual branches times 1 / sqrt(L)."""
    if not patient.suffers(*ANSWERS):
        return
    with patient.fresh() as workload:
        try:
            names = branch_ends(workload, patient.batches[0])
        except Exception as error:
            names = []
            why = f"looking for residual blocks failed ({type(error).__name__})"
        else:
            why = "no module was found that adds what it is given to what a branch makes of it"
    if len(names) < FEWEST:
        yield Advice("residual scaling", "Scale residual branches down.", why)
        return
    yield Remedy(
        "residual scaling",
        "residual",
        f"Multiply the last layer of each of the {len(names)} residual branches by 1 / sqrt({len(names)}).",
        _CODE.format(names=names, factor=len(names) ** -0.5),
        ANSWERS,
        place=PLACE,
    )


@dataclass(frozen=True)
class _Call:
    """What a module was given and returned: of equal shape, and so much of both as tells them from others."""

    name: str
    shape: tuple[int, ...]
    given: torch.Tensor
    returned: torch.Tensor


def branch_ends(workload: Workload, batch: Any) -> list[str]:
    """The last layers of residual branches: of f in x + f(x).

    It is found by arithmetic, in one forward pass in evaluation mode: what was given to some module plus what a module
    in it or beside it returned is what a later one is given, or it returns itself.
    """
    calls = _calls(workload, batch)
    found: dict[str, None] = {}
    for number, call in enumerate(calls):
        if _is_branch(call, calls, number):
            end = _weighted(call.name, workload.model)
            if end is not None:
                found[end] = None
    return list(found)


def _calls(workload: Workload, batch: Any) -> list[_Call]:
    """Every call of a module that keeps its input's shape, in the order in which they end."""
    model, calls = workload.model, list[_Call]()
    modules = list(model.named_modules())
    before = {module: vars(module).get("forward") for _, module in modules}
    for name, module in modules:
        module.forward = _recording(name, module, calls)
    try:
        model.eval()
        with torch.no_grad():
            workload.loss(model, batch)
    finally:
        for module, forward in before.items():
            module.__dict__.pop("forward", None)
            if forward is not None:
                module.forward = forward
    return calls[:MOST_CALLS]


def _recording(name: str, module: nn.Module, calls: list[_Call]) -> Any:
    forward = module.forward

    def recorded(*args: Any, **kwargs: Any) -> Any:
        given = next((one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)), None)
        start = None if given is None or not given.is_floating_point() else _sample(given)
        output = forward(*args, **kwargs)
        value = output[0] if isinstance(output, tuple) and output else output
        if start is not None and given is not None and isinstance(value, torch.Tensor) and value.shape == given.shape:
            calls.append(_Call(name, tuple(value.shape), start, _sample(value)))
        return output

    return recorded


def _sample(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().flatten()[:SAMPLE].double().clone()


def _is_branch(branch: _Call, calls: list[_Call], number: int) -> bool:
    alike = [(index, one) for index, one in enumerate(calls) if one.shape == branch.shape]
    starts = [one.given for _, one in alike if _is_near(one.name, branch.name)]
    ends = [tensor for index, one in alike if index >= number for tensor in (one.given, one.returned)]
    return any(_is_sum(start, branch.returned, end) for start in starts for end in ends)


def _is_near(one: str, other: str) -> bool:
    """Whether a module stands above another or beside it."""
    return other.startswith(f"{one}.") or not one or one.rpartition(".")[0] == other.rpartition(".")[0]


def _is_sum(one: torch.Tensor, other: torch.Tensor, total: torch.Tensor) -> bool:
    """Whether they add up, and neither is next to nothing."""
    scale = float(total.norm())
    if not math.isfinite(scale) or min(float(one.norm()), float(other.norm())) <= NEGLIGIBLE * scale:
        return False
    return float((one + other - total).norm()) <= CLOSE * scale


def _weighted(name: str, model: nn.Module) -> str | None:
    """The last module with a weight in it, itself included."""
    inside = [
        path
        for path, module in model.get_submodule(name).named_modules(prefix=name)
        if isinstance(module._parameters.get("weight"), nn.Parameter)
    ]
    return inside[-1] if inside else None
