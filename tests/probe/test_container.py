"""Models whose parts are called alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import diag
from diag.probe.probe import Probe
from diag.trace import Trace

X = 50 + torch.randn(16, 4, generator=torch.Generator().manual_seed(1))


class Flow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3))

    def log_prob(self, x: Tensor) -> Tensor:
        return self._through(x).square().sum(1)

    def _through(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def discovered(model: nn.Module, loss: Any, steps: int = 3) -> Trace:
    probe = Probe(discover=True)
    probe.start()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    probe.stop()
    return probe.trace()


def test_the_parts_of_a_model_that_are_called_by_its_method() -> None:
    flow = Flow()
    trace = discovered(flow, lambda: flow.log_prob(X).mean())
    assert trace.coverage["models"] == ["Flow"]
    assert trace.coverage["modules_seen"] == trace.coverage["modules_total"] == 6
    inputs = trace.sites.query("role == 'input'")["site"]
    assert list(inputs) == ["layers.0:input"]  # what one layer gives the next is no input
    assert trace.frame.query("site == 'layers.2.1' and kind == 'gradient'")["step"].nunique() == 3


def test_modules_of_a_training_stay_apart() -> None:
    class Training(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 1)

        def training_step(self) -> Tensor:
            return self.other(self.one(X)).mean()

    training = Training()
    assert discovered(training, training.training_step).coverage["models"] == ["Linear", "Linear#2"]


def test_a_method_of_what_does_not_hold_it_tells_nothing() -> None:
    class Loss(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))
            self.net = [net]

        def compute(self) -> Tensor:
            return (self.net[0](X) * self.weight).mean()

    net = nn.Linear(4, 4)
    assert discovered(net, Loss(net).compute).coverage["models"] == ["Linear"]


def test_a_state_is_no_input() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    with diag.watch(net, optimizer) as watch:
        for _ in range(12):
            optimizer.zero_grad()
            state = X
            for _ in range(5):
                state = state + 0.1 * net(state)
            state.square().mean().backward()
            optimizer.step()
    assert watch.trace.coverage["computed_inputs"] == ["Sequential:input"]
    assert not [one for one in watch.diagnose().findings if one.evidence.get("of") == "input"]
    with diag.watch(net, optimizer) as watch:
        for _ in range(12):
            optimizer.zero_grad()
            net(X).square().mean().backward()
            optimizer.step()
    assert watch.trace.coverage["computed_inputs"] == []
    assert [one for one in watch.diagnose().findings if one.evidence.get("of") == "input"]
