"""What the compatibility table is made of: set-ups (its rows), columns, and what is claimed of each pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from diag.trace import Trace
from tests.compat.oracle import Oracle

COLUMNS = {
    "works": "the training runs; every step, every loss and every module is seen, and nothing is reported missing",
    "values": "every row of an activation, its gradient, a weight and its gradient equals what `torch.autograd.grad` "
    "gives for code without modules and hooks, in float64 where the set-up has no lower precision of its own: count, "
    "rms, mean and variance; no row is missing or too many",
    "identical": "weights, buffers, optimizer states and random state are bit for bit those of the unwatched training",
    "hooks gone": "no global, module or tensor hook, function mode or replaced function is left, also after an "
    "exception in a forward pass",
    "copies": "the model pickles and deep-copies while it is watched, between forward and backward or two steps, and "
    "after, as it does unwatched",
}

COPIES = ("deepcopy", "pickle")

Snap = Callable[..., None]
"""`snap(batch)` at the start of a step, `snap(batch, more=True)` at that of a further pass in the same step."""


@dataclass
class Job:
    """One fresh training.

    train: the loop. oracle: one pass in plain code, which notes what the trace should hold (see `Oracle`).
    watch: what stands in the place of `diag.watch(model, optimizers)`, and gives a function that returns the trace.
    fails_in: the module whose forward is made to raise; the last leaf if None. fails_in_loop: the loop raises instead.
    cleared: gradients of the last pass count, not the sum over passes. stepping: prefixes of the parameters that step
    number k updates. reports: whether the trace is of the whole training, or another rank has that. precision: what
    the oracle computes in; None for the model's own.
    """

    model: nn.Module
    train: Callable[[Snap], None]
    oracle: Callable[[Oracle, Any], None]
    optimizers: Sequence[torch.optim.Optimizer] = ()
    watch: Callable[[], AbstractContextManager[Callable[[], Trace]]] | None = None
    fails_in: nn.Module | None = None
    cleared: bool = False
    stepping: Callable[[int], tuple[str, ...]] = lambda step: ("",)
    precision: torch.dtype | None = torch.float64
    tolerance: float = 1e-4
    not_seen: tuple[str, ...] = ()
    measured: Callable[[int], bool] = lambda step: True
    reports: bool = True
    loss_known: bool = True
    fails_in_loop: bool = False


@dataclass(frozen=True)
class Row:
    """A row of the table. no, partly: columns that do not hold, or hold for a part that the test names, and why.

    refused: ways to copy that torch refuses, watched or not, and why. ignored: warnings that the set-up itself gives.
    slow: takes seconds. needs: packages. hosts: only where there is no GPU.
    """

    name: str
    group: str
    no: dict[str, str] = field(default_factory=dict)
    partly: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    slow: bool = False
    needs: tuple[str, ...] = ()
    hosts: bool = False

    def claim(self, column: str) -> tuple[str, str]:
        """The cell and its reason: `yes`, `partly`, `no`, or `-` for what torch itself does not do."""
        for word, reasons in (("no", self.no), ("partly", self.partly)):
            if column in reasons:
                return word, reasons[column]
        if column != "copies":
            return "yes", ""
        reason = "; ".join(dict.fromkeys(self.refused.values()))
        return "-" if len(self.refused) == len(COPIES) else "yes", reason


@dataclass(frozen=True, kw_only=True)
class Setup(Row):
    """A row of one process. absent: kind and site of what the oracle knows and the trace lacks, for a `partly`."""

    build: Callable[[], Job]
    absent: tuple[tuple[str, str], ...] = ()

    def fresh(self) -> Job:
        """The same training at every call."""
        torch.manual_seed(7)
        return self.build()


SETUPS: list[Setup] = []


def setup(name: str, group: str, **options: Any) -> Callable[[Callable[[], Job]], Callable[[], Job]]:
    """Enter what follows, a function that builds a `Job`, as a row."""

    def enter(build: Callable[[], Job]) -> Callable[[], Job]:
        assert all(one.name != name for one in SETUPS), name
        SETUPS.append(Setup(name, group, build=build, **options))
        return build

    return enter
