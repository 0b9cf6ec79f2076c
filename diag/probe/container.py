"""The model to which a module belongs that is called alone, as the couplings of a flow are by its `log_prob`."""

from __future__ import annotations

from itertools import islice

from torch import nn

from diag.probe.variables import callers, variables

_CALLS = 8
"""Callers that are looked at."""


def container_of(module: nn.Module) -> nn.Module:
    """The outermost module whose method calls this one of its own, or this one itself.

    A module of Lightning holds a training, which may be of several models: it is none.
    """
    found = module
    for frame in islice(callers(), _CALLS):
        if frame.f_code.co_argcount:
            (owner,) = variables(frame, frame.f_code.co_varnames[:1])
            if isinstance(owner, nn.Module) and not hasattr(owner, "training_step"):
                found = owner if any(one is found for one in owner.modules()) else found
    return found
