"""A task that a small network learns in some steps, and a network that learns nothing."""

from __future__ import annotations

import torch
from torch import nn

CLASSES, FEATURES = 4, 20


def samples(number: int = 320) -> tuple[torch.Tensor, torch.Tensor]:
    """Random inputs, and the largest of four random projections of each."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(number, FEATURES, generator=generator)
    return x, (x @ torch.randn(FEATURES, CLASSES, generator=generator)).argmax(1)


def healthy_network() -> nn.Sequential:
    """Three ReLU layers as He would start them; dropout, so that a disturbed random state shows."""
    layers: list[nn.Module] = []
    for width in (FEATURES, 32, 32):
        layers += [nn.Linear(width, 32), nn.ReLU(), nn.Dropout(0.1)]
        nn.init.kaiming_normal_(layers[-3].weight)
    return nn.Sequential(*layers, nn.Linear(32, CLASSES))


def sick_network() -> nn.Sequential:
    """Twelve sigmoid layers: a gradient of 1e-1 at the top is one of 1e-11 at the bottom."""
    layers: list[nn.Module] = []
    for width in (FEATURES, *[32] * 11):
        layers += [nn.Linear(width, 32), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(32, CLASSES))
