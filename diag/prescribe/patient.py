"""What a family of remedies may know of the training that is to be helped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from diag.prescribe.watched import Watched
from diag.rules.finding import Finding
from diag.train.workload import Workload

MOST_MEASURED = 60
"""Batches from which inputs and targets are measured."""


@dataclass(frozen=True)
class Patient:
    """workload: to look at, not to run. fresh: lends one to run. batches: those of all trials. gradient_norms: of the
    control, per step; empty without an optimizer. watched: what the rules found. everything: whether to propose what no
    finding asks for."""

    workload: Workload
    fresh: Callable[[], AbstractContextManager[Workload]]
    batches: Sequence[Any]
    watched: Watched
    gradient_norms: list[float] = field(default_factory=list)
    everything: bool = False

    @property
    def model(self) -> nn.Module:
        """Its model."""
        return self.workload.model

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """Its optimizer."""
        return self.workload.optimizer

    @cached_property
    def rules(self) -> list[str]:
        """The rules that found an error or a warning, roots first."""
        return self.watched.rules("error", "warning")

    def suffers(self, *rules: str) -> bool:
        """Whether any of these rules found something worse than a note, or everything is to be tried."""
        return self.everything or any(rule in self.rules for rule in rules)

    def finding(self, rule: str, **evidence: Any) -> Finding | None:
        """The first finding of a rule with this evidence."""
        fits = (one for one in self.watched.findings if one.rule == rule)
        return next((one for one in fits if evidence.items() <= one.evidence.items()), None)

    @cached_property
    def hidden_activations(self) -> list[tuple[str, str]]:
        """Activation functions before the last layer: module path and operation; the path is "" for a functional."""
        sites = self.watched.trace.sites
        layers = sites[sites["role"].isin(["layer", "recurrent", "attention"]) & (sites["order"] >= 0)]["order"]
        end = layers.max() if len(layers) else float("inf")
        rows = sites[(sites["role"] == "nonlinearity") & (sites["order"] >= 0) & (sites["order"] < end)]
        rows = rows[~rows["op"].isin(["softmax", "log_softmax"])].sort_values("order")
        modules = dict(self.model.named_modules())
        names = [name if name in modules else "" for name in rows["site"]]
        return list(zip(names, rows["op"], strict=True))

    @cached_property
    def usual_activation(self) -> str:
        """The most frequent activation function before the last layer; "" for none."""
        ops = [op for _, op in self.hidden_activations]
        return max(ops, key=ops.count) if ops else ""

    @cached_property
    def input_key(self) -> Any:
        """The key in a batch under which the first tensor of numbers stands; () for the batch itself, None for none."""
        batch = self.batches[0]
        if _is_numbers(batch):
            return ()
        if isinstance(batch, Mapping):
            return next((key for key, one in batch.items() if _is_numbers(one)), None)
        return 0 if isinstance(batch, (tuple, list)) and len(batch) and _is_numbers(batch[0]) else None

    @property
    def input_code(self) -> str:
        """The same as an expression in a `batch`."""
        return "batch" if self.input_key == () else f"batch[{self.input_key!r}]"

    @cached_property
    def inputs(self) -> torch.Tensor | None:
        """The inputs of the first batches, in double precision; None where there are none or shapes differ."""
        key = self.input_key
        if key is None:
            return None
        found = [batch if key == () else batch[key] for batch in self.batches[:MOST_MEASURED]]
        if any(one.shape[1:] != found[0].shape[1:] for one in found):
            return None
        return torch.cat([one.detach().double().cpu() for one in found])

    @cached_property
    def targets(self) -> torch.Tensor | None:
        """The second part of the batches, where they are pairs of tensors; None where they are not."""
        pairs = [
            batch for batch in self.batches[:MOST_MEASURED] if isinstance(batch, (tuple, list)) and len(batch) == 2
        ]
        found = [pair[1] for pair in pairs]
        if len(found) < len(self.batches[:MOST_MEASURED]) or not all(isinstance(one, torch.Tensor) for one in found):
            return None
        if any(one.shape[1:] != found[0].shape[1:] or one.ndim == 0 for one in found):
            return None
        return torch.cat([one.detach().cpu() for one in found])


def _is_numbers(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim > 0
