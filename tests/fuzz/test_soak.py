"""A long training, watched all the way."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from torch import nn

import diag

STEPS = 20_000
PAGE = 4096


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@pytest.mark.nightly
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux says how much memory a process holds")
def test_memory_stays_flat_over_twenty_thousand_steps() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[layer for _ in range(8) for layer in (nn.Linear(16, 16), nn.ReLU())], nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    inputs = torch.randn(32, 16)
    sizes = []
    with diag.watch(model, optimizer) as watch:
        for step in range(STEPS):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
            # The trace grows until it is thinned for the first time.
            if step >= STEPS // 4 and step % (STEPS // 20) == 0:
                gc.collect()
                sizes.append(resident())
    assert max(sizes) < 1.01 * sizes[0], [f"{one / 2**20:.1f} MiB" for one in sizes]
    trace = watch.trace
    assert len(trace.steps) == STEPS
    assert trace.frame["step"].max() > 0.9 * STEPS
