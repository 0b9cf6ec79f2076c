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


def test_of_a_head_with_more_classes_the_guess_is_its_own() -> None:
    """Two classes first and ten then: a loss of 1.5 is worse than a guess of two, and better than one of ten."""
    torch.manual_seed(0)
    body, x = nn.Sequential(nn.Linear(10, 32), nn.ReLU()), torch.randn(64, 10)
    model = nn.Sequential(body, nn.Linear(32, 2))
    with diag.watch(model) as watch:
        for classes in (2, 10):
            model[1] = nn.Linear(32, classes)
            optimizer = torch.optim.SGD(model.parameters(), 0.05)
            for _ in range(20):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), x[:, :classes].argmax(1)).backward()
                optimizer.step()
        findings = watch.diagnose().findings
    assert not [one for one in findings if one.evidence.get("of") == "guess"]
