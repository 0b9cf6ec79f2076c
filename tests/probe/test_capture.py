"""While work is recorded into a CUDA graph nothing is measured: the recording itself is made up here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diag.probe import capture, forward
from diag.probe.capture import is_capturing
from diag.probe.probe import Probe

RECORDS = [False]


@pytest.fixture(autouse=True)
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (capture, forward):
        monkeypatch.setattr(module, "is_capturing", lambda: RECORDS[0])
    yield
    RECORDS[0] = False


def test_without_a_device_nothing_is_recorded() -> None:
    assert torch.cuda.is_initialized() or not is_capturing()


def test_what_is_recorded_is_not_seen() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = torch.randn(8, 6), torch.arange(8) % 3

    def step() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    probe = Probe(discover=True)
    probe.start()
    for number in range(6):
        RECORDS[0] = number in (2, 3)
        step()
    probe.stop()
    trace = probe.trace()
    assert len(trace.steps) == 4
    assert trace.coverage["training_passes"] == 4
    assert trace.coverage["clips"] == 4
    sizes = trace.frame.groupby("step").size().tolist()
    assert sizes[:2] == sizes[2:], "what stands beside a loss is looked at in every other step"
    assert [one for one in trace.coverage["notes"] if "CUDA graph" in one]


def test_without_a_recording_nothing_is_said() -> None:
    model = nn.Linear(3, 2)
    probe = Probe([model])
    probe.start()
    model(torch.randn(4, 3)).sum().backward()
    probe.end_step()
    probe.stop()
    assert not [one for one in probe.trace().coverage["notes"] if "CUDA graph" in one]


@pytest.mark.parametrize(("cleared", "uncleared"), [("before", 0), ("never", 20), ("within", 0), ("another's", 0)])
def test_gradients_that_a_graph_writes_anew_need_not_be_cleared(cleared: str, uncleared: int) -> None:
    """Those that there were when it was recorded it adds to, unless it clears them itself."""
    model, other = nn.Linear(6, 3), nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = torch.randn(8, 6), torch.arange(8) % 3
    probe = Probe(discover=True)
    probe.start()
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    if cleared == "another's":
        F.cross_entropy(other(x), y).backward()
    if cleared in ("before", "another's"):
        optimizer.zero_grad(set_to_none=True)
    RECORDS[0] = True
    if cleared == "within":
        optimizer.zero_grad(set_to_none=False)
    F.cross_entropy(model(x), y).backward()
    RECORDS[0] = False
    for _ in range(20):
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad.numpy()[...] = 0.01  # as a replay, of which autograd does not know
        optimizer.step()
    probe.stop()
    assert probe.trace().coverage["uncleared_steps"] == uncleared


@pytest.mark.parametrize("recorded", [True, False])
def test_an_optimizer_whose_steps_a_graph_takes(recorded: bool) -> None:
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probe = Probe(discover=True)
    probe.start()
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(8, 6)).sum().backward()
    RECORDS[0] = recorded
    if recorded:
        optimizer.step()
    RECORDS[0] = False
    probe.stop()
    assert probe.trace().coverage["zeroed_without_step"] == (0 if recorded else 3)
