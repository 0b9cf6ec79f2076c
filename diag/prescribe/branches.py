"""Residual branches, found by arithmetic in a forward pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from diag.train.workload import Workload

CLOSE, NEGLIGIBLE = 1e-4, 1e-2
"""Of the norm of a sum: what rounding may err by, and what a part of it must at least be."""
MOST_CALLS, SAMPLE = 400, 256
"""Calls of modules that are compared with each other, and elements of each."""


@dataclass(frozen=True)
class _Tensor:
    """The shape of a tensor, and so much of it as tells it from others."""

    shape: tuple[int, ...]
    sample: torch.Tensor


@dataclass(frozen=True)
class _Call:
    """What a module was given and returned. entered: when it was called, before or after others."""

    name: str
    entered: int
    given: _Tensor | None
    returned: _Tensor | None


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
    """Every call of a module, in the order in which they end."""
    model, calls, clock = workload.model, list[_Call](), itertools.count()
    modules = list(model.named_modules())
    before = {module: vars(module).get("forward") for _, module in modules}
    for name, module in modules:
        module.forward = _recording(name, module, calls, clock)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it would go past the modules
    try:
        model.eval()
        with torch.no_grad():
            workload.loss(model, batch)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, forward in before.items():
            module.__dict__.pop("forward", None)
            if forward is not None:
                module.forward = forward
    return calls[:MOST_CALLS]


def _recording(name: str, module: nn.Module, calls: list[_Call], clock: Iterator[int]) -> Any:
    forward = module.forward

    def recorded(*args: Any, **kwargs: Any) -> Any:
        entered = next(clock)
        given = next((one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)), None)
        start = _seen(given)
        output = forward(*args, **kwargs)
        calls.append(_Call(name, entered, start, _seen(output[0] if isinstance(output, tuple) and output else output)))
        return output

    return recorded


def _seen(value: Any) -> _Tensor | None:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return None
    return _Tensor(tuple(value.shape), value.detach().flatten()[:SAMPLE].double().clone())


def _is_branch(branch: _Call, calls: list[_Call], number: int) -> bool:
    if branch.returned is None:
        return False
    starts = [one.given for one in calls if one.entered <= branch.entered and _is_near(one.name, branch.name)]
    ends = [tensor for one in calls[number:] for tensor in (one.given, one.returned)]
    return any(_is_sum(start, branch.returned, end) for start in starts if start for end in ends if end)


def _is_near(one: str, other: str) -> bool:
    """Whether a module stands above another or beside it."""
    return other.startswith(f"{one}.") or not one or one.rpartition(".")[0] == other.rpartition(".")[0]


def _is_sum(one: _Tensor, other: _Tensor, total: _Tensor) -> bool:
    """Whether they add up, and neither is next to nothing."""
    if not one.shape == other.shape == total.shape:
        return False
    scale = float(total.sample.norm())
    if not math.isfinite(scale) or min(float(one.sample.norm()), float(other.sample.norm())) <= NEGLIGIBLE * scale:
        return False
    return float((one.sample + other.sample - total.sample).norm()) <= CLOSE * scale


def _weighted(name: str, model: nn.Module) -> str | None:
    """The last module with a weight in it, itself included."""
    inside = [
        path
        for path, module in model.get_submodule(name).named_modules(prefix=name)
        if isinstance(module._parameters.get("weight"), nn.Parameter)
    ]
    return inside[-1] if inside else None
