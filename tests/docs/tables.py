"""What a test has to know of README.md and docs/tour.md beyond their text, each entry with its reason.

A key is a document and one of its command lines, or a document and the name of a block: its file, or its section.
"""

from __future__ import annotations

from dataclasses import dataclass

Key = tuple[str, str]


@dataclass(frozen=True)
class Instead:
    """A command that is run in place of one that takes too long, and the exit codes that it may have."""

    line: str
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
        "cp -r diag-runs/quick-001 diag-runs/quick-002; diag compare diag-runs/quick-001 diag-runs/quick-002",
        "the second run is the first once more",
    ),
    ("README.md", "diag run quick --output build/now"): Instead(
        "mkdir build; cp -r diag-runs/quick-001 build/now",
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

PRELUDES: dict[Key, str] = {
    ("README.md", "model.py"): """
import torch
from torch import nn


class MyNet(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))


class MyTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        self.head = nn.Linear(16, 50)

    def forward(self, tokens):
        return self.head(self.block(self.embedding(tokens)))


class TwoTowers(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(10, 8), nn.Linear(20, 8)

    def forward(self, left, right):
        return (self.left(left).tanh() * self.right(right).tanh()).sum(1)


pixels = torch.randn(256, 784, generator=torch.Generator().manual_seed(0))
my_loader = list(zip(pixels.split(32), pixels[:, :10].argmax(1).split(32)))
criterion = nn.CrossEntropyLoss()
""",
    ("README.md", "Inside your own loop"): """
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
loader = list(torch.randn(20, 32, 8))


def train(batch):
    loss = (model(batch) - batch.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
}
"""What a block takes as the reader's own: put above it."""

PLACEHOLDERS: dict[Key, tuple[str, str]] = {
    ("README.md", "Inside your own loop"): ("...  # your training, unchanged", "train(batch)"),
}
"""Code that a block leaves to the reader, and what stands for it."""

FILES: dict[Key, str] = {
    ("README.md", "scalable.py"): """
import diag
import torch
from torch import nn


def build(width=64):
    model = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 1))
    return diag.Workload(
        model,
        batches=list(torch.randn(4, 32, 8, generator=torch.Generator().manual_seed(0))),
        loss=lambda model, x: (model(x) - x.sum(1, keepdim=True)).square().mean(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
    )
""",
    ("README.md", "train.py"): """
import argparse

import torch

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
rate = parser.parse_args().lr
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=rate)
for _ in range(20):
    batch = torch.randn(32, 8)
    loss = (model(batch) - batch.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
}
"""Files of the reader's that a document, or a line in its place, names and does not show."""
