"""A Lightning callback: `Trainer(callbacks=[DiagCallback()])`. Needs the extra `lightning`.

It works with the package `lightning` and with `pytorch_lightning`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch

from diag.integrations.extra import refuse
from diag.integrations.session import Session
from diag.report.diagnosis import Diagnosis


def _callback_classes() -> tuple[Any, ...]:
    """`Callback` of the packages that are loaded, as an old one takes none but its own; where none is, of the newer."""
    loaded = [sys.modules.get(name) for name in ("lightning.pytorch", "pytorch_lightning")]
    if any(loaded):
        return tuple(one.Callback for one in loaded if one)
    try:
        from lightning.pytorch import Callback
    except ModuleNotFoundError as error:
        if importlib.util.find_spec("pytorch_lightning") is None:
            refuse(error, "lightning")
        from pytorch_lightning import Callback
    return (Callback,)


_Callback: Any = type("_Callback", _callback_classes(), {})


class DiagCallback(_Callback):
    """Watches the training steps of `trainer.fit`, and says at its end what is wrong with them.

    Args: every, measure each `every`-th optimizer step, starting with the first. html: write a page there. fail_on:
    `error` or `warning`, raise FindingsError where the training ends with a finding as grave; None only logs it.
    writer: a TensorBoard writer or log folder, a W&B run, a Lightning logger that holds one of them, or a function
    that takes the diagnosis.

    The training is the same bit for bit, and checkpoints hold nothing of it. Where several processes train, the first
    one puts their parts together, judges the whole and writes.

    Raises: DiagError for a wrong option.
    Example:
        >>> callback = DiagCallback(html="report.html")  # doctest: +SKIP
        >>> Trainer(callbacks=[callback]).fit(model, loader)  # doctest: +SKIP
        >>> callback.diagnosis.findings  # doctest: +SKIP
    """

    def __init__(
        self, every: int = 10, html: str | Path | None = None, fail_on: str | None = None, writer: Any = None
    ) -> None:
        super().__init__()
        self._session = Session(every, html, fail_on, writer)
        self._steps = 0
        self._passes = 0
        self._losses: list[torch.Tensor] = []

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The verdict on the last training that has ended; None before."""
        return self._session.diagnosis

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin, after the sanity check."""
        self._steps = trainer.global_step
        self._passes = 0
        self._losses.clear()
        self._session.begin(pl_module, trainer.optimizers)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        """Count the backward passes of the step."""
        self._passes += 1

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Give the loss of a step over several batches, of which Lightning lets the watch see the first alone.

        loss = sum of the batches' losses, each of which Lightning has divided by `accumulate_grad_batches`.
        """
        running = self._session.watch
        if running is None or not pl_module.automatic_optimization:
            return
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, torch.Tensor):
            self._losses.append(loss.detach())
        if trainer.global_step == self._steps:
            return
        # Of a step over one batch the watch has seen the loss itself, and of a line search the right one of several.
        if len(self._losses) > 1 and len(self._losses) == self._passes:
            running.step(torch.stack(self._losses).sum())
        self._steps = trainer.global_step
        self._passes = 0
        self._losses.clear()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop and judge."""
        self._session.stop()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Write what is asked for, and raise where `fail_on` asks for it, now that checkpoints are written."""
        self._session.end(writes=trainer.is_global_zero)
        self._session.hold()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Stop and write what was seen until then; the exception goes on its way."""
        self._session.abort(writes=trainer.is_global_zero)
