"""How a trained network predicts: one pass, or the mean of many stochastic ones."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import nn

from diag.recipes.kinds import prediction
from diag.recipes.predicted import Predicted
from diag.recipes.spec import RecipeError

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@prediction("plain")
def plain(model: nn.Module, inputs: torch.Tensor) -> Predicted:
    """One pass in evaluation mode: the softmax of the logits, or the values of a regression.

    inputs: [count, ...]. A single output is the value of a regression: it cannot be a class.
    """
    with torch.no_grad(), _evaluating(model):
        outputs = model(inputs)
    if outputs.shape[1] == 1:
        return Predicted(outputs)
    logarithm = torch.log_softmax(outputs, 1)
    return Predicted(logarithm.exp(), log_mean=logarithm)


@prediction("mc_dropout", source="Gal & Ghahramani 2016, equations 6 and 7")
def mc_dropout(model: nn.Module, inputs: torch.Tensor, *, passes: int = 50, seed: int | None = None) -> Predicted:
    """Mean and variance over T passes with dropout on: p = 1/T sum softmax(f_t(x)); all else in evaluation mode.

    The variance is that of the passes, 1/T sum (p_t - p)^2: the model's uncertainty, without the noise of the data.
    seed: of a random stream of its own; None draws from torch's global generator. inputs: as for `plain`.
    Raises: RecipeError for a network without dropout, or for less than one pass.
    """
    if passes < 1:
        raise RecipeError(f"mc_dropout takes passes from 1, got {passes!r}")
    dropouts = [one for one in model.modules() if isinstance(one, DROPOUTS)]
    if not dropouts:
        raise RecipeError("mc_dropout needs a network with dropout: add the regularizer 'dropout'")
    with torch.no_grad(), _evaluating(model), _slow_attention(), _stream(seed, inputs.device):
        for one in dropouts:
            one.train()
        outputs = torch.stack([model(inputs) for _ in range(passes)])
    if outputs.shape[2] == 1:
        return Predicted(outputs.mean(0), outputs.var(0, correction=0))
    logarithms = torch.log_softmax(outputs, 2)
    probabilities = logarithms.exp()
    log_mean = torch.logsumexp(logarithms, 0) - math.log(passes)
    return Predicted(probabilities.mean(0), probabilities.var(0, correction=0), log_mean)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode; afterwards every module is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def _slow_attention() -> Iterator[None]:
    """Without the fused path of torch's encoder layers in evaluation mode, which skips their dropout modules."""
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


@contextlib.contextmanager
def _stream(seed: int | None, device: torch.device) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
