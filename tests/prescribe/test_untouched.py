"""What is the user's is afterwards, bit for bit, what it was."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from diag.prescribe.prescribe import prescribe
from diag.train.workload import Workload
from tests.prescribe.cases import blobs, classify, mlp


def state(value: Any) -> Any:
    """A value as plain, comparable parts."""
    if isinstance(value, torch.Tensor):
        return ("tensor", value.dtype, value.requires_grad, id(value), value.detach().tolist(), state(value.grad))
    if isinstance(value, dict):
        return {state(key): state(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(state(one) for one in value)
    return value if isinstance(value, (int, float, str, bool, type(None))) else id(value)


def everything(workload: Workload, hooks: list[str] = ["_forward_hooks", "_forward_pre_hooks"]) -> Any:  # noqa: B006
    """Parameters, gradients, buffers, modes, hooks, attributes, the optimizer, batches and all random states."""
    optimizer = workload.optimizer
    assert optimizer is not None
    modules = [
        (name, id(one), one.training, sorted(vars(one)), [len(getattr(one, hook)) for hook in hooks])
        for name, one in workload.model.named_modules()
    ]
    tensors = [(name, state(one)) for name, one in workload.model.state_dict(keep_vars=True).items()]
    groups = [state({**group, "params": [id(p) for p in group["params"]]}) for group in optimizer.param_groups]
    # By value: `restored` gives equal tensors back, not the same ones.
    held = {id(p): {name: state(one)[4] for name, one in own.items()} for p, own in optimizer.state.items()}
    hooked = {name: list(one) for name, one in vars(optimizer).items() if name.endswith("_hooks")}
    numpy = np.random.get_state()
    return (
        modules, tensors, groups, held, hooked, sorted(vars(optimizer)), state(list(workload.batches)),
        random.getstate(), numpy[1].tolist(), numpy[2], torch.get_rng_state().tolist(),
    )  # fmt: skip


def sick(momentum: float = 0.9) -> Workload:
    """Sigmoids, dropout and a batch norm, half trained, in evaluation mode, with a hook and gradients."""
    torch.manual_seed(0)
    model = mlp(5, nn.Sigmoid, "glorot")
    model.insert(1, nn.Dropout(0.6))
    model.insert(0, nn.BatchNorm1d(16))
    model[1].weight.requires_grad_(True)
    model[3].register_forward_hook(lambda module, args, output: None)
    workload = Workload(model, blobs(20), classify, torch.optim.SGD(model.parameters(), lr=1e-6, momentum=momentum))
    assert workload.optimizer is not None
    classify(model, blobs(1)[0]).backward()
    workload.optimizer.step()
    model.eval()
    return workload


@pytest.mark.parametrize("everything_too", [False, True])
def test_bit_for_bit(everything_too: bool) -> None:
    workload = sick()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    before = everything(workload)
    found = prescribe(workload, steps=12, seeds=2, everything=everything_too)
    assert len(found.trials) >= 4
    assert any(one.remedy.surgery for one in found.trials)
    assert everything(workload) == before


def test_the_comparison_sees_a_change() -> None:
    workload = sick()
    before = everything(workload)
    with torch.no_grad():
        workload.model[1].weight[0, 0] += 1e-7  # type: ignore[index]
    assert everything(workload) != before


def test_after_an_error_too() -> None:
    workload, calls = sick(), []

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        calls.append(batch)
        if len(calls) > 50:
            raise ValueError("the disk is full")
        return classify(model, batch)

    workload.loss = loss
    before = everything(workload)
    with pytest.raises(ValueError, match="the disk is full"):
        prescribe(workload, steps=12, seeds=2)
    assert everything(workload) == before
