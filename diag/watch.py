"""Watching a training loop that is the user's own."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import torch

from diag.errors import TargetError
from diag.probe.distributed import Ranks
from diag.probe.probe import Probe
from diag.report.diagnosis import Diagnosis, diagnose
from diag.trace import Trace

__all__ = ["Watch", "diagnose", "watch"]


class Watch:
    """Measures a model while it is trained: `with diag.watch(model) as watch: ...`.

    A step ends with each optimizer step, or with `step(loss)` where no optimizer runs. The model is not changed:
    nothing is registered on it, and it trains bit for bit as it would unwatched.

    Where several ranks train it (DistributedDataParallel, `fully_shard`, DTensor), each measures its own part, and when
    the watch ends the first rank puts the parts together: its trace is of the whole, and it alone has findings.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        every: int,
        budget: float | None,
        parameters: bool,
    ) -> None:
        self._probe = Probe([model], optimizers, every=every, budget=budget, parameters=parameters)
        self._title = self._probe.sites.roots[0].name
        self._ranks: Ranks | None = None

    def __enter__(self) -> Self:
        if self._probe.active:
            raise TargetError("this watch is already running: `diag.watch(model)` makes a new one for every `with`")
        self._ranks = Ranks.begin(self._probe)
        self._probe.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self._probe.break_off(f"{type(error).__name__}: {error}")
        self._probe.stop(failed=error is not None)
        if self._ranks is not None:
            first = "".join(str(error).splitlines()[:1])
            self._ranks.end(None if error is None else f"{type(error).__name__}: {first}")

    def break_off(self) -> None:
        """End the watch for a training that has raised: what the step that was open holds is kept."""
        self._probe.stop(failed=True)

    def step(self, loss: Any = None) -> None:
        """End a step, or give the loss of the one that the optimizer has just ended. `loss`: a number or scalar tensor.

        Raises: TargetError outside the `with` block, or for a loss that is no scalar.
        """
        if not self._probe.active:
            raise TargetError(
                "watch.step ends a step of a running watch: call it inside `with diag.watch(model) as watch:`"
            )
        if isinstance(loss, torch.Tensor) and (loss.numel() != 1 or loss.is_complex()):
            raise TargetError(f"watch.step takes a scalar loss, got shape {tuple(loss.shape)}: take its mean or sum")
        if not isinstance(loss, (torch.Tensor, numbers.Real, type(None))):
            raise TargetError(f"watch.step takes a number or a scalar tensor, got {type(loss).__name__}")
        self._probe.end_step(loss)

    @property
    def trace(self) -> Trace:
        """What has been measured so far."""
        return self._probe.trace()

    def diagnose(self) -> Diagnosis:
        """The verdict on what has been measured so far; of a rank for which another one reports, without findings."""
        trace = self.trace
        if self._ranks is not None and self._ranks.silent:
            return Diagnosis([], trace, dict(trace.coverage), title=self._title)
        return diagnose(trace, title=self._title)


def watch(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
    every: int = 1,
    budget: float | None = None,
    parameters: bool = True,
) -> Watch:
    """Watch a model in your own training loop.

    Args: model, the module whose layers are measured. optimizer: its optimizer or optimizers; any that holds the
        model's parameters is also found when it first steps. every: measure each `every`-th step, from the first on.
        budget: measure only as often as keeps the cost of watching below this share of the training's time, such as
        0.02; `watch.trace.coverage["budget"]` says what it took and how many steps were seen.
        parameters: measure weights, their gradients and updates too; without them watching costs about half, and no
        rule can speak of learning rates, updates that stall, or parameters without a gradient.
    Raises: TargetError for a model that is no module, an optimizer that is none, `every` that is no number of steps, a
        budget that is no share, or `parameters` that is neither True nor False.
    Example:
        >>> with diag.watch(model) as watch:  # doctest: +SKIP
        ...     train(model)
        >>> watch.diagnose().healthy  # doctest: +SKIP
    """
    if not isinstance(model, torch.nn.Module):
        raise TargetError(f"diag.watch takes a torch.nn.Module, got {type(model).__name__}")
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise TargetError(f"every is a whole number of steps from 1, got {every!r}")
    if budget is not None and not _is_share(budget):
        raise TargetError(
            f"budget is a share of the training's time above 0 and at most 1, such as 0.02; got {budget!r}"
        )
    if not isinstance(parameters, bool):
        raise TargetError(f"parameters is True or False, got {parameters!r}")
    if optimizer is None:
        optimizers: Sequence[torch.optim.Optimizer] = ()
    elif isinstance(optimizer, Iterable) and not isinstance(optimizer, (str, Mapping)):
        optimizers = tuple(optimizer)
    else:
        optimizers = (optimizer,)  # type: ignore[assignment] # whatever it is, it is looked at now
    for one in optimizers:
        if not isinstance(one, torch.optim.Optimizer):
            raise TargetError(f"diag.watch takes a torch.optim.Optimizer or several, got {type(one).__name__}")
    return Watch(model, optimizers, every, budget, parameters)


def _is_share(given: Any) -> bool:
    return isinstance(given, numbers.Real) and given is not True and 0 < float(given) <= 1
