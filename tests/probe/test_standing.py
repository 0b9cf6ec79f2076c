"""Networks that are to follow the trained one: whether they ever do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import diag
from diag.probe.probe import Probe

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


def _follow(target: nn.Module, net: nn.Module, how: str, step: int) -> None:
    with torch.no_grad():
        if how == "copy" and step % 5 == 4:
            target.load_state_dict(net.state_dict())
        if how in ("average", "decay of 1"):
            tau = 0.1 if how == "average" else 0.0
            for own, one in zip(target.parameters(), net.parameters(), strict=True):
                own.data.mul_(1 - tau).add_(one.data, alpha=tau)


def _trained(how: str, *, frozen: bool = False, other: bool = False, steps: int = 12) -> list[dict[str, Any]]:
    net = _net()
    target = copy.deepcopy(net).requires_grad_(not frozen)
    if other:
        torch.manual_seed(1)
        target[0] = nn.Linear(4, 8)  # type: ignore[index]
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with diag.watch(net, optimizer) as watch:
        for step in range(steps):
            with torch.no_grad():
                wanted = 1 + 0.5 * target(X)
            loss = (net(X) - wanted).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            _follow(target, net, how, step)
    found: list[dict[str, Any]] = watch.trace.coverage["standing"]
    return found


def _reference(steps: int = 12) -> list[dict[str, Any]]:
    net = _net()
    reference = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with diag.watch(net, optimizer) as watch:
        for _ in range(steps):
            with torch.no_grad():
                before = reference(X)
            optimizer.zero_grad()
            (net(X) - before - 1).pow(2).mean().backward()
            optimizer.step()
    found: list[dict[str, Any]] = watch.trace.coverage["standing"]
    return found


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("how", ["never", "decay of 1"])
def test_a_target_that_stands_still(how: str, frozen: bool) -> None:
    [found] = _trained(how, frozen=frozen)
    assert found == {"name": "target", "of": "Sequential", "calls": 12, "first": 0, "last": 10}


@pytest.mark.parametrize("how", ["copy", "average"])
def test_a_target_that_follows(how: str) -> None:
    assert not _trained(how)


def test_what_was_no_copy_need_not_follow() -> None:
    assert not _trained("never", other=True)


def test_a_reference_may_stand_still() -> None:
    assert not _reference()


class _Agent:
    def __init__(self) -> None:
        self.online = _net()
        self.q_target = copy.deepcopy(self.online)

    def bootstrap(self) -> torch.Tensor:
        with torch.no_grad():
            return self.q_target(X)


def test_an_attribute_has_a_name_too() -> None:
    agent = _Agent()
    optimizer = torch.optim.SGD(agent.online.parameters(), 0.1)
    with diag.watch(agent.online, optimizer) as watch:
        for _ in range(5):
            optimizer.zero_grad()
            (agent.online(X) - 1 - agent.bootstrap()).pow(2).mean().backward()
            optimizer.step()
    assert [one["name"] for one in watch.trace.coverage["standing"]] == ["q_target"]


@pytest.mark.parametrize(
    ("taught", "name", "count"), [(False, "teacher", 1), (True, "teacher", 0), (False, "reference", 0)]
)
def test_a_teacher_that_knows_nothing(taught: bool, name: str, count: int) -> None:
    torch.manual_seed(0)
    student, other = nn.Linear(16, 8), nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.Linear(32, 8))
    if taught:
        with torch.no_grad():
            other[0].weight += 0.3 * torch.randn(32, 16)
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    x = torch.randn(16, 16)

    def told_by(teacher: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return teacher(x)

    def told_by_another(reference: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return reference(x)

    with diag.watch(student, optimizer) as watch:
        for _ in range(5):
            wanted = (told_by if name == "teacher" else told_by_another)(other)
            optimizer.zero_grad()
            (student(x) - wanted).pow(2).mean().backward()
            optimizer.step()
    assert len(watch.trace.coverage["untaught"]) == count


def test_a_network_that_is_lazy_in_part_is_no_copy_yet() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.LazyLinear(2))
    probe = Probe(discover=True)
    probe.start()
    net(X)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        net(X).sum().backward()
        optimizer.step()
    probe.stop()
    trace = probe.trace()
    assert len(trace.steps) == 3
    assert {"0.weight", "2.weight"} <= set(trace.sites["site"])


def test_what_stays_lazy_has_no_site() -> None:
    net, other = nn.Sequential(nn.Linear(4, 8)), nn.Sequential(nn.Linear(4, 8), nn.LazyLinear(2))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    probe = Probe([net, other], [optimizer])
    probe.start()
    net(X).sum().backward()
    optimizer.step()
    probe.stop()
    assert not probe.trace().sites["site"].str.contains("1.weight").any()


class _Average:
    """Of a network's weights, as many a script keeps one: an object that holds a copy."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.ema, self.decay = copy.deepcopy(net).requires_grad_(False), decay

    def update(self, net: nn.Module) -> None:
        for own, one in zip(self.ema.parameters(), net.parameters(), strict=True):
            own.mul_(self.decay).add_(one.detach(), alpha=1 - self.decay)


def _averaged(decay: float) -> Any:
    net = _net()
    average, optimizer = _Average(net, decay), torch.optim.Adam(net.parameters(), 0.01)
    with diag.watch(net) as watch:
        for step in range(130):
            optimizer.zero_grad()
            (net(X) - X.sum(1, keepdim=True)).pow(2).mean().backward()
            optimizer.step()
            average.update(net)
            if step % 10 == 9:
                with torch.no_grad():
                    average.ema(X)
    return watch


@pytest.mark.parametrize(("decay", "count"), [(0.9999, 1), (0.9, 0)])
def test_an_average_that_follows_too_slowly(decay: float, count: int) -> None:
    watch = _averaged(decay)
    told = [one for one in watch.diagnose().findings if one.evidence.get("of") == "lagging"]
    assert [(one.severity, one.site) for one in told] == [("error", "ema")] * count
    known = watch.trace.coverage["lagging"]
    assert len(known) == count
    if count:
        assert 0 < known[0]["share"] < 0.05 and known[0]["calls"] == 13 and known[0]["last"] == 129
