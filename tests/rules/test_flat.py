"""A loss without a slope, and a network without one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import diag
from diag.rules.judge import judge
from tests.corpus.data import digits
from tests.rules.traces import Value, chain, found, only

STANDS = "loss-not-decreasing"


@pytest.mark.parametrize("value", [0.0, 1.0, 0.2])
def test_every_term_is_in_the_flat_part(value: float) -> None:
    finding = only(STANDS, chain((0.0, 0.0, 0.0), loss=value))
    assert (finding.severity, finding.evidence["of"], finding.evidence["value"]) == ("error", "flat", value)
    assert (finding.evidence["top"], finding.evidence["steps"]) == ("4", 30)


@pytest.mark.parametrize(
    ("gradients", "loss"),
    [((0.0, 0.0, 0.01), 1.0), ((0.0, 0.0, 0.0), lambda step: 1.0 + 0.01 * (step % 3)), ((0.01, 0.01, 0.01), 0.0)],
    ids=["what stands above has a gradient", "the loss is not one number", "a loss of zero with a slope"],
)
def test_where_it_is_not_the_loss(gradients: tuple[float, ...], loss: Value) -> None:
    assert all(one.evidence.get("of") != "flat" for one in found(STANDS, chain(gradients, loss=loss)))


def test_it_is_the_root() -> None:
    (finding,) = judge(chain((0.0, 0.0, 0.0), loss=1.0).build(), {})
    assert finding.evidence["of"] == "flat"
    assert "vanishing-gradient" in [one.rule for one in finding.consequences]


def margin(sign: float) -> Callable[[nn.Module, tuple[Tensor, Tensor]], Tensor]:
    """Every wrong class is to stay a margin of 5 below the right one; with the sign turned, above it by no more."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        scores = model(batch[0])
        right = scores.gather(1, batch[1][:, None])
        return torch.clamp(scores - right + sign * 5, min=0).sum(1).mean()

    return loss


@pytest.mark.parametrize(("sign", "of"), [(-1.0, ["flat"]), (1.0, [])])
def test_really_trained(sign: float, of: list[str]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    checked = diag.check(diag.Workload(model, digits(), margin(sign), optimizer), steps=20)
    assert [one.evidence.get("of") for one in checked.findings if one.severity == "error"] == of


def test_weights_of_zero_are_no_flat_loss() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64, bias=False), nn.ReLU(), nn.Linear(64, 64, bias=False))
    for one in model.parameters():
        nn.init.zeros_(one)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    checked = diag.check(
        diag.Workload(model, digits(), lambda m, batch: (m(batch[0]) ** 2 - 1).square().mean(), optimizer), steps=20
    )
    every = [two for one in checked.findings for two in (one, *one.consequences)]
    assert every
    assert all(one.evidence.get("of") != "flat" for one in every)
