"""Faults of weights and of what flows: scales, laws, symmetry, biases, norms, activations, recurrence, dropout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.inject import (
    GROWS,
    SHRINKS,
    TOO_LARGE,
    NotApplicable,
    after,
    at_depth,
    biases,
    injector,
    matrices,
    trunk,
)  # fmt: skip

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
DEAD = "dead-units saturated-activation collapsed-signal vanishing-gradient missing-gradient"


@injector("init-scale-down", (0.5, 0.2, 0.05, 0.01), SHRINKS + " stalled-update")
@torch.no_grad()
def scale_down(workload: Workload, strength: float) -> None:
    """All matrices but the last times `strength`."""
    for _, weight in matrices(workload.model):
        weight.mul_(strength)


@injector("init-scale-up", (3, 10, 100), TOO_LARGE + " stalled-update loss-not-decreasing")
@torch.no_grad()
def scale_up(workload: Workload, strength: float) -> None:
    """All matrices but the last times `strength`."""
    for _, weight in matrices(workload.model):
        weight.mul_(strength)


@injector("init-one-layer", (1e-2, 1e-4, 1e-6), SHRINKS + " stalled-update missing-gradient")
@torch.no_grad()
def one_layer(workload: Workload, strength: float) -> None:
    """The middle matrix times `strength`."""
    found = matrices(workload.model)
    found[len(found) // 2][1].mul_(strength)


@injector("init-normal-wide", (0.5, 1, 3), TOO_LARGE + " stalled-update loss-not-decreasing")
@torch.no_grad()
def normal_wide(workload: Workload, strength: float) -> None:
    """All matrices but the last normal with standard deviation `strength`, whatever their size."""
    for _, weight in matrices(workload.model):
        weight.normal_(std=strength)


@injector("init-normal-narrow", (1e-2, 1e-3, 1e-5), SHRINKS + " stalled-update missing-gradient")
@torch.no_grad()
def normal_narrow(workload: Workload, strength: float) -> None:
    """All matrices but the last normal with standard deviation `strength`, whatever their size."""
    for _, weight in matrices(workload.model):
        weight.normal_(std=strength)


@injector("init-positive", (0.3, 1), TOO_LARGE + " collapsed-signal symmetric-units loss-not-decreasing")
@torch.no_grad()
def positive(workload: Workload, strength: float) -> None:
    """All matrices but the last uniform from 0 to `strength`."""
    for _, weight in matrices(workload.model):
        weight.uniform_(0, strength)


@injector("symmetric-units", (0.5, 0.9, 1), "symmetric-units collapsed-signal", "symmetric-units")
@torch.no_grad()
def symmetric(workload: Workload, strength: float) -> None:
    """This share of the units of each layer but the last has equal weights."""
    for _, weight in matrices(workload.model):
        count = round(strength * len(weight))
        weight[:count] = weight[:1]
        if strength == 1:
            weight.fill_(0.05)
    for bias in biases(workload.model):
        bias.zero_()


@injector("zero-init", (1,), "symmetric-units dead-units vanishing-gradient missing-gradient collapsed-signal")
@torch.no_grad()
def zeros(workload: Workload, strength: float) -> None:
    """All matrices but the last are zero."""
    for _, weight in matrices(workload.model):
        weight.zero_()


@injector("bias-down", (1, 5, 20), DEAD + " stalled-update", "dead-units saturated-activation collapsed-signal")
@torch.no_grad()
def bias_down(workload: Workload, strength: float) -> None:
    """All biases but the last one are lowered by `strength`."""
    for bias in biases(workload.model):
        bias.sub_(strength)


@injector("bias-up", (1, 5, 20), "saturated-activation exploding-activation collapsed-signal oversized-update "
          "diverging-loss vanishing-gradient", "saturated-activation exploding-activation collapsed-signal "
          "oversized-update diverging-loss")  # fmt: skip
@torch.no_grad()
def bias_up(workload: Workload, strength: float) -> None:
    """All biases but the last one are raised by `strength`."""
    for bias in biases(workload.model):
        bias.add_(strength)


@injector("dead-units", (0.5, 0.9, 1), DEAD, "dead-units saturated-activation collapsed-signal")
@torch.no_grad()
def dead(workload: Workload, strength: float) -> None:
    """This share of the units before each activation is shut by a bias of -1000."""
    if not any(isinstance(one, (nn.ReLU, nn.GELU, nn.SiLU)) for one in workload.model.modules()):
        raise NotApplicable("no activation that shuts")
    for bias in biases(workload.model):
        bias[: round(strength * len(bias))] = -1000.0


@injector("wrong-activation", (1,), SHRINKS + " saturated-activation dead-units")
def wrong_activation(workload: Workload, strength: float) -> None:
    """Every activation that does not saturate becomes a sigmoid, its initialization as before."""
    found = [
        (parent, name)
        for parent in workload.model.modules()
        for name, one in parent.named_children()
        if isinstance(one, (nn.ReLU, nn.GELU, nn.SiLU, nn.LeakyReLU))
    ]
    if not found:
        raise NotApplicable("no such activation")
    for parent, name in found:
        setattr(parent, name, nn.Sigmoid())


@injector("no-norm", (1,), GROWS + " " + SHRINKS + " dead-units loss-not-decreasing")
def no_norm(workload: Workload, strength: float) -> None:
    """Every normalization is left out."""
    found = [
        (parent, name)
        for parent in workload.model.modules()
        for name, one in parent.named_children()
        if isinstance(one, NORMS)
    ]
    if not found:
        raise NotApplicable("no normalization")
    for parent, name in found:
        setattr(parent, name, nn.Identity())


def _recurrent(model: nn.Module) -> list[nn.Parameter]:
    found = [one for name, one in model.named_parameters() if "weight_hh" in name and one.requires_grad]
    if not found:
        raise NotApplicable("no recurrent weight")
    return found


@injector("recurrence-fades", (0.3, 0.05), SHRINKS)
@torch.no_grad()
def recurrence_fades(workload: Workload, strength: float) -> None:
    """Recurrent weights times `strength`."""
    for weight in _recurrent(workload.model):
        weight.mul_(strength)


@injector("recurrence-explodes", (4, 20), GROWS)
@torch.no_grad()
def recurrence_explodes(workload: Workload, strength: float) -> None:
    """Recurrent weights times `strength`."""
    for weight in _recurrent(workload.model):
        weight.mul_(strength)


@injector("dropout", (0.8, 0.95, 0.99), "collapsed-signal loss-not-decreasing dead-units diverging-loss "
          "exploding-activation", "collapsed-signal loss-not-decreasing dead-units")  # fmt: skip
def dropout(workload: Workload, strength: float) -> None:
    """After every part of the trunk this share is dropped."""
    for part in trunk(workload.model):
        after(part, lambda x: F.dropout(x, strength, training=True))


@injector("collapsed-code", (1e-2, 1e-4, 1e-6), "collapsed-signal vanishing-gradient")
def collapsed(workload: Workload, strength: float) -> None:
    """In the middle of the trunk samples differ from their mean by this share of what they did."""

    def change(x: Tensor) -> Tensor:
        mean = x.mean(0, keepdim=True)
        return mean + strength * (x - mean)

    after(at_depth(workload.model, 0.5), change)
