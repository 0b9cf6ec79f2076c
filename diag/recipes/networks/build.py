"""From the network that a recipe names, ours or the user's own, to a module."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from diag.errors import nearest
from diag.recipes.kinds import network
from diag.recipes.networks.stack import Make, MakeDropout, MakeNorm
from diag.recipes.networks.user import load_function, running
from diag.recipes.spec import RecipeError


def build_network(
    name: str,
    *,
    inputs: tuple[int, ...],
    outputs: int,
    depth: int,
    width: int,
    activation: Make,
    norm: MakeNorm,
    dropout: MakeDropout,
) -> nn.Module:
    """A new network: `name`, `name(option=value)`, `module:function` or `path/to/file.py:function`.

    The function is given those of the arguments that it names.

    Raises: RecipeError of one line if there is no such function, if it takes what is not on offer, if it fails (its
    error is the cause), or if it returns no module.
    """
    offered = {
        "inputs": inputs,
        "outputs": outputs,
        "depth": depth,
        "width": width,
        "activation": activation,
        "norm": norm,
        "dropout": dropout,
    }
    function = load_function(name) if ":" in name else network.resolve(name)
    arguments = _chosen(function, offered, name)
    with running(f"the network '{name}'"):
        model = function(**arguments)
    if not isinstance(model, nn.Module):
        hint = " (a return is missing?)" if model is None else ""
        raise RecipeError(f"the network '{name}' must return an nn.Module, got {type(model).__name__}{hint}")
    return model


def _chosen(function: Callable[..., Any], offered: dict[str, Any], name: str) -> dict[str, Any]:
    """Those of the offered arguments that the function names and that the recipe's text has not set."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise RecipeError(f"the arguments of the network '{name}' cannot be read: name a Python function") from None
    bound = function.keywords if isinstance(function, functools.partial) else {}
    by_name = {one.name: one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    for one in parameters:
        if one.kind is one.POSITIONAL_ONLY and one.default is one.empty:
            raise RecipeError(f"the network '{name}' takes '{one.name}' by position only: let it be given by name")
        required = one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        if required and (one.name not in by_name or one.name not in offered):
            raise RecipeError(
                f"the network '{name}' needs an argument '{one.name}'{nearest(one.name, offered)}, which is not "
                f"on offer: take any of {', '.join(offered)}, and give the others defaults"
            )
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters)
    return {key: value for key, value in offered.items() if (takes_all or key in by_name) and key not in bound}
