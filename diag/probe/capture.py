"""Whether work for a GPU is being recorded rather than done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

_Listener = TypeVar("_Listener")


def is_capturing() -> bool:
    """Whether the current stream records its work into a CUDA graph, to be run again and again later.

    What is measured then would wait for what has not run, which CUDA refuses, or be measured at every replay, into
    memory that is others' by then.
    """
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def told(listeners: Sequence[_Listener]) -> list[_Listener]:
    """Which of these are told of a call, as a list of its own, since theirs may change: none while it is recorded."""
    return [] if is_capturing() else list(listeners)
