"""One thread, and tables of what was measured: at the end, and in the folder that DIAG_COST_REPORT names."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from diag.atomic import write_text

_TABLE: list[tuple[str, str]] = []
_COST: dict[str, dict[str, float]] = {}
BARS = {
    "diag, compiled": {"MLP 20x256 relu": 1.20, "MLP 10x1024 tanh": 1.06, "CNN 8x64": 1.20, "GPT 6x256": 1.12},
    "diag, torch": {"MLP 20x256 relu": 1.9, "MLP 10x1024 tanh": 1.20, "CNN 8x64": 1.5, "GPT 6x256": 1.4},
    "diag, between every=10": dict.fromkeys(("MLP 20x256 relu", "MLP 10x1024 tanh", "CNN 8x64", "GPT 6x256"), 1.01),
    "diag, peak memory": dict.fromkeys(("MLP 20x256 relu", "MLP 10x1024 tanh", "CNN 8x64", "GPT 6x256"), 1.05),
}
"""What the project asks of itself."""
HEAD = """# What watching costs

A step with the instrument over a step without it: medians of the ratios of pairs, one after the other in one process,
CPU time, one thread. Activation and gradient statistics of every leaf at every step; "with parameters" weights, their
gradients and updates too. Peak memory: of the process, over its peak in plain steps, with freed blocks given back at
once. In brackets: the most that the project allows itself, where it names a bar. `make bench` measures it again.
"""


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


@pytest.fixture
def cost():
    """Keep a number for the table of costs: of a network, in a row."""

    def keep(network: str, what: str, value: float) -> None:
        _COST.setdefault(what, {})[network] = value

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _TABLE:
        return
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    terminalreporter.section(f"what watching costs (machine load {load})")
    for name, text in _TABLE:
        terminalreporter.write_line(f"{name:60} {text}")
    if _COST:
        terminalreporter.write_line("")
        terminalreporter.write_line(_table())
    folder = os.environ.get("DIAG_COST_REPORT")
    if folder and _COST:
        where = f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores, load {load}"
        write_text(Path(folder) / "README.md", f"{HEAD}\n{_table()}\nMeasured on {where}.\n")
        write_text(Path(folder) / "cost.json", json.dumps(_COST, indent=1, sort_keys=True) + "\n")


def _table() -> str:
    networks = list(dict.fromkeys(name for row in _COST.values() for name in row))
    lines = ["| | " + " | ".join(networks) + " |", "|---|" + "--:|" * len(networks)]
    for what, row in sorted(_COST.items(), key=lambda one: (not one[0].startswith("plain"), one[0].lower())):
        bars = BARS.get(what, {})
        cells = [_cell(row[name], bars.get(name)) if name in row else "-" for name in networks]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: float, bar: float | None) -> str:
    text = f"{value:.3g}" if value >= 10 else f"{value:.2f}"
    return text if bar is None else f"{text} ({bar:.2f})"
