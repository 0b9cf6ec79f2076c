"""What the user has set of modules and optimizers, read when the watch ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from diag.probe.drawn import untrained
from diag.probe.sites import Site
from diag.trace.shapes import sizes

if TYPE_CHECKING:
    from diag.probe.probe import Probe

_Tree = dict[str, nn.Module]
"""The modules of a model by their paths; one that has several, by the first."""
_COUPLED = (
    torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.NAdam, torch.optim.RAdam,
    torch.optim.Adamax, torch.optim.Adadelta, torch.optim.ASGD,
)  # fmt: skip
"""Optimizers that add weight_decay * weight to the gradient, unless a group says that its decay is decoupled."""
_ASKED = (
    nn.Softmax, nn.LogSoftmax, nn.RNNBase, nn.MultiheadAttention, nn.LSTMCell, nn.modules.batchnorm._BatchNorm,
)  # fmt: skip
"""Modules that are asked one by one."""
_SLOW = 1e-3
"""Of a batch normalization's momentum; torch's own is 0.1."""
_LAST = 10
"""Steps at the end, or a tenth if that is more, whose optimizers are those that are at work."""


def settings(probe: Probe) -> dict[str, Any]:
    """Entries of the coverage.

    over_first: softmax modules that run over the first dimension of several; over_one: over a single entry.
    plain_tensors: by model, tensors with a gradient that are attributes, no parameters, and in no optimizer. held_last:
    where there are several optimizers, the parameters of those that stepped last. forget_bias: of LSTMs and their
    cells. both_ways: recurrent modules of two directions. time_first: sites of torch's sequence modules whose first
    dimension is time. norms_unused: of batch normalizations whose running statistics no batch has changed.
    slow_statistics: of those that take in a thousandth of a batch or less, the momentum, and how many batches there
    were. weight_decay: by parameter, how much, and whether it is decoupled. momentum: the largest whose steps add up.
    betas: of Adam and its kin, those whose first has the largest square for the second. meant_lr: the largest learning
    rate that a schedule starts from or rises to, 0 without a schedule.
    frozen_untrained: by model, frozen weights that are as torch initializes them, and their share of all elements.
    """
    # One walk for all that is asked: a watch may be begun and ended around every step.
    trees = [dict(root.model.named_modules()) for root in probe.sites.roots]
    modules: list[tuple[Site, nn.Module]] = [
        (site, module) for site, module in _modules(probe, trees) if isinstance(module, _ASKED)
    ]
    return {
        "over_first": [probe.sites.name(site) for site, module in modules if _softmax_over(site, module)[0] == 0],
        "over_one": [probe.sites.name(site) for site, module in modules if _softmax_over(site, module)[1] == 1],
        "plain_tensors": _plain_tensors(probe, trees),
        "held_last": _held_last(probe),
        "forget_bias": _forget_biases(modules, probe),
        "both_ways": [probe.sites.name(site) for site, module in modules if _runs_both_ways(module)],
        "time_first": [probe.sites.name(site) for site, module in modules if _is_time_first(module)],
        "slow_statistics": _slow(modules, probe),
        "norms_unused": [
            probe.sites.name(site)
            for site, module in modules
            if _is_unused(module, probe.forward.untrained.passes_of(site.root, site.owner))
        ],
        "weight_decay": _decays(probe),
        "momentum": _momentum(probe),
        "meant_lr": _meant_lr(probe),
        "betas": _betas(probe),
        "frozen_untrained": untrained(probe, trees),
    }


def _modules(probe: Probe, trees: list[_Tree]) -> Iterator[tuple[Site, nn.Module]]:
    """The sites at which modules put out their first tensor, with the module."""
    for site in probe.sites.table:
        if site.kind == "output" and not site.suffix:
            known = trees[site.root].get(site.owner)
            if known is not None:
                yield site, known
                continue
            try:
                yield site, probe.sites.roots[site.root].model.get_submodule(site.owner)
            except (AttributeError, RuntimeError):  # one that is gone, or a scripted module's
                continue


def _is_time_first(module: nn.Module) -> bool:
    """Whether the first dimension of what it takes is time, the second one the samples."""
    return isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) and not module.batch_first


def _runs_both_ways(module: nn.Module) -> bool:
    return isinstance(module, nn.RNNBase) and module.bidirectional


def _softmax_over(site: Site, module: nn.Module) -> tuple[int, int]:
    """Which dimension of several a softmax runs over, and its length; -1 and 0 for anything else."""
    if not isinstance(module, (nn.Softmax, nn.LogSoftmax)) or not isinstance(module.dim, int):
        return -1, 0
    shape = sizes(site.shape) if "x" in site.shape else ()
    inside = -len(shape) <= module.dim < len(shape)
    return (module.dim % len(shape), shape[module.dim]) if inside else (-1, 0)


def _plain_tensors(probe: Probe, trees: list[_Tree]) -> dict[str, list[str]]:
    held = probe.parameters.optimized()
    found: dict[str, list[str]] = {}
    tensor = torch.Tensor
    for root, tree in zip(probe.sites.roots, trees, strict=True):
        for path, module in tree.items():
            if tensor not in {*map(type, vars(module).values())}:
                continue
            for name, value in vars(module).items():
                plain = type(value) is tensor and value.requires_grad and value.is_leaf
                if plain and value.grad is not None and id(value) not in held:
                    found.setdefault(root.name, []).append(f"{path}.{name}" if path else name)
    return found


def _held_last(probe: Probe) -> list[str]:
    steps = probe.recorder.steps.columns()["optimizer"]
    if len(probe.parameters.optimizers) < 2 or not len(steps):
        return []
    names = []
    for index in sorted(set(steps[-max(_LAST, len(steps) // 10) :]) - {-1}):
        optimizer = probe.parameters.optimizers.get(index)
        for group in () if optimizer is None else optimizer.param_groups:
            sites = (probe.parameters.site_of(one, optimized=None) for one in group["params"])
            names += [probe.sites.name(probe.sites.table[site]) for site in sites if site is not None]
    return names


def _forget_biases(modules: list[tuple[Site, nn.Module]], probe: Probe) -> dict[str, float]:
    """Of the gates that let the state of an LSTM or of its cell pass: what is added before their sigmoid, on average
    over units, and the least over layers."""
    found = {}
    for site, module in modules:
        if isinstance(module, (nn.LSTM, nn.LSTMCell)) and module.bias:
            units = slice(module.hidden_size, 2 * module.hidden_size)
            ends = [f"_l{layer}" for layer in range(module.num_layers)] if isinstance(module, nn.LSTM) else [""]
            pairs = [(f"bias_ih{end}", f"bias_hh{end}") for end in ends]
            own = [[module._parameters.get(name) for name in pair] for pair in pairs]
            if all(one is not None and not one.is_meta for pair in own for one in pair):
                means = [sum(float(one.detach()[units].mean()) for one in pair if one is not None) for pair in own]
                found[probe.sites.name(site)] = min(means)
    return found


def _is_unused(module: nn.Module, tested: int) -> bool:
    """Whether it is a batch normalization that divides by running statistics which no batch has ever changed, but for
    those of passes without a graph in training mode, of which there were so many."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return False
    counted, mean, var = module.num_batches_tracked, module.running_mean, module.running_var
    if counted is None or mean is None or var is None or mean.is_meta:
        return False
    if counted.any():
        return 0 < int(counted) <= tested
    return not module.training and not mean.any() and bool((var == 1).all())


def _slow(modules: list[tuple[Site, nn.Module]], probe: Probe) -> dict[str, tuple[float, int]]:
    found = {}
    for site, module in modules:
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum and module.momentum <= _SLOW:
            counted = module.num_batches_tracked
            if counted is not None and not counted.is_meta:
                found[probe.sites.name(site)] = module.momentum, int(counted)
    return found


def _decays(probe: Probe) -> dict[str, tuple[float, bool]]:
    found = {}
    for optimizer in probe.parameters.optimizers:
        for group in optimizer.param_groups:
            decay, decoupled = group.get("weight_decay", 0.0), _is_decoupled(optimizer, group)
            if decoupled is None or isinstance(decay, torch.Tensor) or not decay:
                continue
            for parameter in group["params"]:
                site = probe.parameters.site_of(parameter, optimized=None)
                if site is not None:
                    found[probe.sites.name(probe.sites.table[site])] = (float(decay), decoupled)
    return found


def _groups(probe: Probe) -> Iterator[dict[str, Any]]:
    """Those of all optimizers."""
    return (group for optimizer in probe.parameters.optimizers for group in optimizer.param_groups)


def _momentum(probe: Probe) -> float:
    """Of SGD, which adds up the last 1 / (1 - momentum) gradients, unless they are dampened, and of RMSprop."""
    known = (one["momentum"] for one in _groups(probe) if not one.get("dampening") and "momentum" in one)
    return max((float(one) for one in known if not isinstance(one, torch.Tensor)), default=0.0)


def _meant_lr(probe: Probe) -> float:
    """What a schedule multiplies, as torch's schedulers note it in the optimizer."""
    known = (one.get("initial_lr") for one in _groups(probe))
    return max((float(one) for one in known if isinstance(one, (int, float))), default=0.0)


def _betas(probe: Probe) -> list[float]:
    """Of Adam and its kin, those whose average of gradients is longest for that of their squares."""
    known = (one.get("betas") for one in _groups(probe))
    pairs = [[float(beta) for beta in one] for one in known if isinstance(one, (tuple, list)) and len(one) == 2]
    return max(pairs, key=lambda pair: pair[0] ** 2 / max(pair[1], 1e-12), default=[])


def _is_decoupled(optimizer: Optimizer, group: dict[str, Any]) -> bool | None:
    """Whether weights decay beside the gradient's step; None for optimizers of which that is not known."""
    if type(optimizer) is torch.optim.AdamW:
        return True
    return bool(group.get("decoupled_weight_decay", False)) if type(optimizer) in _COUPLED else None
