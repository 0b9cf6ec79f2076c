"""Whether work for a GPU is being recorded rather than done."""

from __future__ import annotations

import torch


def is_capturing() -> bool:
    """Whether the current stream records its work into a CUDA graph, to be run again and again later.

    What is measured then would wait for what has not run, which CUDA refuses, or be measured at every replay, into
    memory that is others' by then.
    """
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
