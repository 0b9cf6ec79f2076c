"""Rows: layers whose weight is computed at every call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from tests.compat.loops import job, network
from tests.compat.oracle import Oracle
from tests.compat.registry import Job, setup

GROUP = "Reparametrized weights"


class Symmetric(nn.Module):
    """A parametrization of one's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.triu() + x.triu(1).mT


class Square(nn.Sequential):
    """The usual network with a square first layer."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))


def _job(model: nn.Module, weight: Callable[[Oracle], torch.Tensor]) -> Job:
    def forward(note: Oracle, x: torch.Tensor) -> torch.Tensor:
        x = note("0", x @ weight(note).mT + note.p["0.bias"])
        return note.linear("2", note("1", x.tanh()))

    return job(model, forward)


_PICKLE = {"pickle": "torch refuses to pickle parametrized modules, watched or not; deep copies are made"}
_DEEPCOPY = {"deepcopy": "torch refuses to deep-copy the computed weight, watched or not; pickling works"}


@setup("parametrize", GROUP, refused=_PICKLE)
def symmetric() -> Job:
    def weight(note: Oracle) -> torch.Tensor:
        original = note.p["0.parametrizations.weight.original"]
        return original.triu() + original.triu(1).mT

    model = Square()
    parametrize.register_parametrization(model[0], "weight", Symmetric())
    return _job(model, weight)


@setup(
    "weight norm (torch.nn.utils.parametrizations)",
    GROUP,
    refused=_PICKLE,
)
def weight_norm() -> Job:
    def weight(note: Oracle) -> torch.Tensor:
        g, v = (note.p[f"0.parametrizations.weight.original{i}"] for i in (0, 1))
        return g * v / v.norm(dim=1, keepdim=True)

    model = network()
    parametrizations.weight_norm(model[0])
    return _job(model, weight)


@setup(
    "weight norm (torch.nn.utils, deprecated)",
    GROUP,
    refused=_DEEPCOPY,
    ignored=("`torch.nn.utils.weight_norm` is deprecated",),
)
def old_weight_norm() -> Job:
    def weight(note: Oracle) -> torch.Tensor:
        return note.p["0.weight_g"] * note.p["0.weight_v"] / note.p["0.weight_v"].norm(dim=1, keepdim=True)

    model = network()
    nn.utils.weight_norm(model[0])
    return _job(model, weight)


@setup("spectral norm", GROUP, refused=_PICKLE)
def spectral_norm() -> Job:
    def weight(note: Oracle) -> torch.Tensor:
        w, u, v = (note.p[f"0.parametrizations.weight.{one}"] for one in ("original", "0._u", "0._v"))
        with torch.no_grad():  # the step of power iteration that a training pass begins with
            u = nn.functional.normalize(w @ v, dim=0)
            v = nn.functional.normalize(w.mT @ u, dim=0)
        return w / (u @ w @ v)

    model = network()
    parametrizations.spectral_norm(model[0])
    return _job(model, weight)


@setup("pruning masks", GROUP, refused=_DEEPCOPY)
def pruned() -> Job:
    def weight(note: Oracle) -> torch.Tensor:
        return note.p["0.weight_orig"] * note.p["0.weight_mask"]

    model = network()
    prune.random_unstructured(model[0], "weight", 0.5)
    return _job(model, weight)
