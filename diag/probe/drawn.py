"""Whether frozen weights are as they were drawn at random, by torch's default or another law."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

if TYPE_CHECKING:
    from diag.probe.probe import Probe

_WEIGHTS = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding)
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
_SEVERAL, _LOOKED_AT = 6, 2**16
"""Weights from which a common law can be told: fewer may be random features; elements of each that are looked at."""
_FEWEST, _MANY = 64, 4096
"""Elements from which a weight can be told to be as it was initialized; by a normal law that depends on its fans."""
_SOME, _ERRORS = 4, 4.0
"""Weights that fit laws other than torch's default not by chance; standard errors that chance is granted."""


def untrained(probe: Probe, trees: list[dict[str, nn.Module]]) -> dict[str, dict[str, Any]]:
    """For the coverage: by model, the frozen weights that are as they were drawn, if all of them are, and their share.

    trees: by root, its modules by path. Source: the laws' variances are those of Glorot & Bengio 2010, equation 12, and
    He et al. 2015, equation 10
    """
    found = {}
    for index, (root, tree) in enumerate(zip(probe.sites.roots, trees, strict=True)):
        frozen = [
            (path, module)
            for path, module in tree.items()
            if (index, path) in probe.forward.ran
            and (_is_matrix(module) or isinstance(module, _NORMS))
            and _is_frozen(module)
        ]
        weights = [(path, module) for path, module in frozen if _is_matrix(module)]
        if not weights:
            continue
        norms = [module for _, module in frozen if isinstance(module, _NORMS)]
        total = sum(one.numel() for one in root.model.parameters() if not is_lazy(one))
        if _are_new([module for _, module in weights]) and all(_is_new(module) for module in norms):
            own = sum(one.numel() for _, module in weights for one in module.parameters(recurse=False))
            found[root.name] = {"modules": [path for path, _ in weights], "share": own / total}
    return found


def is_as_drawn(model: nn.Module) -> bool:
    """Whether all weights of a network are as they were drawn."""
    modules = list(model.modules())
    matrices = [one for one in modules if _is_matrix(one) and one._parameters.get("weight") is not None]
    norms = [one for one in modules if isinstance(one, _NORMS) and one._parameters.get("weight") is not None]
    return bool(matrices) and _are_new(matrices) and all(map(_is_new, norms))


def _are_new(modules: list[nn.Module]) -> bool:
    """Whether all weights are as they were drawn. Few, or small ones, might fit a law other than torch's default by
    chance."""
    others = [one for one in modules if not _is_new(one)]
    large = [one for one in others if _size(one) >= _MANY]
    fit = all(map(_is_by_law, others)) and (not others or len(large) >= _SOME)
    return fit or _are_normal(others)


def _size(module: nn.Module) -> int:
    weight = module._parameters["weight"]
    return 0 if weight is None else weight.numel()


def _is_matrix(module: nn.Module) -> bool:
    """Whether it is a linear or convolutional layer, transformers' own among them, or an embedding."""
    return isinstance(module, _WEIGHTS) or type(module).__name__ == "Conv1D"


@torch.no_grad()
def _are_normal(modules: list[nn.Module]) -> bool:
    """Whether weights look as drawn: normal, around 0, and with no more than a few standard deviations among all of
    them, as 0.02 and what a deep network's branches have. What was trained has one of its own in each, and long tails.
    """
    stds: list[float] = []
    for module in modules:
        weight = module._parameters["weight"]
        assert weight is not None
        std = float(weight.reshape(-1)[:_LOOKED_AT].double().std())
        if not std > 0 or not _is_normal(weight, [std**2]):
            return False
        error = _ERRORS / math.sqrt(min(weight.numel(), _LOOKED_AT))
        if all(abs(std / one - 1) > error + 1e-3 for one in stds):
            stds.append(std)
    return len(modules) >= _SEVERAL and len(stds) <= max(2, len(modules) // 3)


def _is_frozen(module: nn.Module) -> bool:
    # Not the attribute: of a parametrized weight, to read it is to compute it.
    weight = module._parameters.get("weight")
    return type(weight) is nn.Parameter and not weight.requires_grad and not weight.is_meta


@torch.no_grad()
def _is_new(module: nn.Module) -> bool:
    """Whether weights are what torch's default gives: uniform up to 1 / sqrt(fan_in), of an embedding normal; those of
    a normalization 1."""
    weight = module._parameters["weight"]
    assert weight is not None
    if isinstance(module, _NORMS):
        return bool((weight == 1).all())
    if weight.dtype not in (torch.float32, torch.float64):
        return False
    if isinstance(module, nn.Embedding):
        rows = (
            weight
            if module.padding_idx is None
            else torch.cat([weight[: module.padding_idx], weight[module.padding_idx + 1 :]])
        )
        return _is_normal(rows, [1.0])
    return _is_uniform(weight, [1 / (3 * weight[0].numel())])


def _is_by_law(module: nn.Module) -> bool:
    """Whether weights are as one of the usual laws gives for their fans: he's, glorot's or lecun's, of either kind."""
    weight = module._parameters["weight"]
    assert weight is not None
    if isinstance(module, nn.Embedding) or weight.dtype not in (torch.float32, torch.float64):
        return False
    fan_in = weight[0].numel()
    fan_out = weight.numel() // weight.shape[1]
    variances = [2 / fan_in, 1 / fan_in, 2 / fan_out, 1 / fan_out, 2 / (fan_in + fan_out)]
    return _is_uniform(weight, variances) or _is_normal(weight, variances)


def _is_uniform(weight: torch.Tensor, variances: list[float]) -> bool:
    """Whether weights are as drawn from a uniform law around 0 with one of these variances."""
    count = weight.numel()
    if count < _FEWEST:
        return False
    rms, most = float(torch.linalg.vector_norm(weight)) / math.sqrt(count), float(weight.abs().max())
    return any(
        abs(rms / one**0.5 - 1) < 2 / math.sqrt(count) + 1e-3 and most <= math.sqrt(3 * one) * (1 + 1e-5)
        for one in variances
    )


def _is_normal(weight: torch.Tensor, variances: list[float]) -> bool:
    """Whether weights are as drawn from a normal law around 0 with one of these variances."""
    values = weight.reshape(-1)[:_LOOKED_AT].double()
    count, std = len(values), float(values.std())
    error = _ERRORS / math.sqrt(max(count, 1))
    if count < _FEWEST or not std > 0 or abs(float(values.mean())) > error * std:
        return False
    if abs(float(((values / std) ** 4).mean()) - 3) > error * math.sqrt(24):
        return False
    return any(abs(std / one**0.5 - 1) < error for one in variances)
