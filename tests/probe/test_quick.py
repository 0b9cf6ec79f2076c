"""What goes the short way is measured as what goes the long way."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import diag
from diag.probe.quick import Quick


def _train(rows: list[int], dtype: torch.dtype) -> pd.DataFrame:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(inplace=True), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3)
    ).to(dtype)  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model) as watch:
        for count in rows:
            optimizer.zero_grad()
            inputs = torch.randn(count, 8, dtype=dtype)
            target = torch.randint(3, (count,))
            (F.cross_entropy(model(inputs), target) + model(2 * inputs).square().mean()).backward()
            optimizer.step()
    return watch.trace.frame


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_short_way_gives_what_the_long_way_gives(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a batch is of another size, and where a model is called twice in a step."""
    rows = [32, 32, 32, 20, 20, 32, 32]
    seen: list[str] = []
    learn = Quick.learn
    monkeypatch.setattr(Quick, "learn", lambda self, frame: (learn(self, frame), seen.append(frame.path))[0])
    quick = _train(rows, dtype)
    assert 0 < len(seen) < 5 * 2 * len(rows)  # some went the short way
    monkeypatch.setattr(Quick, "learn", lambda self, frame: None)
    pd.testing.assert_frame_equal(quick, _train(rows, dtype))


def test_a_gradient_that_is_another_in_kind_is_measured() -> None:
    """Of an output that is expanded in one step only, the gradient lies in memory in another way."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model) as watch:
        for step in range(4):
            optimizer.zero_grad()
            output = model(torch.randn(5, 4))
            (output.sum() if step == 3 else output.square().sum()).backward()
            optimizer.step()
    gradients = watch.trace.frame.query("kind == 'gradient'")
    assert gradients.groupby("step").size().tolist() == [2, 2, 2, 2]
    last = gradients[gradients["step"] == 3].set_index("site")
    assert float(last.loc["1", "mean"]) == 1.0
