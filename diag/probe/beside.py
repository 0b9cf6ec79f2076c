"""What a loss is given beside its prediction, as numbers that tell whether the two can go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from diag.probe.compared import COMPARED, compared
from diag.probe.pairing import EVERY, PAIRED, argument, pairing, thinned
from diag.trace.schema import BINARY, INDEXED
from diag.trace.shapes import are_crossed

NUMBERS = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"})
"""Losses whose targets are numbers of the prediction's own kind."""
LOGARITHMS = frozenset({"nll_loss", "kl_div", "ctc_loss"})
"""Losses that take logarithms of probabilities."""
SIGNED = {"soft_margin_loss": 1, "hinge_embedding_loss": 1, "cosine_embedding_loss": 2, "margin_ranking_loss": 2}
"""Losses whose targets are 1 and -1, and at which place they are given."""
DIFFERENCES = frozenset({"sub", "__sub__", "rsub", "__rsub__"})
"""What a loss that is written out begins with."""
_SAMPLES = 256

LOOKED_BESIDE = PAIRED | LOGARITHMS | SIGNED.keys() | COMPARED

__all__ = ["DIFFERENCES", "EVERY", "LOOKED_BESIDE", "beside", "difference"]


def beside(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """By role: the score of the pairing; targets: numbers, classes or signs; what "log-probabilities" add up to.

    The last is log sum_c exp(x_c) over the classes, 0 for log-probabilities; of at most 256 samples, as are classes.
    """
    if op in SIGNED:
        signs = argument(args, kwargs, SIGNED[op], "target")
        if type(signs) is Tensor:
            yield "signs", thinned(signs.reshape(-1), _SAMPLES).float()
    score = (compared if op in COMPARED else pairing)(op, args, kwargs)
    if score is not None:
        yield "pairing", score
    if op in SIGNED:
        return
    given, target = argument(args, kwargs, 0, "input"), argument(args, kwargs, 1, "target")
    if (op in NUMBERS or op in BINARY) and type(target) is Tensor and target.is_floating_point():
        yield "target", target
    if op in INDEXED and type(target) is Tensor and target.ndim and not target.is_floating_point():
        yield "target", thinned(target, _SAMPLES).float()
    if op in LOGARITHMS and type(given) is Tensor and given.ndim > 0 and given.is_floating_point():
        yield "log_sum", _log_sum(thinned(given, _SAMPLES).detach().float(), op)


def _log_sum(given: Tensor, op: str) -> Tensor:
    """Over dimension 1; where the loss does not care which one classes are in, over the last if that is nearer to 0.

    Those of `ctc_loss` are in the last.
    """
    if op == "ctc_loss":
        return given.logsumexp(-1)
    sums = given.logsumexp(min(1, given.ndim - 1))
    if op == "nll_loss" or given.ndim < 3:
        return sums
    last = given.logsumexp(-1)
    return torch.where(last.abs().mean() < sums.abs().mean(), last.abs().mean(), sums.abs().mean())


def difference(args: tuple[Any, ...]) -> tuple[Tensor, Tensor] | None:
    """The prediction and the target of a difference, by which of the two has a gradient; None for any other.

    Of one shape; or one a column and the other a row of so many, whose difference is a table of every prediction minus
    every target.
    """
    if len(args) < 2 or not (type(args[0]) is Tensor and type(args[1]) is Tensor):
        return None
    given, target = args[:2] if args[0].requires_grad else args[1::-1]
    if not given.requires_grad or target.requires_grad:
        return None
    if not (given.is_floating_point() and target.is_floating_point()):
        return None
    return (given, target) if given.shape == target.shape or are_crossed(given.shape, target.shape) else None
