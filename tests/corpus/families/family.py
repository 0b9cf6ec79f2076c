"""A model family: one builder, and the variations in which its healthy set-ups come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from diag.train.workload import Workload
from tests.corpus.nets import Loss, classify

FAMILIES: dict[str, Family] = {}


@dataclass(frozen=True)
class Family:
    """variants: name to builder; faults are injected into the first. source: the module it is defined in."""

    name: str
    variants: dict[str, Callable[[], Workload]]
    learns: bool = True
    source: str = ""


def family(
    name: str, learns: bool = True, **variants: dict[str, Any]
) -> Callable[[Callable[..., Workload]], Callable[..., Workload]]:
    """Register a builder: a variant `base` as it is, and one for each set of arguments."""

    def register(build: Callable[..., Workload]) -> Callable[..., Workload]:
        assert name not in FAMILIES
        builds = {"base": partial(build), **{one: partial(build, **given) for one, given in variants.items()}}
        FAMILIES[name] = Family(name, builds, learns, build.__module__)
        return build

    return register


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "rmsprop": torch.optim.RMSprop,
    "nadam": torch.optim.NAdam,
    "adagrad": torch.optim.Adagrad,
}


def trained(
    model: nn.Module, batches: Iterable[Any], lr: float, loss: Loss = classify, optimizer: str = "adam"
) -> Workload:
    """A workload trained by one of OPTIMIZERS."""
    return Workload(model, batches, loss, OPTIMIZERS[optimizer](model.parameters(), lr=lr))


SGD = {"optimizer": "sgd", "lr": 0.1}
SLOW_SGD = {"optimizer": "sgd", "lr": 0.03}
MOMENTUM = {"optimizer": "momentum", "lr": 0.02}
