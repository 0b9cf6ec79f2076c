"""Models that nobody announced: copies, wrapped modules, and what only ran without a gradient."""

from __future__ import annotations

import copy

import torch
from torch import nn

from diag.probe.probe import Probe
from diag.report.diagnosis import diagnose

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


def test_a_stage_in_evaluation_mode_is_training_from_its_second_step_on() -> None:
    """As a head that is trained on what normalizes by fixed statistics; an attack in that mode is none."""
    torch.manual_seed(0)
    model, probe = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)), Probe(discover=True)
    probe.start()
    _train(model, steps=4)
    model.eval()
    _train(model, steps=5)
    model(X)
    model.train()
    _train(model, steps=3)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(3):
        attacked = X.clone().requires_grad_()
        model.eval()(attacked).square().mean().backward()
        optimizer.zero_grad()
        model.train()(X + attacked.grad.sign()).square().mean().backward()
        optimizer.step()
    probe.stop()
    coverage = probe.trace().coverage
    assert (coverage["training_passes"], coverage["evaluation_passes"]) == (4 + 4 + 1 + 3 + 3, 1 + 3)


def test_what_is_put_around_a_known_network_at_each_call_is_no_model_of_its_own() -> None:
    class Around(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -self.inner(x)

    model, probe = _network(), Probe(discover=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    probe.start()
    for _ in range(3):
        optimizer.zero_grad()
        Around(model)(X).square().mean().backward()
        optimizer.step()
    probe.stop()
    trace = probe.trace()
    assert trace.coverage["models"] == ["Around"] and trace.coverage["steps"] == 3
    assert set(trace.frame.loc[trace.frame["kind"] == "gradient", "step"]) == {0, 1, 2}


def test_an_optimizer_of_a_model_that_is_called_with_other_parameters_alone() -> None:
    """As in meta-learning: within `functional_call` the model's own parameters are away."""
    net, probe = _network(), Probe(discover=True)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    probe.start()
    for _ in range(5):
        optimizer.zero_grad()
        fast = {name: one * 0.9 for name, one in net.named_parameters()}
        torch.func.functional_call(net, fast, (X,)).square().mean().backward()
        optimizer.step()
    probe.stop()
    trace = probe.trace()
    assert len(trace.steps) == 5
    assert trace.coverage["optimizer"]
    assert set(trace.parameters["site"]) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_a_slice_of_a_model_is_none_of_its_own() -> None:
    model, probe = _network(), Probe(discover=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    probe.start()
    for _ in range(3):
        model(X).square().mean().backward()
        model[:2](X).square().mean().backward()
        optimizer.step()
    probe.stop()
    assert probe.trace().coverage["models"] == ["Sequential"]


def test_parts_that_are_called_alone_first_are_parts_all_the_same() -> None:
    """As in a validation before any training, which calls them one by one, and training the whole."""

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lower, self.upper = _network(), nn.ModuleDict({"head": nn.Linear(2, 1)})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.upper["head"](self.lower(x))

    model, probe = Whole(), Probe(discover=True)
    probe.start()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    model.upper["head"](model.lower(X)).square().mean().backward()
    optimizer.step()
    _train(model, steps=3)
    probe.stop()
    trace = probe.trace()
    assert trace.coverage["models"] == ["Whole"]
    assert set(trace.sites["model"]) == {"Whole"}
    assert {"lower.0", "upper.head", "lower.0.weight", "upper.head.weight"} <= set(trace.sites["site"])
    assert trace.sites["site"].is_unique
    rows = trace.frame
    assert rows[(rows["site"] == "lower.0.weight") & (rows["kind"] == "weight_gradient")]["step"].tolist() == [
        0,
        1,
        2,
        3,
    ]
    assert not [one for one in diagnose(trace).findings if one.rule == "missing-gradient"]
