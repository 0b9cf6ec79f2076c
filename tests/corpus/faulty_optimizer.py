"""Faults of the update: too large, too small, of the wrong parameters, of the wrong sign, never cleared."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.case import faulty
from tests.corpus.data import characters, digits, records
from tests.corpus.healthy_attention import GPT, Encoder
from tests.corpus.healthy_conv import Block, _conv_bn
from tests.corpus.nets import Clipped, adam, classify, mlp, next_token, regress, sgd

TOO_LARGE = "oversized-update diverging-loss exploding-activation exploding-gradient non-finite dead-units"
TOO_SMALL = "stalled-update"

Make = Callable[[nn.Module], torch.optim.Optimizer]


def _with(make: Make, depth: int = 4) -> Workload:
    model = mlp(depth, nn.ReLU, "he")
    return Workload(model, digits(), classify, make(model))


def _sgd(lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> Workload:
    return _with(lambda m: torch.optim.SGD(m.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay))


def _adam(lr: float, eps: float = 1e-8) -> Workload:
    return _with(lambda m: torch.optim.Adam(m.parameters(), lr=lr, eps=eps))


class NeverCleared(torch.optim.SGD):
    """zero_grad is forgotten: gradients add up over all steps."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Leave the gradients."""


def _decaying(rate: float) -> Workload:
    workload = _sgd(0.1)
    assert workload.optimizer is not None
    schedule = torch.optim.lr_scheduler.ExponentialLR(workload.optimizer, rate)
    workload.optimizer.register_step_post_hook(lambda *_: schedule.step())
    return workload


def _clipped(limit: float) -> Workload:
    return _with(lambda m: Clipped(m.parameters(), 0.1, limit))


def _of_copy(copied: bool) -> Workload:
    return _with(lambda m: torch.optim.Adam((copy.deepcopy(m) if copied else m).parameters(), lr=3e-3))


def _part(only: slice) -> Workload:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        assert isinstance(model, nn.Sequential)
        return torch.optim.SGD(model[only].parameters(), lr=0.1)

    return _with(make, 6)


def _loud_group(lr: float) -> Workload:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        assert isinstance(model, nn.Sequential)
        groups: list[dict[str, Any]] = [
            {"params": model[:-1].parameters()},
            {"params": model[-1].parameters(), "lr": lr},
        ]
        return torch.optim.SGD(groups, lr=0.05)

    return _with(make)


def _negated(sign: float) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return sign * F.cross_entropy(model(batch[0]), batch[1])

    return sgd(mlp(4, nn.ReLU, "he"), digits(), 0.1, loss)


def _summed(reduction: str, lr: float) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], reduction=reduction)

    return sgd(mlp(4, nn.ReLU, "he"), digits(64), lr, loss)


def _scaled_loss(scale: float, dtype: torch.dtype) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]).float(), batch[1]) * scale

    model = mlp(5, nn.ReLU, "he").to(dtype)
    return sgd(model, [(x.to(dtype), y) for x, y in digits()], 0.1, loss)


def _gpt(lr: float) -> Workload:
    return adam(GPT(), characters(), lr, next_token)


def _resnet(lr: float) -> Workload:
    model = nn.Sequential(
        *_conv_bn(1, 16),
        *(Block(16, 16, 1, False) for _ in range(3)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    return sgd(model, digits(image=True), lr)


def _regression(lr: float, scale: float) -> Workload:
    batches = [(x, y * scale) for x, y in records()]
    return sgd(mlp(4, nn.ReLU, "he", inputs=10, outputs=1), batches, lr, regress)


def _bf16(lr: float) -> Workload:
    return adam(mlp(4, nn.ReLU, "he").to(torch.bfloat16), [(x.bfloat16(), y) for x, y in digits()], lr)


TWIN = partial(_sgd, 0.1)
CASES = [
    faulty("lr-1000x-sgd", partial(_sgd, 100.0), TOO_LARGE, "learning rate x1000", TWIN),
    faulty("lr-30x-sgd", partial(_sgd, 5.0), TOO_LARGE, "learning rate x50", TWIN),
    faulty("lr-1000x-adam", partial(_adam, 3.0), TOO_LARGE, "learning rate x1000", partial(_adam, 3e-3)),
    faulty("lr-100x-adam", partial(_adam, 0.3), TOO_LARGE, "learning rate x100", partial(_adam, 3e-3)),
    faulty("lr-1e-9-sgd", partial(_sgd, 1e-9), TOO_SMALL, "learning rate 1e-9", TWIN),
    faulty("lr-1e-9-adam", partial(_adam, 1e-9), TOO_SMALL, "learning rate 1e-9", partial(_adam, 3e-3)),
    faulty("lr-1e-6-sgd", partial(_sgd, 1e-6), TOO_SMALL, "learning rate 1e-6", TWIN),
    faulty(
        "adam-huge-eps", partial(_adam, 3e-3, 1e4), TOO_SMALL, "eps 1e4 swallows the gradient", partial(_adam, 3e-3)
    ),
    faulty(
        "lr-decays-at-once",
        partial(_decaying, 0.1),
        TOO_SMALL,
        "the schedule steps per batch in place of per epoch",
        TWIN,
    ),
    faulty("clipped-to-nothing", partial(_clipped, 1e-6), TOO_SMALL, "gradients clipped to norm 1e-6", TWIN),
    faulty("momentum-99-lr", partial(_sgd, 1.0, 0.99), TOO_LARGE, "momentum 0.99 with learning rate 1", TWIN),
    faulty(
        "never-cleared",
        lambda: _with(lambda m: NeverCleared(m.parameters(), lr=0.5)),
        TOO_LARGE + " loss-not-decreasing",
        "zero_grad is missing",
        partial(_sgd, 0.1),
    ),
    faulty(
        "weight-decay-5",
        partial(_sgd, 0.1, 0.0, 5.0),
        "collapsed-signal vanishing-gradient oversized-update loss-not-decreasing",
        "weights halve each step",
        TWIN,
    ),
    faulty(
        "optimizer-of-a-copy",
        partial(_of_copy, True),
        "stalled-update missing-gradient",
        "the optimizer holds another model's parameters",
        partial(_of_copy, False),
    ),
    faulty(
        "optimizer-of-the-head",
        partial(_part, slice(-1, None)),
        "stalled-update",
        "five of six layers get gradients and are never updated",
        partial(_part, slice(None)),
    ),
    faulty(
        "optimizer-of-the-first",
        partial(_part, slice(0, 2)),
        "stalled-update",
        "one of six layers is updated",
        partial(_part, slice(None)),
    ),
    faulty(
        "head-lr-1000x",
        partial(_loud_group, 100.0),
        TOO_LARGE,
        "one parameter group's learning rate",
        partial(_loud_group, 0.05),
    ),
    faulty(
        "loss-negated",
        partial(_negated, -1.0),
        TOO_LARGE,
        "gradient ascent by the sign of the loss",
        partial(_negated, 1.0),
    ),
    faulty(
        "maximize",
        lambda: _with(lambda m: torch.optim.SGD(m.parameters(), lr=0.1, maximize=True)),
        TOO_LARGE,
        "gradient ascent by the optimizer's flag",
        TWIN,
    ),
    faulty(
        "loss-summed",
        partial(_summed, "sum", 0.2),
        TOO_LARGE,
        "reduction=sum with the learning rate of a mean",
        partial(_summed, "mean", 0.2),
    ),
    faulty(
        "fp16-underflow",
        partial(_scaled_loss, 1e-8, torch.float16),
        "vanishing-gradient stalled-update missing-gradient",
        "the gradient rounds to 0 in half precision",
        partial(_scaled_loss, 1.0, torch.float16),
    ),
    faulty(
        "bf16-swallowed",
        partial(_bf16, 1e-5),
        "stalled-update",
        "the update rounds away in bfloat16",
        partial(_bf16, 3e-3),
    ),
    faulty(
        "post-norm-lr",
        lambda: adam(Encoder(False), digits(), 0.1),
        TOO_LARGE + " loss-not-decreasing collapsed-signal",
        "post-norm layers, Adam at 0.1, no warm-up",
        lambda: adam(Encoder(False), digits(), 1e-3),
    ),
    faulty("gpt-lr-1", partial(_gpt, 1.0), TOO_LARGE, "Adam at 1", partial(_gpt, 2e-3)),
    faulty("resnet-lr-1e-8", partial(_resnet, 1e-8), TOO_SMALL, "learning rate 1e-8", partial(_resnet, 0.1)),
    faulty(
        "regression-large-targets",
        partial(_regression, 0.05, 1e4),
        TOO_LARGE,
        "targets of 10,000 with the learning rate of 1",
        partial(_regression, 0.05, 1.0),
    ),
]
