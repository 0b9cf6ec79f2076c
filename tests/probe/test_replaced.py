"""Parameters that took the place of those an optimizer holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import diag


def _new_module(model: nn.Sequential) -> None:
    model[2] = nn.Linear(16, 3)


def _new_parameter(model: nn.Sequential) -> None:
    model[2].weight = nn.Parameter(0.1 * torch.randn(3, 16))


def _run(change: Callable[[nn.Sequential], None], *, anew: bool, steps: int = 12) -> diag.Diagnosis:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    x = torch.randn(32, 8)
    target = x[:, :3].argmax(1)
    with diag.watch(model) as watch:
        for step in range(2 * steps):
            if step == steps:
                change(model)
                optimizer = torch.optim.SGD(model.parameters(), 0.05) if anew else optimizer
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), target).backward()
            optimizer.step()
        return watch.diagnose()


@pytest.mark.parametrize(("change", "names"), [(_new_module, ["2.bias", "2.weight"]), (_new_parameter, ["2.weight"])])
def test_an_optimizer_of_replaced_parameters_is_named(change: Callable[..., None], names: list[str]) -> None:
    diagnosis = _run(change, anew=False)
    assert sorted(diagnosis.trace.coverage["replaced"]) == names
    finding = diagnosis.findings[0]
    assert (finding.rule, finding.severity) == ("stalled-update", "error")
    assert sorted(finding.evidence["parameters"]) == names
    assert "The optimizer holds what stood there before the model was changed." in finding.message


@pytest.mark.parametrize("change", [_new_module, _new_parameter])
def test_an_optimizer_that_was_made_anew_is_not(change: Callable[..., None]) -> None:
    diagnosis = _run(change, anew=True)
    assert diagnosis.trace.coverage["replaced"] == []
    assert not [one for one in diagnosis.findings if one.rule == "stalled-update"]
