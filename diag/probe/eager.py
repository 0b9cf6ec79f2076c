"""Compiled code runs eagerly while it is watched: hooks that are added after compilation would silently never fire."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable

import torch

_VARIABLE = "TORCH_COMPILE_DISABLE"
_WARNING = r"Using `torch\.compile\(module\)` when there are global hooks"
_watching = 0
_undo: list[Callable[[], None]] = []


def enter_eager() -> None:
    """Have compiled code run eagerly until as many `leave_eager` have followed."""
    global _watching
    _watching += 1
    if _watching > 1:
        return
    # torch warns that global hooks fire once more for the wrapper of a compiled module; ours know.
    warnings.filterwarnings("ignore", message=_WARNING, category=UserWarning)
    ours = warnings.filters[0]
    _undo.append(lambda: _remove_filter(ours))
    if "torch._dynamo" in sys.modules:
        stance = torch.compiler.set_stance("force_eager")
        _undo.append(lambda: stance.__exit__(None, None, None))
        return
    # The compiler takes seconds to load. Until it is, it can be told by the environment alone.
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = "1"
    _undo.append(lambda: _restore_variable(before))


def leave_eager() -> None:
    """The watch ends; after the last one compiled code runs as before."""
    global _watching
    _watching -= 1
    while _watching == 0 and _undo:
        _undo.pop()()


def is_compiled(module: torch.nn.Module) -> bool:
    """Whether calling this module would run code that `torch.compile` made."""
    return type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None


def _remove_filter(ours: object) -> None:
    filters = warnings.filters
    if isinstance(filters, list) and ours in filters:
        filters.remove(ours)


def _restore_variable(before: str | None) -> None:
    if before is None:
        os.environ.pop(_VARIABLE, None)
    else:
        os.environ[_VARIABLE] = before
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].config.disable = before == "1"
