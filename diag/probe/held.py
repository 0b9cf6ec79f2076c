"""The tensors that an optimizer holds, or a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch


def held_by(owner: Any) -> Iterator[torch.Tensor]:
    """All parameters of an optimizer's groups, or of a module; none of what is neither."""
    if isinstance(owner, torch.nn.Module):
        yield from owner.parameters()
    else:
        for group in getattr(owner, "param_groups", ()):
            yield from group["params"]
