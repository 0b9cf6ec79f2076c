"""Faults put into a healthy workload, each at graded strengths; what a right diagnosis of each would name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diag.train.workload import Workload

Apply = Callable[[Workload, float], None]
Build = Callable[[], Workload]

SHRINKS = "vanishing-gradient collapsed-signal"
GROWS = "exploding-gradient exploding-activation diverging-loss non-finite oversized-update saturated-activation"
TOO_LARGE = GROWS + " dead-units"


class NotApplicable(Exception):
    """The workload has not what the fault needs."""


@dataclass(frozen=True)
class Injector:
    """strengths: from the weakest. causes: rules that name a right cause. roots: those fit to be the first finding.

    beyond: the fault is in the data's meaning or in what looks intended, so that 30 steps need not show it.
    """

    name: str
    strengths: tuple[float, ...]
    apply: Apply
    causes: frozenset[str]
    roots: frozenset[str]
    why: str
    beyond: bool = False


INJECTORS: dict[str, Injector] = {}


def injector(
    name: str, strengths: tuple[float, ...], causes: str, roots: str = "", beyond: bool = False
) -> Callable[[Apply], Apply]:
    """Register a fault; its docstring says what `strength` is. roots: all causes by default."""

    def register(apply: Apply) -> Apply:
        assert name not in INJECTORS
        all_causes = frozenset(causes.split())
        why = " ".join((apply.__doc__ or "").split())
        INJECTORS[name] = Injector(
            name, strengths, apply, all_causes, frozenset(roots.split()) or all_causes, why, beyond
        )
        return apply

    return register


def injected(build: Build, name: str, strength: float) -> Build:
    """The builder with a fault."""

    def build_faulty() -> Workload:
        workload = build()
        INJECTORS[name].apply(workload, strength)
        return workload

    return build_faulty


# What the faults take hold of.


def matrices(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Trained weights of two or more dimensions that are no table of embeddings or positions, but for the last one."""
    tables = {id(one.weight) for one in model.modules() if isinstance(one, nn.Embedding)}
    found = [
        (name, one)
        for name, one in model.named_parameters()
        if one.ndim > 1 and one.requires_grad and id(one) not in tables and len(one) > 1 and one[0].numel() > 1
        and not any(word in name for word in ("embed", "places", "positions", "token"))
    ]  # fmt: skip
    if len(found) < 3:
        raise NotApplicable("fewer than three matrices")
    return found[:-1]


def biases(model: nn.Module) -> list[nn.Parameter]:
    """The biases of linear layers and convolutions, but for the last one."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    found = [
        one.bias
        for one in model.modules()
        if isinstance(one, kinds) and one.bias is not None and one.bias.requires_grad
    ]
    if len(found) < 3:
        raise NotApplicable("fewer than three biases")
    return found[:-1]


def trunk(model: nn.Module) -> list[nn.Module]:
    """The parts one after the other: the children of the list or sequence that holds most parameters, but the last."""

    def size(module: nn.Module) -> int:
        return sum(one.numel() for one in module.parameters())

    chains = [
        [child for child in one if size(child)]
        for one in model.modules()
        if isinstance(one, (nn.Sequential, nn.ModuleList))
    ]
    chains = [one for one in chains if len(one) > 1]
    if not chains:
        raise NotApplicable("no chain of parts")
    return max(chains, key=lambda one: sum(map(size, one)))[:-1]


def at_depth(model: nn.Module, depth: float) -> nn.Module:
    """The part of the trunk at a share of its depth, from 0 to 1."""
    parts = trunk(model)
    return parts[round(depth * (len(parts) - 1))]


def after(module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Let a module put out `change` of what it does; of a tuple, of its first tensor."""
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        return _changed(original(*args, **kwargs), change)

    module.forward = forward  # type: ignore[method-assign]


def _changed(out: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(out, Tensor):
        return change(out)
    if isinstance(out, tuple) and isinstance(out[0], Tensor):
        return (change(out[0]), *out[1:])
    raise NotApplicable(f"a part that puts out {type(out).__name__}")


def groups(workload: Workload) -> list[dict[str, Any]]:
    """The optimizer's parameter groups."""
    assert workload.optimizer is not None
    return workload.optimizer.param_groups


def pairs(workload: Workload) -> list[tuple[Tensor, Tensor]]:
    """The batches, where each is an input of floating point and a target."""
    batches = list(workload.batches)
    first = batches[0]
    if not isinstance(first, tuple) or len(first) != 2 or not first[0].is_floating_point():
        raise NotApplicable("no input of floating point")
    return batches


def classes(workload: Workload) -> list[tuple[Tensor, Tensor]]:
    """The same, where the target is a class."""
    batches = pairs(workload)
    if batches[0][1].is_floating_point() or not _reads_targets(workload):
        raise NotApplicable("no classes")
    return batches


def _reads_targets(workload: Workload) -> bool:
    """Whether the loss depends on the targets at all."""
    x, y = next(iter(workload.batches))
    with torch.no_grad():
        values = []
        for target in (y, (y + 1) % 10):
            torch.manual_seed(1)
            values.append(float(workload.loss(workload.model, (x, target))))
    torch.manual_seed(0)
    return values[0] != values[1]
