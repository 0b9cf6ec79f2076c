"""How good a network is on given data."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from diag.recipes.dataset import Batch, Dataset
from diag.recipes.predicted import Predicted

CHUNK = 1000
"""Samples in one forward pass."""


def batch_loss(dataset: Dataset, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The cross-entropy in nats of a classification, the mean squared error of a regression; means over samples."""
    if dataset.task == "classification":
        return nn.functional.cross_entropy(outputs, targets)
    return nn.functional.mse_loss(outputs, targets)


def evaluate(
    model: nn.Module,
    dataset: Dataset,
    part: Batch,
    predict: Callable[[nn.Module, torch.Tensor], Predicted] | None = None,
) -> dict[str, float]:
    """`loss`, and `accuracy` of a classification, in evaluation mode, over all samples of a part.

    predict: how outputs come about; None for one plain pass. A loss that is not finite is infinite; an output that is
    not finite is a wrong answer.
    """
    inputs, targets = part
    if len(inputs) == 0:
        return {}
    was_training = model.training
    model.eval()
    total = right = 0.0
    try:
        with torch.no_grad():
            for x, y in zip(inputs.split(CHUNK), targets.split(CHUNK), strict=True):
                scores, loss = _judge(model, dataset, x, y, predict)
                total += loss * len(x)
                if dataset.task == "classification":
                    finite = torch.isfinite(scores).all(1)
                    right += float(((scores.argmax(1) == y) & finite).sum())
    finally:
        model.train(was_training)
    result = {"loss": total / len(inputs) if math.isfinite(total) else math.inf}
    if dataset.task == "classification":
        result["accuracy"] = right / len(inputs)
    return result


def _judge(
    model: nn.Module,
    dataset: Dataset,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    predict: Callable[[nn.Module, torch.Tensor], Predicted] | None,
) -> tuple[torch.Tensor, float]:
    if predict is None:
        outputs = model(inputs)
        return outputs, float(batch_loss(dataset, outputs, targets))
    predicted = predict(model, inputs)
    if dataset.task == "classification":
        logarithm = predicted.mean.log() if predicted.log_mean is None else predicted.log_mean
        return predicted.mean, float(nn.functional.nll_loss(logarithm, targets))
    return predicted.mean, float(nn.functional.mse_loss(predicted.mean, targets))
