"""Small suites written to a folder: experiments that return numbers, and short trainings on digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from diag.suite.load import load_suite
from diag.suite.suite import Suite

HEADER = "import os, time\nimport torch\nimport pandas as pd\nimport diag\n"
NUMBERS = """
def noisy(seed, scale=1.0, shift=0.0):
    value = shift + scale * float(torch.randn(()))
    return {"value": value, "seed_squared": seed**2, "path": pd.DataFrame({"x": [0, 1], "y": [value, seed]})}

def difference(results):
    return results.difference("value", {"case": "high"}, {"case": "low"})

suite = diag.Suite(
    question="Which is larger?",
    cases={"low": diag.Experiment(noisy), "high": diag.Experiment(noisy, shift=100.0)},
    seeds=3,
    claims=[
        diag.Claim("high is larger", "-", difference, above=50),
        diag.Claim("high is smaller", "-", difference, below=50),
        diag.Claim("low is above 0", "-", lambda r: r.values("value", case="low"), above=0.0),
    ],
    quick_seeds=2,
)
"""
TRAININGS = """
suite = diag.Suite(
    question="Does it learn?",
    cases=diag.axes(diag.Recipe(depth=1, width=16, steps=20), lr=[0.1, 0.2]),
    seeds=2,
    looks=2,
    validations=4,
    claims=[diag.Claim("it learns", "-", lambda r: r.values("test_accuracy", lr=0.2), above=0.2)],
)
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(body, name="mine")` gives the path of a suite file with the usual imports."""

    def _write(body: str, name: str = "mine") -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(HEADER + body)
        return path

    return _write


@pytest.fixture
def numbers(write: Write) -> Suite:
    return load_suite(write(NUMBERS))


@pytest.fixture
def trainings(write: Write) -> Suite:
    return load_suite(write(TRAININGS, "trainings"))
