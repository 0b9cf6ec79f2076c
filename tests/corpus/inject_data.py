"""Faults of data and loss: scales, constants, labels that do not belong, a loss squashed twice or turned."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.inject import TOO_LARGE, NotApplicable, classes, injector, pairs
from tests.corpus.nets import classify


@injector("input-large", (10, 100, 1e4), TOO_LARGE + " loss-not-decreasing collapsed-signal")
def input_large(workload: Workload, strength: float) -> None:
    """Inputs times `strength`."""
    workload.batches = [(x * strength, y) for x, y in pairs(workload)]


@injector("input-offset", (10, 1e3), TOO_LARGE + " loss-not-decreasing collapsed-signal")
def input_offset(workload: Workload, strength: float) -> None:
    """Inputs plus `strength`."""
    workload.batches = [(x + strength, y) for x, y in pairs(workload)]


@injector("input-tiny", (1e-2, 1e-4, 1e-6), "collapsed-signal vanishing-gradient loss-not-decreasing stalled-update",
          "collapsed-signal vanishing-gradient loss-not-decreasing")  # fmt: skip
def input_tiny(workload: Workload, strength: float) -> None:
    """Inputs times `strength`."""
    workload.batches = [(x * strength, y) for x, y in pairs(workload)]


@injector("input-constant", (1,), "collapsed-signal symmetric-units dead-units", "collapsed-signal")
def input_constant(workload: Workload, strength: float) -> None:
    """Every sample of every batch is the first one."""
    batches = classes(workload)
    first = batches[0][0][:1]
    workload.batches = [(first.expand_as(x).clone(), y) for x, y in batches]


@injector("shuffled-labels", (0.5, 1), "loss-not-decreasing unrelated-targets", beyond=True)
def shuffled(workload: Workload, strength: float) -> None:
    """This share of the labels belongs to other samples."""
    generator = torch.Generator().manual_seed(6)
    out = []
    for x, y in classes(workload):
        count = round(strength * len(y))
        order = torch.cat([torch.randperm(count, generator=generator), torch.arange(count, len(y))])
        out.append((x, y[order]))
    workload.batches = out


@injector("nan-in-data", (20, 5, 0), "non-finite")
def nan_in_data(workload: Workload, strength: float) -> None:
    """One value of batch `strength` is NaN."""
    batches = pairs(workload)
    x, y = batches[int(strength)]
    x = x.clone()
    x.view(-1)[3] = torch.nan
    batches[int(strength)] = (x, y)
    workload.batches = batches


@injector("double-softmax", (1, 2), "loss-not-decreasing vanishing-gradient saturated-activation stalled-update "
          "collapsed-signal", "loss-not-decreasing saturated-activation")  # fmt: skip
def double_softmax(workload: Workload, strength: float) -> None:
    """`strength` softmaxes before the cross entropy."""
    if workload.loss is not classify:
        raise NotApplicable("another loss")

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = model(batch[0])
        for _ in range(int(strength)):
            logits = logits.softmax(-1)
        return F.cross_entropy(logits, batch[1])

    workload.loss = loss


@injector("wrong-sign", (1,), TOO_LARGE, "diverging-loss oversized-update exploding-activation")
def wrong_sign(workload: Workload, strength: float) -> None:
    """The loss is made larger in place of smaller."""
    loss = workload.loss
    workload.loss = lambda model, batch: -loss(model, batch)


@injector("labels-shifted", (1,), "diverging-loss loss-not-decreasing unrelated-targets", beyond=True)
def one_class(workload: Workload, strength: float) -> None:
    """Each sample has the label of the one before it."""
    workload.batches = [(x, y.roll(1, 0)) for x, y in classes(workload)]
