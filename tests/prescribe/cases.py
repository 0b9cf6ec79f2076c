"""Small trainings with one fault each, and the bench on which their remedies are tried."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.prescribe.prescribe import _bench
from diag.prescribe.remedy import Advice, Remedy
from diag.prescribe.search import Search
from diag.train.workload import Workload

FEATURES, CLASSES = 16, 4
STEPS = 30


def blobs(batches: int = STEPS, size: int = 32, scale: float = 1.0, shape: tuple[int, ...] = (FEATURES,)) -> list[Any]:
    """Standardized clouds around four centers, and which one a sample is of."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn((CLASSES, *shape), generator=generator)
    found = []
    for _ in range(batches):
        labels = torch.randint(CLASSES, (size,), generator=generator)
        noise = torch.randn((size, *shape), generator=generator)
        found.append((scale * (centers[labels] + noise) / 2**0.5, labels))
    return found


def classify(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def mlp(depth: int, act: Callable[[], nn.Module] = nn.ReLU, init: str = "he", gain: float = 1.0) -> nn.Sequential:
    """`depth` linear layers of 32 units, drawn by seed 0."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    size = FEATURES
    for _ in range(depth - 1):
        layers += [nn.Linear(size, 32), act()]
        size = 32
    model = nn.Sequential(*layers, nn.Linear(size, CLASSES))
    for layer in model:
        if isinstance(layer, nn.Linear):
            (nn.init.kaiming_normal_ if init == "he" else nn.init.xavier_normal_)(layer.weight)
            nn.init.zeros_(layer.bias)
            layer.weight.data.mul_(gain)
    return model


def sgd(model: nn.Module, lr: float = 0.1, batches: Any = None, loss: Any = classify, **options: Any) -> Workload:
    batches = blobs() if batches is None else batches
    return Workload(model, batches, loss, torch.optim.SGD(model.parameters(), lr=lr, **options))


def search(workload: Workload, seeds: int = 3, steps: int = STEPS) -> Search:
    """The search for a workload, with nothing tried yet."""
    return Search(_bench(workload, steps, seeds), 8)


def proposals(workload: Workload, **options: Any) -> tuple[Search, dict[str, Remedy], dict[str, Advice]]:
    """What the families propose, by name: remedies and advice."""
    found = search(workload, **options)
    remedies = {one.name: one for one in found._candidates()}
    return found, remedies, {one.name: one for one in found.advice}


@contextmanager
def quiet() -> Iterator[None]:
    """As a remedy is tried: torch may warn of what it provokes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
