"""The global hooks that tell of every optimizer's step: one pair for all probes."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim import optimizer as global_hooks
from torch.utils.hooks import RemovableHandle

from diag.probe.capture import told


class StepListener(Protocol):
    """What a probe is told."""

    def before_optimizer(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """An optimizer is about to step."""

    def see_recorded_step(self, optimizer: Optimizer) -> None:
        """A step is recorded into a CUDA graph."""

    def after_optimizer(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """It has done so."""


_listeners: list[StepListener] = []
_handles: list[RemovableHandle] = []
_threads: set[int] = set()


def listen(listener: StepListener) -> None:
    """Tell this listener from now on."""
    if not _handles:
        _handles.append(global_hooks.register_optimizer_step_pre_hook(_before))
        _handles.append(global_hooks.register_optimizer_step_post_hook(_after))
    _listeners.append(listener)


def unlisten(listener: StepListener) -> None:
    """Tell this listener no more; after the last one the hooks go.

    torch calls hooks while it iterates over them: where another thread has stepped that may be in the middle of it they
    stay, and do nothing, until a later watch ends without such a thread.
    """
    if listener in _listeners:
        _listeners.remove(listener)
    alive = {one.ident for one in threading.enumerate()} - {threading.get_ident()}
    if not _listeners and not _threads & alive:
        for handle in _handles:
            handle.remove()
        _handles.clear()
        _threads.clear()


def _before(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _threads.add(threading.get_ident())
    now = told(_listeners)
    for one in now:
        one.before_optimizer(optimizer, args, kwargs)
    for one in () if now else _listeners:
        one.see_recorded_step(optimizer)


def _after(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for one in told(_listeners):
        one.after_optimizer(optimizer, args, kwargs)
