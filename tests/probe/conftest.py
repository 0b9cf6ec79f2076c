"""Every test of the probe also tests that the probe leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

_BACKWARD = torch.autograd.backward
_SCALER = (torch.amp.GradScaler.scale, torch.amp.GradScaler.step)


def assert_nothing_left() -> None:
    """No hook, no function mode, no replaced function of torch."""
    assert torch.overrides._len_torch_function_stack() == 0
    for hooks in (
        modules._global_forward_hooks,
        modules._global_forward_pre_hooks,
        modules._global_forward_hooks_always_called,
        modules._global_forward_hooks_with_kwargs,
        modules._global_backward_hooks,
        optimizers._global_optimizer_pre_hooks,
        optimizers._global_optimizer_post_hooks,
    ):
        assert not hooks
    assert torch.autograd.backward is _BACKWARD
    assert (torch.amp.GradScaler.scale, torch.amp.GradScaler.step) == _SCALER
    assert "TORCH_COMPILE_DISABLE" not in os.environ


@pytest.fixture(autouse=True)
def undisturbed() -> Iterator[None]:
    """Start from a fixed seed; afterwards torch is as it was."""
    torch.manual_seed(0)
    yield
    assert_nothing_left()
