"""How outputs fit what they are compared with, for losses that have no prediction and target side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diag.probe.pairing import FEWEST, argument, score_of_matrix, score_of_numbers, thinned

_SAMPLES, _SEQUENCES = 256, 8
"""Of a batch, how many pairs and triplets are looked at, and how many sequences, each with the labels of each."""


def compared(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The score of what a batch says belongs together among other ways to put it; None where none can be told.

    Of triplets D_i = d(a_i, n_i) - d(a_i, p_i), z = sum D / sqrt(sum D^2), which has mean 0 and variance 1 over all
    ways to swap positives and negatives. Of pairs with signs that of their likeness beside the signs, of sequences that
    of their likelihoods beside each other's labels (see `pairing`).
    """
    score = _SCORES.get(op)
    with torch.no_grad():
        return None if score is None else score(args, kwargs)


def _of_triplets(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Of anchors, positives and negatives, or of both distances."""
    given = [argument(args, kwargs, place, name) for place, name in enumerate(("anchor", "positive", "negative"))]
    tensors = [thinned(one.detach(), _SAMPLES) for one in given if type(one) is Tensor and one.ndim in (1, 2)]
    if len({one.shape for one in tensors}) != 1 or len(tensors[0]) < FEWEST or tensors[0].is_complex():
        return None
    if len(tensors) == 3 and tensors[0].ndim == 2:
        anchor, positive, negative = (one.float() for one in tensors)
        tensors = [F.pairwise_distance(anchor, one) for one in (positive, negative)]
    if len(tensors) != 2 or tensors[0].ndim != 1:
        return None
    farther = (tensors[1] - tensors[0]).float()
    norm = farther.norm()
    return torch.where(norm > 0, farther.sum() / norm, 0.0).nan_to_num(0.0)


def _of_signs(likeness: Callable[..., Tensor], count: int) -> Callable[..., Tensor | None]:
    """likeness: of so many tensors that stand before the signs, a number for each pair."""

    def score(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        names = ("input1", "input2") if count == 2 else ("input",)
        given = [argument(args, kwargs, place, name) for place, name in enumerate(names)]
        signs = argument(args, kwargs, count, "target")
        if any(type(one) is not Tensor or not one.is_floating_point() for one in given) or type(signs) is not Tensor:
            return None
        alike = likeness(*(one.detach().float() for one in given))
        if alike.ndim != 1 or alike.shape != signs.shape or len(alike) < FEWEST:
            return None
        return score_of_numbers(alike, signs, _SAMPLES)

    return score


def _of_sequences(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Of CTC: minus the loss of each sequence with the labels of each."""
    names = ("log_probs", "targets", "input_lengths", "target_lengths", "blank")
    given, labels, *lengths, blank = (argument(args, kwargs, place, name) for place, name in enumerate(names))
    if not (type(given) is Tensor and type(labels) is Tensor) or given.ndim != 3 or labels.ndim != 2:
        return None
    if given.shape[1] < FEWEST or len(labels) != given.shape[1] or any(one is None for one in lengths):
        return None
    stride = given.shape[1] // _SEQUENCES
    chosen = torch.arange(0, stride * _SEQUENCES, stride)
    own, other = chosen.repeat_interleave(len(chosen)), chosen.repeat(len(chosen))
    ends, wanted = (torch.as_tensor(one).cpu() for one in lengths)
    if ends.shape != wanted.shape or len(ends) != given.shape[1]:
        return None
    losses = F.ctc_loss(
        given.detach()[:, own.to(given.device)], labels[other.to(labels.device)], ends[own], wanted[other],
        blank=blank or 0, reduction="none",
    )  # fmt: skip
    return score_of_matrix(-losses.reshape(len(chosen), len(chosen)))


_SCORES: dict[str, Callable[..., Tensor | None]] = {
    "triplet_margin_loss": _of_triplets,
    "cosine_embedding_loss": _of_signs(F.cosine_similarity, 2),
    "margin_ranking_loss": _of_signs(torch.sub, 2),
    "soft_margin_loss": _of_signs(lambda one: one, 1),
    "hinge_embedding_loss": _of_signs(torch.neg, 1),
    "ctc_loss": _of_sequences,
}

COMPARED = frozenset(_SCORES)
"""Losses of which this is told."""
