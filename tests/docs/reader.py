"""What README.md and docs/tour.md leave to the reader: names, code and whole files, small and real, by block."""

from __future__ import annotations

from tests.docs.tables import Key

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
    ("README.md", "In your framework"): """
import lightning
import torch
from torch import nn


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))

    def training_step(self, batch, index):
        return (self.net(batch) - batch.sum(1, keepdim=True)).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


module = Module()
loader = torch.utils.data.DataLoader(torch.randn(128, 8), batch_size=32)
""",
    ("README.md", "In your framework 2"): """
import torch
import transformers
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x, labels):
        output = self.net(x).squeeze(1)
        return {"loss": (output - labels).square().mean(), "logits": output}


model = Model()
data = [{"x": x, "labels": x.sum()} for x in torch.randn(64, 8)]
arguments = transformers.TrainingArguments("trained", max_steps=20, use_cpu=True, report_to=[])
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
