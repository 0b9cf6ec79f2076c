"""Losses of the wrong sign or scale, or that squash what was squashed already."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from diag.prescribe.arm import Loss
from diag.prescribe.patient import Patient
from diag.prescribe.remedy import SLOW, STEP, Advice, Remedy, family
from diag.prescribe.watched import Watched
from diag.rules.finding import Finding
from diag.train.workload import Workload

PLACE = 80
SMALL, LARGE = 1e-3, 50.0
"""Losses of classification and of standardized regression begin between these by far."""

_SIGN = """def turned_loss(model, batch):
    return -loss(model, batch)
"""
_SCALE = """def scaled_loss(model, batch):
    return loss(model, batch) * {factor:.3g}
"""
_CROSS_ENTROPY = """import torch


def loss_of_logits(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
"""
WITHOUT = """from torch import nn

parent, _, child = {name!r}.rpartition(".")
setattr(model.get_submodule(parent), child, nn.Identity())
"""


def measure_of(workload: Workload, watched: Watched, batches: Sequence[Any]) -> tuple[Loss, str]:
    """The loss by which trainings are compared, and what it is: the user's own and "", unless it is itself at fault."""
    user = workload.loss
    if any(one.rule == "diverging-loss" and one.evidence.get("of") == "sign" for one in watched.findings):
        return lambda model, batch: -user(model, batch), "minus the loss, whose sign is turned"
    twice = _twice(watched)
    if twice and not _module_at(workload.model, twice) and _are_classes(batches):
        return lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]), "the cross-entropy of the logits"
    return user, ""


def _twice(watched: Watched) -> Finding | None:
    """The finding that a loss squashes what was squashed already."""
    return next((one for one in watched.findings if "floor" in one.evidence), None)


def _module_at(model: nn.Module, finding: Finding) -> nn.Module | None:
    """The module of the model that squashes, if it is one."""
    found = dict(model.named_modules()).get(finding.site) if finding.site else None
    return found if isinstance(found, (nn.Softmax, nn.LogSoftmax, nn.Sigmoid)) else None


def _are_classes(batches: Sequence[Any]) -> bool:
    """Whether batches are pairs of inputs and class numbers."""
    first = batches[0]
    pair = isinstance(first, (tuple, list)) and len(first) == 2
    return pair and isinstance(first[1], torch.Tensor) and first[1].dtype == torch.int64


@family("sign of the loss")
def sign(patient: Patient) -> Iterator[Remedy | Advice]:
    """The sign turned where the rules saw the negative of a loss that is never negative."""
    if patient.finding("diverging-loss", of="sign"):
        change = "Turn the sign of the loss: what is minimized is minus a loss that is never negative."
        rules = ("diverging-loss",)
        yield Remedy("sign turned", "loss", change, _SIGN, rules, direct=True, place=PLACE, loss="turned_loss")


@family("scale of the loss")
def scale(patient: Patient) -> Iterator[Remedy | Advice]:
    """The loss divided by its first value where that is far from 1."""
    steps = patient.watched.trace.steps
    known = [float(one) for one in steps.loc[steps["loss_known"].astype(bool), "loss"]]
    first = known[0] if known else math.nan
    if not math.isfinite(first) or first == 0 or SMALL <= abs(first) <= LARGE or patient.optimizer is None:
        return
    if patient.suffers(*STEP, *SLOW, "vanishing-gradient", "missing-gradient", "exploding-gradient"):
        yield Remedy(
            "loss scaled",
            "loss",
            f"Scale the loss to order 1: it begins at {first:.3g}, and gradients are as large or as small.",
            _SCALE.format(factor=1 / abs(first)),
            (*STEP, *SLOW, "vanishing-gradient", "missing-gradient", "exploding-gradient"),
            direct=abs(first) < SMALL,
            place=PLACE,
            loss="scaled_loss",
        )


@family("softmax twice")
def squashed(patient: Patient) -> Iterator[Remedy | Advice]:
    """The squashing taken out of the model, or the loss of the logits in place of the user's."""
    twice = _twice(patient.watched)
    if twice is None:
        return
    if _module_at(patient.model, twice):
        change = f"Take {twice.site} out of the model: the loss applies its own."
        code = WITHOUT.format(name=twice.site)
        yield Remedy("squashed once", "loss", change, code, SLOW, direct=True, surgery=True, place=5)
    elif _are_classes(patient.batches):
        change = "Give cross_entropy the logits: it applies softmax itself."
        code = _CROSS_ENTROPY
        yield Remedy("squashed once", "loss", change, code, SLOW, direct=True, place=PLACE, loss="loss_of_logits")
    else:
        why = "the loss is not known to be one of model(batch[0]) and batch[1]: take the squashing out of it by hand"
        yield Advice("squashed once", "Squash the output once: the loss does it.", why)
