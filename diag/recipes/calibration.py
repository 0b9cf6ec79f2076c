"""How well probabilities match what happens, and how well a score tells two groups apart."""

from __future__ import annotations

import numpy as np
import torch

from diag.errors import DiagError


def expected_calibration_error(probabilities: torch.Tensor, labels: torch.Tensor, bins: int = 15) -> float:
    """ECE = sum_b n_b / n |accuracy_b - confidence_b| over equal bins (a, b] of the largest probability.

    probabilities: [count, classes], labels: int64 [count]. From 0 to 1, 0 where confidence is right.
    Raises: DiagError for other shapes, no samples or no bins. Source: Guo et al. 2017, equation 3.
    """
    _check(probabilities, labels)
    if bins < 1:
        raise DiagError(f"the calibration error takes bins from 1, got {bins}")
    confidence, predicted = probabilities.detach().double().max(1)
    surplus = (predicted == labels).double() - confidence
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.float64, device=surplus.device).index_add_(0, place, surplus)
    return float(gaps.abs().sum() / len(labels))


def negative_log_likelihood(log_probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    """-1/n sum_i log p(label_i), in nats; infinite where a label was given no chance.

    log_probabilities: [count, classes], such as Predicted.log_mean, which does not underflow. labels: int64 [count].
    Raises: DiagError for other shapes or no samples. Source: Gneiting & Raftery 2007, section 4.1 (logarithmic score).
    """
    _check(log_probabilities, labels)
    return float(-log_probabilities.detach().double()[torch.arange(len(labels)), labels].mean())


def brier_score(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    """1/n sum_i sum_k (p_ik - [label_i = k])^2, from 0 to 2.

    probabilities: [count, classes], labels: int64 [count].
    Raises: DiagError for other shapes or no samples. Source: Brier 1950, equation 2.
    """
    _check(probabilities, labels)
    chances = probabilities.detach().double()
    truth = torch.nn.functional.one_hot(labels, chances.shape[1])
    return float((chances - truth).square().sum(1).mean())


def auroc(inside: torch.Tensor, outside: torch.Tensor) -> float:
    """P(score outside > score inside) + P(equal) / 2, exactly, over all pairs: 1 if every outside score is higher.

    inside, outside: scores of any shape and number.
    Raises: DiagError where one of them is empty or holds NaN, which has no rank. Source: Hanley & McNeil 1982.
    """
    from scipy.stats import rankdata

    ins, outs = (one.detach().double().cpu().numpy().ravel() for one in (inside, outside))
    scores = np.concatenate([outs, ins])
    if not len(ins) or not len(outs) or np.isnan(scores).any():
        raise DiagError(f"auroc takes numbers of both groups, got {len(ins)} and {len(outs)}, or NaN among them")
    ranks = rankdata(scores)[: len(outs)].sum()
    return float((ranks - len(outs) * (len(outs) + 1) / 2) / (len(outs) * len(ins)))


def _check(values: torch.Tensor, labels: torch.Tensor) -> None:
    if values.ndim != 2 or labels.shape != values.shape[:1] or not len(labels):
        raise DiagError(
            f"calibration takes [count, classes] and as many labels, got {list(values.shape)} and {list(labels.shape)}"
        )
