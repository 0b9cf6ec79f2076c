"""One thread, and tables of what was measured: at the end, and in the folder that DIAG_COST_REPORT names."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from diag.atomic import write_text

_TABLE: list[tuple[str, str]] = []
_COST: dict[str, dict[str, float]] = {}
_COST_ON_GPU: dict[str, dict[str, float]] = {}
BARS = {
    "diag, compiled": {"MLP 20x256 relu": 1.20, "MLP 10x1024 tanh": 1.06, "CNN 8x64": 1.20, "GPT 6x256": 1.12},
    "diag, torch": {"MLP 20x256 relu": 1.9, "MLP 10x1024 tanh": 1.20, "CNN 8x64": 1.5, "GPT 6x256": 1.4},
    "diag, between every=10": dict.fromkeys(("MLP 20x256 relu", "MLP 10x1024 tanh", "CNN 8x64", "GPT 6x256"), 1.01),
    "diag, peak memory": dict.fromkeys(("MLP 20x256 relu", "MLP 10x1024 tanh", "CNN 8x64", "GPT 6x256"), 1.05),
}
"""What the project asks of itself."""
HEAD = """# What watching costs

A step with the instrument over a step without it: medians of the ratios of pairs, one after the other in one process,
CPU time, one thread; where a step takes milliseconds, pairs of five steps under one watch, with its end. Activation and
gradient statistics of every leaf at every step; "with parameters" weights, their gradients and updates too. Peak
memory: of the process, over its peak in plain steps, with freed blocks given back at once. In brackets: the most that
the project allows itself, where it names a bar. `make bench` measures it again.
On a GPU: [cuda.md](cuda.md).
"""
HEAD_ON_GPU = """# What watching costs on a GPU

Blocks of ten watched steps over plain blocks beside them, wall time until the GPU is done: medians of the ratios.
Activation and gradient statistics of every leaf at every step; "with parameters" weights, their gradients and updates
too. Of the four networks that are measured on the CPU most steps are as long as their launches take the host, and so is
watching them; the fifth has the shape of GPT-2 small (batch 8, 512 tokens), in float32. Peak memory: what torch
allocated on the GPU, over plain steps. `make bench` measures it where a GPU is.
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


def _keeper(table: dict[str, dict[str, float]]) -> Callable[[str, str, float], None]:
    def keep(network: str, what: str, value: float) -> None:
        table.setdefault(what, {})[network] = value

    return keep


@pytest.fixture
def cost():
    """Keep a number for the table of costs: of a network, in a row."""
    return _keeper(_COST)


@pytest.fixture
def cost_on_gpu():
    """The same for the table of costs on a GPU."""
    return _keeper(_COST_ON_GPU)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _TABLE:
        return
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    terminalreporter.section(f"what watching costs (machine load {load})")
    for name, text in _TABLE:
        terminalreporter.write_line(f"{name:60} {text}")
    folder = os.environ.get("DIAG_COST_REPORT")
    where = f"torch {torch.__version__}, Python {platform.python_version()}"
    tables = [
        (_COST, BARS, HEAD, "README.md", "cost.json", f"{where}, {os.cpu_count()} cores, load {load}"),
        (_COST_ON_GPU, {}, HEAD_ON_GPU, "cuda.md", "cuda.json", f"{where}, {_gpu()}"),
    ]
    for costs, bars, head, page, data, machine in tables:
        if costs:
            table = _table(costs, bars)
            terminalreporter.write_line(f"\n{table}")
            if folder:
                write_text(Path(folder) / page, f"{head}\n{table}\nMeasured on {machine}.\n")
                write_text(Path(folder) / data, json.dumps(costs, indent=1, sort_keys=True) + "\n")


def _gpu() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def _table(costs: dict[str, dict[str, float]], bars: dict[str, dict[str, float]]) -> str:
    networks = list(dict.fromkeys(name for row in costs.values() for name in row))
    lines = ["| | " + " | ".join(networks) + " |", "|---|" + "--:|" * len(networks)]
    for what, row in sorted(costs.items(), key=lambda one: (not one[0].startswith("plain"), one[0].lower())):
        bar = bars.get(what, {})
        cells = [_cell(row[name], bar.get(name)) if name in row else "-" for name in networks]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: float, bar: float | None) -> str:
    text = f"{value:.3g}" if value >= 10 else f"{value:.2f}"
    return text if bar is None else f"{text} ({bar:.2f})"
