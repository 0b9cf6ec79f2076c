"""What a test has to know of README.md and docs/tour.md beyond their text, each entry with its reason.

A key is a document and one of its command lines, or a document and the name of a block: its file, or its section.
"""

from __future__ import annotations

from dataclasses import dataclass

Key = tuple[str, str]


@dataclass(frozen=True)
class Instead:
    """Commands that are run in place of one that takes too long, a line each, and the exit codes that they may have."""

    lines: str
    why: str
    codes: tuple[int, ...] = (0,)


NOT_RUN: dict[Key, str] = {
    ("README.md", "make demo"): "installs into .venv; tests/cli/test_demo.py runs the demonstration",
    ("README.md", "make test"): "is what runs this test",
    ("README.md", "diag run inits activations --quick"): "hundreds of trainings; `diag run quick` above it is run",
    (
        "README.md",
        "diag run inits --engine ray",
    ): "starts Ray, and hundreds of trainings; tests/suite/test_ray_engine.py",
    ("README.md", "ray start --head --port=6379"): "starts a service on this machine",
    ("README.md", "ray start --address=FIRST_MACHINE:6379"): "needs several machines",
    ("README.md", "diag run inits --engine ray --address FIRST_MACHINE:6379"): "needs several machines",
    ("docs/tour.md", "pip install '.[suites]'"): "installs; tests/test_wheel.py installs the wheel",
    ("docs/tour.md", "pip install './diag[suites]'"): "installs; tests/test_wheel.py installs the wheel",
}

SHORTENED: dict[Key, Instead] = {
    ("README.md", "diag run quick"): Instead(
        "diag run quick --seeds 2 --set steps=1",
        "a minute; after one step claims may fail",
        (0, 1),
    ),
    ("README.md", "diag run mysuite.py --seeds 10 --set width=128"): Instead(
        "diag run mysuite.py --seeds 1 --set width=16 --set steps=1",
        "half a minute; one seed leaves its claim undecided",
    ),
    ("README.md", "diag compare diag-runs/quick-001 diag-runs/quick-002"): Instead(
        "cp -r diag-runs/quick-001 diag-runs/quick-002\ndiag compare diag-runs/quick-001 diag-runs/quick-002",
        "the second run is the first once more",
    ),
    ("README.md", "diag run quick --output build/now"): Instead(
        "mkdir build\ncp -r diag-runs/quick-001 build/now",
        "the run of `diag run quick` once more",
    ),
    ("README.md", "diag scale model.py:build --width 1,2,4,8"): Instead(
        "diag scale scalable.py:build --width 1,2,4,8",
        "its `build` takes a width, unlike the one that README.md shows; such a network need not be level",
        (0, 1),
    ),
}

SHOWN_LATE: dict[Key, str] = {
    ("README.md", "model.py"): "the command stands first, and then what it needs",
}
"""Files that a command uses above the block that shows them."""
