"""Outputs that the user's own forward hooks change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import diag
from tests.probe.by_hand import as_double, assert_row, only_row

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))


@pytest.mark.parametrize("with_kwargs", [False, True])
def test_what_a_hook_puts_in_its_place_is_measured(with_kwargs: bool) -> None:
    model = net()
    seen: list[Tensor] = []

    def tenfold(module: nn.Module, args: Any, *rest: Any) -> Tensor:
        out: Tensor = rest[-1] * 10
        out.retain_grad()
        seen.append(out)
        return out

    model[0].register_forward_hook(tenfold, with_kwargs=with_kwargs)
    model[1].register_forward_hook(lambda module, args, out: out + 1)
    with diag.watch(model) as watch:
        model(X).square().sum().backward()
        watch.step()
    assert_row(only_row(watch.trace, "activation", "0"), as_double(seen[0]))
    assert seen[0].grad is not None
    assert_row(only_row(watch.trace, "gradient", "0"), as_double(seen[0].grad))
    assert_row(only_row(watch.trace, "activation", "1"), as_double(seen[0].relu() + 1))
    assert len(model[0]._forward_hooks) == 1


def fail(module: nn.Module, args: Any, out: Tensor) -> None:
    raise ZeroDivisionError


def test_hooks_that_only_look_and_hooks_that_fail() -> None:
    model = net()
    model[0].register_forward_hook(lambda module, args, out: None)
    handle = model[2].register_forward_hook(fail)
    with diag.watch(model) as watch:
        with pytest.raises(ZeroDivisionError):
            model(X)
        watch.step()
        handle.remove()
        model(X).square().sum().backward()
        watch.step()
    assert not model[2]._forward_hooks
    rows = watch.trace.frame.query("kind == 'activation' and step == 1").set_index("site")
    for site, out in (("0", model[0](X)), ("2", model(X))):
        assert rows.loc[site, "count"] == out.numel()
        assert rows.loc[site, "mean"] == pytest.approx(out.mean().item(), rel=1e-5)
