"""What training loops forget, in loops that forget it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

import diag
from diag.probe.probe import Probe
from diag.rules.finding import Finding
from diag.rules.judge import judge

X = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3))


def found(loop: Callable[[], object]) -> list[Finding]:
    """Errors of a script that is watched as `diag watch` does."""
    torch.manual_seed(0)
    probe = Probe(discover=True)
    probe.start()
    try:
        loop()
    finally:
        probe.stop()
    return [one for one in judge(probe.trace(), {}) if one.severity == "error"]


def train(model: nn.Module, optimizer: Optimizer, step: Callable[[], object], steps: int = 12) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        step()


def test_a_step_without_parentheses() -> None:
    def loop() -> None:
        model = network()
        train(model, Adam(model.parameters()), lambda: None)

    [error] = found(loop)
    assert (error.rule, error.site, error.evidence["zeroed"]) == ("stalled-update", "optimizer", 11)
    assert "never took a step" in error.message


def test_weights_moved_by_hand_need_no_optimizer() -> None:
    def loop() -> None:
        model = network()
        for _ in range(12):
            model.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad

    assert not found(loop)


@pytest.mark.parametrize(("replaced", "times"), [("after", 20), ("before", 20), ("after", 2)])
def test_a_head_that_is_replaced_after_its_optimizer_was_made(replaced: str, times: int) -> None:
    """Another model trained before, so that the script has steps. A sum of losses is not taken for one."""

    def loop() -> None:
        base = network()
        before = Adam(base.parameters(), 1e-2)
        train(base, before, before.step, steps=20)
        model = nn.Sequential(*(copy.deepcopy(one) for one in base))
        if replaced == "before":
            model[2] = nn.Linear(24, 3)
        optimizer = Adam(model[2].parameters(), 1e-2)
        if replaced == "after":
            model[2] = nn.Linear(24, 3)
        train(model, optimizer, optimizer.step, steps=times)

    errors = [one for one in found(loop) if "idle" in one.evidence or one.rule == "diverging-loss"]
    assert len(errors) == (replaced == "after" and times > 2)
    if errors:
        assert (errors[0].rule, errors[0].evidence["idle"], errors[0].evidence["step"]) == ("stalled-update", 20, 20)
        assert "from step 20 on" in errors[0].message


@pytest.mark.parametrize("anew", [True, False])
def test_a_model_that_is_made_anew_after_its_optimizer(anew: bool) -> None:
    def loop() -> None:
        model = network()
        optimizer = Adam(model.parameters(), 1e-2)
        for _ in range(3):
            model = network() if anew else model
            train(model, optimizer, optimizer.step)

    errors = found(loop)
    assert len(errors) == anew
    if errors:
        assert (errors[0].rule, errors[0].evidence["idle"]) == ("stalled-update", 36)


def test_an_image_that_is_optimized_is_no_omission() -> None:
    """The optimizer holds what is no parameter of the model, but it has a gradient."""

    def loop() -> None:
        model, image = network(), X.clone().requires_grad_()
        optimizer = Adam([image], 0.1)
        for _ in range(12):
            optimizer.zero_grad()
            F.cross_entropy(model(image), Y).backward()
            optimizer.step()

    assert not found(loop)


class Plain(nn.Module):
    def __init__(self, parameter: bool) -> None:
        super().__init__()
        weight = torch.randn(24, 6) / 6**0.5
        self.weight = nn.Parameter(weight) if parameter else weight.requires_grad_()
        self.head = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head((x @ self.weight.t()).relu())
        return out


@pytest.mark.parametrize(("parameter", "told"), [(False, False), (True, False), (False, True)])
def test_a_plain_tensor_in_place_of_a_parameter(parameter: bool, told: bool) -> None:
    def loop() -> None:
        model = Plain(parameter)
        held = [*model.parameters(), *([model.weight] if told else [])]
        optimizer = Adam(held, 1e-2)
        train(model, optimizer, optimizer.step)

    errors = found(loop)
    assert [one.site for one in errors] == ([] if parameter or told else ["weight"])
    assert all("nn.Parameter" in one.remedy for one in errors)


@pytest.mark.parametrize(
    ("way", "vain"),
    [("norm", True), ("one tensor", True), ("norm", False), ("value", False), ("one tensor", False)],
)
def test_a_clip_before_there_is_a_gradient(way: str, vain: bool) -> None:
    def clip(model: nn.Module) -> None:
        if way == "norm":
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        elif way == "value":
            torch.nn.utils.clip_grad_value_(model.parameters(), 1.0)
        else:
            torch.nn.utils.clip_grad_norm_(model[0].weight, 1.0)

    def loop() -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 30.0)
        for _ in range(12):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(50 * X), Y)
            if vain:
                clip(model)
            loss.backward()
            if not vain:
                clip(model)
            optimizer.step()

    told = [one for one in found(loop) if one.evidence.get("of") == "vain clip"]
    assert [(one.rule, one.evidence["vain"], one.evidence["clips"]) for one in told] == (
        [("oversized-update", 12, 12)] if vain else []
    )


def test_a_clip_of_what_never_gets_a_gradient_is_not_to_blame() -> None:
    def loop() -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(12):
            optimizer.zero_grad()
            F.cross_entropy(model(X).data.requires_grad_(), Y).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    errors = found(loop)
    assert [one.rule for one in errors] == ["missing-gradient"]
    assert "does not depend" in errors[0].message


def test_clipping_is_torchs_own_afterwards() -> None:
    before = torch.nn.utils.clip_grad_norm_, torch.nn.utils.clip_grad_value_
    found(lambda: None)
    assert (torch.nn.utils.clip_grad_norm_, torch.nn.utils.clip_grad_value_) == before


@pytest.mark.parametrize(("every", "severity"), [(6, "error"), (1, None), (2, "error"), (100, "error")])
def test_gradients_that_are_seldom_cleared(every: int, severity: str | None) -> None:
    def loop() -> None:
        model = network()
        optimizer = Adam(model.parameters(), 1e-3)
        for step in range(36):
            if step % every == 0:
                optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            optimizer.step()

    told = [one for one in found(loop) if one.evidence.get("of") == "uncleared"]
    assert [one.severity for one in told] == ([severity] if severity else [])
    if told:
        assert ("never" in told[0].message) == (every == 100)


@pytest.mark.parametrize(("frozen", "count"), [("4", 1), ("0", 0), ("", 0)])
def test_a_last_layer_that_is_frozen_at_random(frozen: str, count: int) -> None:
    def loop() -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 30))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not frozen or not name.startswith(frozen))
        optimizer = Adam([one for one in model.parameters() if one.requires_grad], 1e-4)
        for _ in range(20):
            optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            optimizer.step()

    told = [one for one in found(loop) if one.evidence.get("of") == "frozen"]
    assert [(one.severity, one.site) for one in told] == [("error", "4")] * count


def discarded(way: str, batches: int = 24) -> list[tuple[str, int]]:
    """Severities and counts of what is said of gradients that are cleared before a step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model) as watch:
        for batch in range(batches):
            x = torch.randn(16, 4, requires_grad=way == "attack")
            if way != "accumulated" or batch % 4 == 0:
                optimizer.zero_grad()
            F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
            if way == "sharp":  # a step of its own to where the loss is worse, and gradients from there
                optimizer.zero_grad()
                F.cross_entropy(model(x + 0.1), x[:, :3].argmax(1)).backward()
            if way in ("plain", "sharp") or batch % 4 == 3:
                optimizer.step()
    told = [one for one in watch.diagnose().findings if "thrown" in one.evidence]
    return [(one.severity, one.evidence["thrown"]) for one in told]


@pytest.mark.parametrize(
    ("way", "expected"),
    [("every fourth", [("error", 18)]), ("accumulated", []), ("plain", []), ("sharp", []), ("attack", [])],
)
def test_gradients_that_are_cleared_before_a_step(way: str, expected: list[tuple[str, int]]) -> None:
    assert discarded(way) == expected


def test_what_a_closure_clears_is_of_its_step() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=8)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), Y)
        loss.backward()
        return loss

    with diag.watch(model) as watch:
        for _ in range(5):
            optimizer.step(closure)
    assert watch.trace.coverage["thrown_gradients"] == 0
