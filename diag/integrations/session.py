"""The watch that a framework's callback holds: it begins with the training and ends with it, however that ends."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from diag.integrations.ending import LOG, Ending
from diag.report.diagnosis import Diagnosis
from diag.watch import Watch, watch


class Session:
    """One training after another, each watched and judged. What it measures travels in no checkpoint and no pickle."""

    def __init__(self, every: int, html: str | Path | None, fail_on: str | None, writer: Any) -> None:
        # A training may change the folder; what is meant is the one where the callback was made.
        self.ending = Ending(None if html is None else Path(html).absolute(), fail_on, writer)
        # Refuses a wrong `every` now, not when the training begins.
        watch(torch.nn.Identity(), every=every)
        self._every = every
        self._watch: Watch | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._undelivered = False
        self.diagnosis: Diagnosis | None = None

    @property
    def watch(self) -> Watch | None:
        """The watch that is running, if one is."""
        return self._watch

    def begin(self, model: torch.nn.Module, optimizers: Iterable[Any]) -> None:
        """Watch a training from here on. One that was left running by an exception that nobody told of ends first."""
        self.stop()
        self.diagnosis, self._undelivered = None, False
        known = [one for one in optimizers if isinstance(one, torch.optim.Optimizer)]
        self._watch = watch(model, known, every=self._every).__enter__()
        # Hooks are global: those of a callback that is thrown away after an exception would stay for good.
        self._finalizer = weakref.finalize(self, self._watch.__exit__, None, None, None)

    def stop(self) -> None:
        """Take every hook away and judge what was seen; without a running watch, nothing happens."""
        if self._watch is None:
            return
        running, self._watch = self._watch, None
        if self._finalizer is not None:
            self._finalizer.detach()
        running.__exit__(None, None, None)
        self.diagnosis = running.diagnose()
        self._undelivered = True

    def end(self, *, writes: bool) -> None:
        """The training has ended: judge it, and deliver the diagnosis once, where this process is the one that writes.

        Raises: DiagError if the page cannot be written.
        """
        self.stop()
        if self._undelivered and self.diagnosis is not None:
            self._undelivered = False
            if writes:
                self.ending.deliver(self.diagnosis)

    def abort(self, *, writes: bool) -> None:
        """The training has ended by an exception, which nothing that goes wrong here may hide."""
        try:
            if self._watch is not None:
                self._watch.break_off()
            self.end(writes=writes)
        except Exception as error:
            LOG.warning("diag: the training was stopped by an exception, and its report failed too: %s", error)

    def hold(self) -> None:
        """Raise FindingsError if the training that has ended is not as good as `fail_on` asks."""
        if self.diagnosis is not None:
            self.ending.hold(self.diagnosis)

    def __getstate__(self) -> dict[str, Any]:
        # A watch holds the model; a callback is copied and sent to other processes without it.
        return {**self.__dict__, "_watch": None, "_finalizer": None}
