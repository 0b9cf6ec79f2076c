"""A callback for the Trainer of transformers: `Trainer(callbacks=[DiagCallback()])`. Needs the extra `transformers`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from diag.integrations.extra import refuse
from diag.integrations.session import Session
from diag.report.diagnosis import Diagnosis

try:
    from transformers import TrainerCallback
except ModuleNotFoundError as error:
    refuse(error, "transformers")


class DiagCallback(TrainerCallback):
    """Watches the training steps of `trainer.train()`, and says at its end what is wrong with them.

    Args: every, measure each `every`-th optimizer step, starting with the first. html: write a page there. fail_on:
    `error` or `warning`, raise FindingsError where the training ends with a finding as grave; None only logs it.
    writer: a TensorBoard writer or log folder, a W&B run, or a function that takes the diagnosis.

    The training is the same bit for bit, and checkpoints hold nothing of it. The Trainer does not tell its callbacks of
    an exception: within `with callback: trainer.train()` the watch ends with it at once and the page is written;
    otherwise the watch ends when `diagnosis` is read, when a training begins anew, or with the process.

    Raises: DiagError for a wrong option.
    Example:
        >>> callback = DiagCallback(html="report.html")  # doctest: +SKIP
        >>> with callback:  # doctest: +SKIP
        ...     Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()
        >>> callback.diagnosis.findings  # doctest: +SKIP
    """

    def __init__(
        self, every: int = 10, html: str | Path | None = None, fail_on: str | None = None, writer: Any = None
    ) -> None:
        super().__init__()
        self._session = Session(every, html, fail_on, writer)
        self._writes = True

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The verdict on the last training that was begun, which this ends; None before the first."""
        self._session.stop()
        return self._session.diagnosis

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **others: Any
    ) -> None:
        """Begin. What accelerate hands out as an optimizer is a wrapper; what steps is the one inside."""
        self._writes = bool(state.is_world_process_zero)
        while isinstance(getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
            optimizer = optimizer.optimizer
        self._session.begin(model, [optimizer])

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Stop, judge, write what is asked for, and raise where `fail_on` asks for it."""
        self._session.end(writes=self._writes)
        self._session.hold()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._session.abort(writes=self._writes)
