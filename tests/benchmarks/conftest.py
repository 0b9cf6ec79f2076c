"""One thread, and a table of what was measured at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

_TABLE: list[tuple[str, str]] = []


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def report(request: pytest.FixtureRequest):
    """Add a line to the table."""
    return lambda text: _TABLE.append((request.node.name, text))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _TABLE:
        return
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    terminalreporter.section(f"what watching costs (machine load {load})")
    for name, text in _TABLE:
        terminalreporter.write_line(f"{name:60} {text}")
