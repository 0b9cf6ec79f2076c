"""Batch normalization folded into the layer before it, so that it costs nothing at prediction."""

from __future__ import annotations

import copy
from itertools import pairwise

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from diag.recipes.spec import RecipeError


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """A copy for prediction in which each layer followed by batch normalization is one layer.

    W' = W gamma / sqrt(var + eps), b' = (b - mean) gamma / sqrt(var + eps) + beta, with the running statistics. Folded
    is every Linear or convolution that a BatchNorm follows in an nn.Sequential, as in the blocks of our networks.

    Raises: RecipeError if there is no such pair, or if one keeps no running statistics, so that it has none to fold.
    Source: torch.nn.utils.fusion; Jacob et al. 2018, section 3.2.
    """
    folded = copy.deepcopy(model).eval()
    pairs = 0
    for path, chain in list(folded.named_modules()):
        if isinstance(chain, nn.Sequential) and type(chain).forward is nn.Sequential.forward:
            pairs += _fold_chain(chain, path)
    if not pairs:
        raise RecipeError(
            f"{type(model).__name__} has no Linear or convolution followed by a BatchNorm in an nn.Sequential to fold"
        )
    return folded


def _fold_chain(chain: nn.Sequential, path: str) -> int:
    pairs = 0
    for (name, layer), (norm_name, norm) in pairwise(list(chain._modules.items())):
        if not isinstance(norm, _BatchNorm):
            continue
        if isinstance(layer, nn.Linear) and layer.out_features == norm.num_features:
            _require_statistics(norm, f"{path}.{norm_name}".lstrip("."))
            setattr(chain, name, fuse_linear_bn_eval(layer, norm))
        elif isinstance(layer, _ConvNd):
            _require_statistics(norm, f"{path}.{norm_name}".lstrip("."))
            setattr(chain, name, fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, _ConvTransposeNd)))
        else:
            continue
        delattr(chain, norm_name)
        pairs += 1
    return pairs


def _require_statistics(norm: _BatchNorm, path: str) -> None:
    if norm.running_mean is None or norm.running_var is None:
        raise RecipeError(
            f"'{path}' keeps no running statistics and normalizes by each batch: nothing of it can be folded; "
            "build it with track_running_stats=True"
        )
