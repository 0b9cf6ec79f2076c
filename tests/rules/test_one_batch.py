"""A loader that is begun anew for each step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import diag

X = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


def told(way: str, batch: int = 16, steps: int = 24) -> list[tuple[str, int, int]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(TensorDataset(X, Y), batch, shuffle=way == "shuffled")
    original = DataLoader.__iter__

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    with diag.watch(model) as watch:
        if way == "looped":
            for _ in range(steps * batch // 48):
                for x, y in loader:
                    step(x, y)
        elif way == "fixed":
            x, y = next(iter(loader))
            for _ in range(steps):
                step(x, y)
        else:
            for _ in range(steps):
                step(*next(iter(loader)))
    assert DataLoader.__iter__ is original
    found = [one for one in watch.diagnose().findings if one.evidence.get("of") == "one batch"]
    return [(one.severity, one.evidence["begun"], one.evidence["batches"]) for one in found]


@pytest.mark.parametrize(
    ("way", "how", "expected"),
    [
        ("anew", {}, [("error", 24, 3)]),
        ("anew", {"steps": 19}, []),
        ("anew", {"batch": 48}, []),  # it is all there is
        ("shuffled", {}, []),  # another batch each time
        ("looped", {"steps": 60}, []),
        ("fixed", {}, []),  # as to see whether one batch can be learned
    ],
)
def test_the_first_batch_again_and_again(way: str, how: dict[str, int], expected: list[tuple[str, int, int]]) -> None:
    assert told(way, **how) == expected
