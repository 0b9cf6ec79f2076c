"""Updates that are lost in rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import diag

GENERATOR = torch.Generator().manual_seed(5)
X = torch.randn(256, 20, generator=GENERATOR)
Y = (X @ torch.randn(20, 4, generator=GENERATOR)).argmax(1)


def told(dtype: torch.dtype, lr: float, steps: int = 40, zeroed: bool = False) -> list[tuple[str, float]]:
    """Severity, and the share that is told of."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4)).to(dtype)
    optimizer = torch.optim.Adam(net.parameters(), lr, eps=1e-4)
    with diag.watch(net, optimizer) as watch:
        for step in range(steps):
            rows = torch.arange(32) + 32 * (step % 8)
            optimizer.zero_grad()
            F.cross_entropy(net(X[rows].to(dtype)).float(), Y[rows]).backward()
            if zeroed:
                for p in net.parameters():
                    assert p.grad is not None
                    p.grad.mul_(torch.arange(p.shape[-1]) % 2 == 0)
            optimizer.step()
    updates = watch.trace.frame.query("kind == 'update' and site.str.endswith('weight')")
    late = updates[updates["step"] >= steps * 2 // 3].groupby("site")["zero_fraction"].median()
    found = [one for one in watch.diagnose().findings if one.evidence.get("of") == "rounded"]
    assert all(late.min() - 0.1 <= one.evidence["share"] <= late.max() + 0.1 for one in found)
    return [(one.severity, one.evidence["share"]) for one in found]


def test_bfloat16_swallows_small_steps() -> None:
    ((severity, share),) = told(torch.bfloat16, 1e-4)
    assert severity == "error"
    assert share > 0.6


@pytest.mark.parametrize(
    ("dtype", "lr"), [(torch.float32, 1e-4), (torch.float32, 1e-2), (torch.bfloat16, 1e-2), (torch.float16, 3e-3)]
)
def test_steps_that_the_weights_can_hold(dtype: torch.dtype, lr: float) -> None:
    assert told(dtype, lr) == []


def test_elements_without_a_gradient_are_no_loss() -> None:
    assert told(torch.float32, 1e-3, zeroed=True) == []
