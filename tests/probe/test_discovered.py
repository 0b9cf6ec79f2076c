"""Models that nobody announced: copies, wrapped modules, and what only ran without a gradient."""

from __future__ import annotations

import copy

import torch
from torch import nn

from diag.probe.probe import Probe

X = torch.randn(16, 6)


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))


def _train(model: nn.Module, steps: int = 1) -> None:
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()


def test_of_many_copies_the_first_eight_are_watched() -> None:
    model, probe = _network(), Probe(discover=True)
    probe.start()
    copies = [copy.deepcopy(model) for _ in range(12)]
    for one in copies:
        _train(one, steps=2)
    probe.stop()
    coverage = probe.trace().coverage
    assert len(coverage["models"]) == 8
    assert coverage["steps"] == 16
    assert coverage["not_seen"] == []
    assert "4 more models of a class of which eight were watched were left out" in coverage["notes"]


def test_a_module_that_was_wrapped_ran_under_its_new_path() -> None:
    class Adapter(nn.Module):
        def __init__(self, base: nn.Module) -> None:
            super().__init__()
            self.base, self.low = base, nn.Linear(6, 5, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + self.low(x)

    model, probe = _network(), Probe(discover=True)
    probe.start()
    _train(model)
    model[0] = Adapter(model[0])
    _train(model)
    probe.stop()
    trace = probe.trace()
    assert trace.coverage["not_seen"] == []
    assert {"0.base", "0.low"} <= set(trace.frame["site"])


def test_what_ran_without_a_gradient_is_not_said_to_have_never_run() -> None:
    model, probe = _network(), Probe(discover=True)
    average = torch.optim.swa_utils.AveragedModel(model)
    probe.start()
    _train(model, steps=3)
    average.update_parameters(model)
    with torch.no_grad():
        average(X)
    probe.stop()
    assert probe.trace().coverage["not_seen"] == []


def test_a_backward_pass_that_reaches_no_model_is_told_from_none() -> None:
    for loss, said in ((lambda out: out.detach().sum().requires_grad_(), "reached the model"), (None, "ran")):
        model, probe = _network(), Probe(discover=True)
        probe.start()
        out = model(X)
        if loss is not None:
            loss(out).backward()
        torch.optim.SGD(model.parameters(), 0.01).step()
        probe.stop()
        notes = probe.trace().coverage["notes"]
        assert f"no gradient of an activation was seen: no backward pass {said} while the model was watched" in notes
