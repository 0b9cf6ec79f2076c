"""Any network: every number as worked out by hand, the training undisturbed, nothing left behind."""

from __future__ import annotations

import copy

import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks

import diag
from tests.fuzz.networks import networks
from tests.probe.by_hand import check_against_hand

EXAMPLES = settings.default.max_examples
QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUIET
@given(networks())
def test_every_number_is_that_worked_out_by_hand(drawn: tuple[nn.Module, Tensor]) -> None:
    model, inputs = drawn
    trace = check_against_hand(model, lambda net, note: net(inputs.clone(), note).square().mean())
    assert trace.coverage["not_seen"] == []


@settings(QUIET, max_examples=EXAMPLES // 4)
@given(networks())
def test_the_training_is_bit_for_bit_the_same(drawn: tuple[nn.Module, Tensor]) -> None:
    model, inputs = drawn
    ends = []
    for watched in (False, True):
        torch.manual_seed(0)
        one = copy.deepcopy(model)
        optimizer = torch.optim.Adam(one.parameters(), lr=0.01)
        watch = diag.watch(one, optimizer)
        if watched:
            watch.__enter__()
        for _ in range(3):
            optimizer.zero_grad()
            one(inputs.clone()).square().mean().backward()
            optimizer.step()
        if watched:
            watch.__exit__(None, None, None)
            assert len(watch.trace.steps) == 3
            assert isinstance(watch.diagnose().healthy, bool)
        ends.append([*one.state_dict().values(), torch.get_rng_state()])
    assert all(torch.equal(*pair) or (pair[0] != pair[0]).any() for pair in zip(*ends, strict=True))
    assert not global_hooks._global_forward_hooks and not global_hooks._global_forward_pre_hooks
    assert not any(len(one._forward_hooks) + len(one._backward_hooks) for one in model.modules())
