"""Faults of the data and of the loss: unscaled, constant, unrelated to the labels, squashed twice."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.case import faulty
from tests.corpus.data import digits, records
from tests.corpus.nets import mlp, regress, sgd

TOO_LARGE = "oversized-update diverging-loss exploding-activation exploding-gradient non-finite dead-units"


def _plain(scale: str = "standard", depth: int = 4, lr: float = 0.1) -> Workload:
    return sgd(mlp(depth, nn.ReLU, "he"), digits(scale=scale), lr)


def _replaced(kind: str) -> Workload:
    batches = digits()
    generator = torch.Generator().manual_seed(5)
    if kind == "zeros":
        batches = [(torch.zeros_like(x), y) for x, y in batches]
    elif kind == "same":
        batches = [(batches[0][0][:1].expand_as(x), y) for x, y in batches]
    elif kind == "tiny":
        batches = [((x + 1) / 255 / 255, y) for x, y in batches]
    elif kind == "shuffled":
        batches = [(x, torch.randint(10, y.shape, generator=generator)) for x, y in batches]
    elif kind == "noise":
        batches = [(torch.randn(x.shape, generator=generator), y) for x, y in batches]
    return sgd(mlp(4, nn.ReLU, "he"), batches, 0.05)


def _softmax(times: int, depth: int = 6) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = model(batch[0])
        for _ in range(times):
            logits = logits.softmax(-1)
        return F.cross_entropy(logits, batch[1])

    return sgd(mlp(depth, nn.ReLU, "he"), digits(), 0.1, loss)


def _one_column(factor: float) -> Workload:
    batches = [(torch.cat([x[:, :1] * factor, x[:, 1:]], 1), y) for x, y in records()]
    return sgd(mlp(3, nn.ReLU, "he", inputs=10, outputs=1), batches, 0.05, regress)


TWIN = partial(_plain)
CASES = [
    faulty("data-raw-pixels", partial(_plain, "raw"), TOO_LARGE, "pixels 0 to 255 at a normal learning rate", TWIN),
    faulty(
        "data-zeros",
        partial(_replaced, "zeros"),
        "collapsed-signal missing-gradient vanishing-gradient dead-units symmetric-units",
        "every input is zero",
        partial(_replaced, ""),
    ),
    faulty(
        "data-same-sample",
        partial(_replaced, "same"),
        "collapsed-signal loss-not-decreasing",
        "every input is the same",
        partial(_replaced, ""),
    ),
    faulty(
        "data-tiny",
        partial(_replaced, "tiny"),
        "vanishing-gradient collapsed-signal loss-not-decreasing",
        "divided by 255 twice",
        partial(_replaced, ""),
    ),
    faulty(
        "data-shuffled-labels",
        partial(_replaced, "shuffled"),
        "loss-not-decreasing unrelated-targets",
        "labels unrelated to inputs",
        partial(_replaced, ""),
        hard=True,
    ),
    faulty(
        "data-noise",
        partial(_replaced, "noise"),
        "loss-not-decreasing unrelated-targets",
        "inputs unrelated to labels",
        partial(_replaced, ""),
        hard=True,
    ),
    faulty(
        "data-one-huge-column",
        partial(_one_column, 1e4),
        TOO_LARGE,
        "one feature is not scaled",
        partial(_one_column, 1.0),
    ),
    faulty(
        "loss-double-softmax",
        partial(_softmax, 1),
        "loss-not-decreasing stalled-update vanishing-gradient saturated-activation",
        "softmax before cross entropy",
        partial(_softmax, 0),
        hard=True,
    ),
    faulty(
        "loss-triple-softmax",
        partial(_softmax, 2),
        "loss-not-decreasing stalled-update vanishing-gradient collapsed-signal",
        "softmax twice before cross entropy",
        partial(_softmax, 0),
        hard=True,
    ),
]
