"""Unsupervised pretraining: the blocks as the encoder of a denoising autoencoder, below a decoder that mirrors them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from diag.recipes.networks.stack import Make, MakeNorm, block
from diag.recipes.pretraining import blocks_of, input_batches
from diag.recipes.spec import RecipeError

Shape = tuple[int, ...]
_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def pretrain_autoencoder(
    model: nn.Module,
    inputs: torch.Tensor,
    *,
    steps: int,
    lr: float,
    noise: float,
    batch_size: int,
    activation: Make,
    norm: MakeNorm,
    seed: int,
) -> list[float]:
    """Train the model's blocks in place so that a decoder can tell the inputs from inputs + noise N(0, noise^2).

    The loss is the mean squared error of the decoder's output against what the lowest block is given for the clean
    inputs; encoder and decoder are trained together, by Adam, and the decoder is dropped. Returns each step's loss.
    Raises: RecipeError where blocks cannot be run one after another, or mirrored.
    Source: Vincent et al. 2010, section 3.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = mirror(model, inputs, activation, norm)
        model.train()
        parameters = [*blocks_of(model).parameters(), *decoder.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=lr)
        batches = input_batches(inputs, batch_size)
        losses = []
        for _ in range(steps):
            clean = next(batches)
            optimizer.zero_grad()
            rebuilt = decoder(_climb(model, clean + noise * torch.randn_like(clean))[-1])
            loss = nn.functional.mse_loss(rebuilt, _prepared(model, clean).detach())
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        optimizer.zero_grad()
    return losses


def mirror(model: nn.Module, inputs: torch.Tensor, activation: Make, norm: MakeNorm) -> nn.Sequential:
    """A decoder: for each block, from the top down, a layer from the shape of its output back to that of its input.

    A block that convolves is mirrored by an upsampling, where it shrank its input, and a convolution; any other by a
    linear layer on the last dimension. All but the lowest are followed by a norm and an activation.
    Raises: RecipeError where blocks cannot be run one after another, or mirrored.
    """
    modes = [(one, one.training) for one in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            shapes = [tuple(one.shape[1:]) for one in _climb(model, inputs[:2])]
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        reason = str(error).partition("\n")[0]
        raise RecipeError(
            f"the start 'autoencoder' runs `prepare`, if there is one, and `blocks` one after another; this fails "
            f"({reason}): give the network a `prepare(inputs)` for what comes before its blocks"
        ) from error
    finally:
        for one, training in modes:
            one.training = training
    layers = [
        _mirrored(encoder, above, below, activation, norm, is_last=number == 0)
        for number, (encoder, (below, above)) in enumerate(zip(blocks_of(model), pairwise(shapes), strict=True))
    ]
    return nn.Sequential(*reversed(layers))


def _mirrored(
    encoder: nn.Module, above: Shape, below: Shape, activation: Make, norm: MakeNorm, is_last: bool
) -> nn.Module:
    """From the shape of a block's output back to that of its input."""
    rest: dict[str, nn.Module | None] = {}
    if any(isinstance(one, tuple(_CONVOLUTIONS.values())) for one in encoder.modules()):
        dims, features = len(below) - 1, below[0]
        layer: nn.Module = _CONVOLUTIONS[dims](above[0], features, 3, padding=1)
        rest["upsample"] = nn.Upsample(size=below[1:]) if above[1:] != below[1:] else None
    elif above[:-1] == below[:-1]:
        dims, features = (-1 if len(below) > 1 else 0), below[-1]
        layer = nn.Linear(above[-1], features)
    else:
        raise RecipeError(f"the start 'autoencoder' cannot mirror a block from shape {below} to {above}")
    rest["layer"] = layer
    if not is_last:
        rest |= {"norm": norm(features, dims), "activation": activation()}
    return block(**rest)


def _prepared(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    prepare = getattr(model, "prepare", None)
    return inputs if prepare is None else prepare(inputs)


def _climb(model: nn.Module, inputs: torch.Tensor) -> list[torch.Tensor]:
    """What the lowest block is given, and what each block gives."""
    reached = [_prepared(model, inputs)]
    for one in blocks_of(model):
        reached.append(one(reached[-1]))
    return reached
