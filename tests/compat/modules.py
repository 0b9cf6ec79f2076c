"""Rows: what modules do with their inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.compat.loops import CLASSES, WIDTH, job
from tests.compat.oracle import Oracle
from tests.compat.registry import Job, setup

GROUP = "Modules"


class InPlace(nn.Module):
    """A module and a function that overwrite what was measured."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.act, self.b, self.out = nn.Linear(WIDTH, 8), nn.ReLU(True), nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.act(self.a(x)))
        x.add_(0.5)
        return self.out(F.leaky_relu_(x, 0.1))


@setup("in-place operations", GROUP)
def in_place() -> Job:
    def forward(note: Oracle, x: torch.Tensor) -> torch.Tensor:
        x = note("act", torch.where((x := note.linear("a", x)) > 0, x, 0.0))
        x = note.linear("b", x) + 0.5
        return note.linear("out", note("InPlace:leaky_relu", torch.where(x > 0, x, 0.1 * x)))

    return job(InPlace(), forward)


class Shared(nn.Module):
    """One layer and one activation, three times each."""

    def __init__(self) -> None:
        super().__init__()
        self.lin, self.act, self.out = nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = self.act(self.lin(x))
        return self.out(x)


@setup("shared modules, called several times", GROUP)
def shared() -> Job:
    def forward(note: Oracle, x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = note("act", note.linear("lin", x).tanh())
        return note.linear("out", x)

    return job(Shared(), forward)


class Tied(nn.Module):
    """One parameter under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.b(torch.sigmoid(self.a(x)))))


@setup("tied weights", GROUP)
def tied() -> Job:
    def forward(note: Oracle, x: torch.Tensor) -> torch.Tensor:
        x = note("Tied:sigmoid", 1 / (1 + torch.exp(-note.linear("a", x))))
        x = note("b", x @ note.p["a.weight"].mT + note.p["b.bias"])
        return note.linear("out", note("Tied:tanh", x.tanh()))

    return job(Tied(), forward)


@dataclass
class Output:
    """What models of transformers return, in small."""

    left: torch.Tensor
    right: tuple[torch.Tensor, None]


class Head(nn.Module):
    """A leaf that returns two tensors, packed in one way or another."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.randn(2, WIDTH))

    def forward(self, x: torch.Tensor) -> Any:
        left, right = x * self.weight[0], x - self.weight[1]
        return {"tuple": (left, right), "dict": {"left": left, "right": right}}.get(
            self.kind, Output(left, (right, None))
        )


class Structured(nn.Module):
    """Uses both tensors of its head."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.head, self.out = Head(kind), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        match self.head(x):
            case (left, right):
                pass
            case {"left": left, "right": right}:
                pass
            case Output(left, (right, _)):
                pass
        return self.out(left + 2 * right)


def _structured(kind: str, suffix: str) -> Job:
    def forward(note: Oracle, x: torch.Tensor) -> torch.Tensor:
        weight = note.p["head.weight"]
        left, right = note("head", x * weight[0]), note(f"head{suffix}", x - weight[1])
        return note.linear("out", left + 2 * right)

    return job(Structured(kind), forward)


@setup("tuple outputs", GROUP)
def tuples() -> Job:
    return _structured("tuple", "[1]")


@setup("dict outputs", GROUP)
def dicts() -> Job:
    return _structured("dict", "[right]")


@setup("dataclass outputs, with None inside", GROUP)
def dataclasses() -> Job:
    return _structured("dataclass", "[right][0]")


class Keywords(nn.Module):
    """Everything is given by name."""

    def __init__(self) -> None:
        super().__init__()
        self.lin, self.act, self.out = nn.Linear(WIDTH, 8), nn.SiLU(), nn.Linear(8, CLASSES)

    def forward(self, *, x: torch.Tensor, shift: float) -> torch.Tensor:
        return self.out(input=self.act(input=self.lin(input=x) + shift))


@setup("inputs by keyword", GROUP)
def keywords() -> Job:
    def forward(note: Oracle, x: torch.Tensor) -> torch.Tensor:
        x = note.linear("lin", x) + 0.5
        return note.linear("out", note("act", x / (1 + torch.exp(-x))))

    model = Keywords()
    return job(model, forward, call=lambda x: model(x=x, shift=0.5))
