"""Whether a loss's predictions belong to their targets more than to other targets of the batch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from diag.trace.schema import INDEXED

PAIRED = frozenset(INDEXED) | frozenset(
    "binary_cross_entropy binary_cross_entropy_with_logits mse_loss l1_loss smooth_l1_loss huber_loss kl_div "
    "poisson_nll_loss gaussian_nll_loss".split()
)
"""Losses of a prediction and a target that stand side by side."""
EVERY = 2
"""Of the measured steps every so many-th is scored: it costs as much as some layers."""
FEWEST = 8
"""Samples, of which a batch must have as many."""
_SAMPLES, _MANY_SAMPLES, _POSITIONS, _FEATURES = 64, 256, 16, 1024
"""Of a batch that is larger an even part is looked at: of samples (of single predictions more), positions, features."""
_ROUNDING = 1e-6
_IGNORED = -100
"""What torch's losses ignore, if they are told nothing else."""


def pairing(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The score of a batch's own pairs among all ways to pair its predictions and targets, on their device.

    With A_ij = <prediction i, target j>, centered over rows and columns to D:

        z = sum_i D_ii / sqrt(sum_ij D_ij^2 / (n - 1))

    which has mean 0 and variance 1 over all permutations of the targets. For cross-entropies and squared errors D is,
    up to its sign and a factor, all of the loss that depends on the pairing. Exactly 0 where all predictions or all
    targets are alike, or one is not finite. None for a loss without such pairs, or a batch of fewer than 8.

    Source: Hoeffding 1951, 'A combinatorial central limit theorem', theorem 2; Wald & Wolfowitz 1944
    """
    given, target = argument(args, kwargs, 0, "input"), argument(args, kwargs, 1, "target")
    if not (type(given) is Tensor and type(target) is Tensor) or not given.requires_grad or given.ndim == 0:
        return None
    if len(given) < FEWEST or len(target) != len(given) or given.is_complex() or target.is_complex():
        return None
    with torch.no_grad():
        if op in INDEXED and not target.is_floating_point():
            if given.ndim != target.ndim + 1:
                return None
            ignored = argument(args, kwargs, 4, "ignore_index")
            return _of_classes(given, target, ignored if isinstance(ignored, int) else _IGNORED)
        return pairing_of_numbers(given, target)


def pairing_of_numbers(given: Tensor, target: Tensor) -> Tensor | None:
    """The same of numbers; None where they are not of one shape, or of too few samples."""
    if target.shape != given.shape or given.ndim == 0 or len(given) < FEWEST:
        return None
    return score_of_numbers(given.detach(), target, _SAMPLES)


def score_of_numbers(given: Tensor, target: Tensor, samples: int) -> Tensor:
    """The same of numbers of one shape, from so many samples at most, evenly."""
    f, g = (_as_numbers(thinned(thinned(_flat(one), samples), _FEATURES, 1)) for one in (given, target))
    return score_of_matrix(f @ (g - g.mean(0)).t())


def score_of_classes(given: Tensor, labels: Tensor, samples: int) -> Tensor:
    """The same of scores for classes, and the class of each sample."""
    return score_of_matrix(_as_numbers(thinned(given, samples))[:, thinned(labels, samples)])


def argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str) -> Any:
    """What a function was given, by place or by name; None for nothing."""
    return args[place] if len(args) > place else kwargs.get(name)


def _of_classes(given: Tensor, target: Tensor, ignored: int) -> Tensor:
    """The score that prediction i gives to the class of target j, summed over positions.

    At each position those pairs alone are compared whose targets are not to be ignored: what is put out where nothing
    is asked differs from the rest.
    """
    if given.ndim == 2:
        rows, labels = thinned(given, _MANY_SAMPLES)[None], thinned(target, _MANY_SAMPLES)[None]
    else:
        rows = thinned(thinned(given, _SAMPLES).flatten(2), _POSITIONS, 2).permute(2, 0, 1)
        labels = thinned(thinned(target, _SAMPLES).flatten(1), _POSITIONS, 1).t()
    kept = ((labels != ignored) & (labels >= 0)).float()
    labels = labels.clamp(0, given.shape[1] - 1)
    products = rows.gather(2, labels[:, None, :].expand(-1, rows.shape[1], -1)).float()
    pairs = kept[:, :, None] * kept[:, None, :]
    centered = _less_mean(_less_mean(products, pairs, 1), pairs, 2)
    asked = kept.sum(1)
    return _standardized((centered * pairs).sum(0), (asked**2).sum() / asked.sum().clamp_min(1), products)


def _less_mean(products: Tensor, pairs: Tensor, dim: int) -> Tensor:
    """products, less the mean over one dimension of those that count."""
    return products - (products * pairs).sum(dim, keepdim=True) / pairs.sum(dim, keepdim=True).clamp_min(1)


def _as_numbers(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _flat(tensor: Tensor) -> Tensor:
    return tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None]


def thinned(tensor: Tensor, most: int, dim: int = 0) -> Tensor:
    """At most so many of a dimension, evenly; a view."""
    stride = -(-tensor.shape[dim] // most)
    return tensor if stride == 1 else tensor[(slice(None),) * dim + (slice(None, None, stride),)]


def score_of_matrix(products: Tensor) -> Tensor:
    """The same of products of every prediction, row by row, with every target."""
    centered = products - products.mean(0)
    centered -= centered.mean(1, keepdim=True)
    return _standardized(centered, len(products), products)


def _standardized(centered: Tensor, count: Tensor | int, products: Tensor) -> Tensor:
    """sum_i D_ii / sqrt(sum_ij D_ij^2 / (n - 1)), with n samples that count."""
    norm = centered.norm()
    # A number that is made a tensor of the device would have the host wait.
    root = (count - 1).clamp_min(0).sqrt() if isinstance(count, Tensor) else math.sqrt(max(count - 1, 0))
    score = centered.diagonal().sum() * root / norm
    # Rounding leaves something even of what is alike; with NaN or an infinity this holds as little.
    return torch.where(norm > _ROUNDING * products.norm(), score, 0.0)
