"""What token ids tell of the masks and labels that are given beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diag.probe.calls import LOW

_SAME = 0.9
"""Of targets that are the ids they stand beside."""
_KEPT = 8
"""Embeddings of a pass whose ids are remembered."""
_PREFIX = 2
"""Positions without an id, such as a class token, that may stand before those with one."""


class Tokens:
    """Remembers the ids that a pass embeds, for the masks that attention is given behind them, and for the loss."""

    def __init__(self) -> None:
        self._ids: Tensor | None = None
        self._embedded: list[Tensor] = []
        self._ended = False

    def see_embedded(self, args: tuple[Any, ...]) -> None:
        """An embedding is called: ids of samples and positions are remembered."""
        ids = args[0] if args else None
        if type(ids) is Tensor and ids.ndim == 2 and ids.shape[1] > 1 and not ids.is_floating_point():
            self._embedded = [*([] if self._ended else self._embedded), ids][-_KEPT:]
            self._ids, self._ended = ids, False

    def clear(self) -> None:
        """The pass has ended; its loss may be yet to come."""
        self._ids, self._ended = None, True

    def next_share(self, target: Any) -> Tensor | None:
        """Which share of the targets are the ids one further on, -1 where they are the ids themselves, -2 where other
        ids went in before these, as those of an encoder; None for targets that are no ids of these positions."""
        if type(target) is not Tensor or target.is_floating_point():
            return None
        # Of several the last ones that fit: distances between positions are embedded too.
        fit = [place for place, ids in enumerate(self._embedded) if ids.numel() == target.numel()]
        place = fit[-1] if fit else None
        if place is None:
            return None
        ids = self._embedded[place]
        targets = target.reshape(ids.shape)
        counts = targets >= 0
        further, same = (targets[:, :-1] == ids[:, 1:]) & counts[:, :-1], (targets == ids) & counts
        share = further.sum() / counts[:, :-1].sum().clamp(min=1)  # of the last position alone, none is one further on
        return torch.where(same.sum() < _SAME * counts.sum(), share, self._given_back(place)).reshape(1)

    def _given_back(self, place: int) -> Tensor:
        """-2 where others were embedded before these ids, of the same samples, and no segments; else -1."""
        ids = self._embedded[place]
        before = next((one for one in self._embedded[:place][::-1] if len(one) == len(ids)), None)
        if before is None:
            return torch.full((), -1.0, device=ids.device)
        other = torch.ones((), dtype=torch.bool, device=ids.device)
        if before.shape == ids.shape:
            other = (before != ids).sum() > (1 - _SAME) * ids.numel()
        return torch.where(other & (before.max() - before.min() > 1), -2.0, -1.0)

    def attended(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
        """How far apart the ids are that attention may look at; None for attention without a mask of padding."""
        if not isinstance(module, nn.MultiheadAttention):
            return None
        mask = kwargs.get("key_padding_mask", args[3] if len(args) > 3 else None)
        if self._ids is None or type(mask) is not Tensor or mask.ndim != 2 or len(mask) != len(self._ids):
            return None
        more = mask.shape[1] - self._ids.shape[1]
        if not 0 <= more <= _PREFIX:
            return None
        mask = mask[:, more:]
        return _range(self._ids, ~mask if mask.dtype is torch.bool else mask > LOW)


def beside_ids(module: nn.Module, kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """By role, of a model of transformers: how far apart the ids are that are attended to; and by which share more of
    its labels are the ids one further on than the ids themselves, which it shifts on its own."""
    ids, mask, labels = (kwargs.get(name) for name in ("input_ids", "attention_mask", "labels"))
    if type(ids) is not Tensor or ids.ndim != 2 or ids.shape[1] < 2:
        return
    if type(mask) is Tensor and mask.shape == ids.shape:
        yield "attended", _range(ids, mask != 0)
    if type(labels) is Tensor and labels.shape == ids.shape and _shifts_labels(module):
        counts = labels >= 0
        further, same = (labels[:, :-1] == ids[:, 1:]) & counts[:, :-1], (labels == ids) & counts
        share = further.sum() / counts[:, :-1].sum().clamp(min=1) - same.sum() / counts.sum().clamp(min=1)
        yield "shifted", share.reshape(1)


def _range(ids: Tensor, attended: Tensor) -> Tensor:
    """Largest minus smallest attended id, by which a mask that leaves nothing but padding has 0."""
    numbers = ids.float()
    most = numbers.masked_fill(~attended, -torch.inf).amax()
    return (most - numbers.masked_fill(~attended, torch.inf).amin()).reshape(1)


def _shifts_labels(module: nn.Module) -> bool:
    """Whether a model predicts the next token, and so compares its outputs with the labels one further on."""
    config = getattr(module, "config", None)
    kind = type(module).__name__
    causal = kind.endswith(("LMHeadModel", "ForCausalLM"))
    return causal and config is not None and not getattr(config, "is_encoder_decoder", False)
