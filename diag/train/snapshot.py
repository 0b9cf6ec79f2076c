"""Leaving things as they were found: model, optimizer, gradients and random states."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from diag.train.workload import Workload, require_usable


@contextlib.contextmanager
def restored(workload: Workload) -> Iterator[None]:
    """Afterwards parameters, buffers, gradients, modes, the optimizer and all random states are what they were before.

    What cannot be copied is not restored: a spent iterator, plain attributes of the model.

    Raises: TargetError for a workload whose model, loss or optimizer is none.
    """
    require_usable(workload)
    model = _Model(workload.model)
    optimizer = _Optimizer(workload.optimizer) if workload.optimizer is not None else None
    with _random_states(_generators(workload.batches)):
        try:
            yield
        finally:
            model.restore()
            if optimizer is not None:
                optimizer.restore()


class _Model:
    """Every tensor of a model by its place, so that one that was replaced in training comes back itself."""

    def __init__(self, model: nn.Module) -> None:
        self._modes = {module: module.training for module in model.modules()}
        self._places: list[tuple[dict[str, Any], str, torch.Tensor | None]] = []
        self._values: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._gradients: list[tuple[torch.Tensor, bool, torch.Tensor | None, torch.Tensor | None]] = []
        self._lazy = [_Lazy(one) for one in self._modes if isinstance(one, LazyModuleMixin)]
        for module in self._modes:
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is None or not nn.parameter.is_lazy(tensor):
                        self._keep(tensors, name, tensor)

    def _keep(self, tensors: dict[str, Any], name: str, tensor: torch.Tensor | None) -> None:
        self._places.append((tensors, name, tensor))
        if tensor is None or id(tensor) in self._values:
            return
        self._values[id(tensor)] = (tensor, tensor.detach().clone())
        if tensor.is_leaf:
            gradient = tensor.grad
            value = None if gradient is None else gradient.detach().clone()
            self._gradients.append((tensor, tensor.requires_grad, gradient, value))

    def restore(self) -> None:
        """Put everything back."""
        for lazy in self._lazy:
            lazy.restore()
        with torch.no_grad():
            for tensors, name, original in self._places:
                tensors[name] = original
            for kept, value in self._values.values():
                _write(kept, value)
            for tensor, requires_grad, gradient, held in self._gradients:
                tensor.requires_grad_(requires_grad)
                tensor.grad = gradient
                if gradient is not None and held is not None:
                    _write(gradient, held)
        for module, training in self._modes.items():
            module.training = training


class _Lazy:
    """A module that takes its shape, and its class, from the first input; what it was before."""

    def __init__(self, module: nn.Module) -> None:
        self._module, self._class = module, type(module)
        self._attributes = dict(vars(module))
        self._held = [(value, list(value.items())) for value in self._attributes.values() if isinstance(value, dict)]
        tensors = (*module._parameters.values(), *module._buffers.values())
        self._tensors = [(one, type(one)) for one in tensors if one is not None and nn.parameter.is_lazy(one)]

    def restore(self) -> None:
        """Without a shape again; the tensors are the same objects, which an optimizer may hold."""
        for tensor, kind in self._tensors:
            if type(tensor) is not kind:
                tensor.grad = None
                tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
                tensor.__class__ = kind
        self._module.__class__ = self._class
        vars(self._module).clear()
        vars(self._module).update(self._attributes)
        for held, items in self._held:
            held.clear()
            held.update(items)


def _write(tensor: torch.Tensor, value: torch.Tensor) -> None:
    overlaps = tensor.layout is torch.strided and any(
        step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True)
    )
    if not overlaps:  # an expanded tensor cannot be written to, by training either
        tensor.copy_(value)


class _Optimizer:
    """An optimizer's state and groups. `load_state_dict` would not do: it casts the state to the parameters' dtype."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._state = {parameter: copy.deepcopy(state) for parameter, state in optimizer.state.items()}
        self._groups = [
            (group, self._without_parameters(group), list(group["params"])) for group in optimizer.param_groups
        ]

    @staticmethod
    def _without_parameters(group: dict[str, Any]) -> dict[str, Any]:
        return {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}

    def restore(self) -> None:
        """Put everything back."""
        self._optimizer.state.clear()
        self._optimizer.state.update(self._state)
        for group, values, parameters in self._groups:
            group.clear()
            group.update(params=parameters, **values)
        self._optimizer.param_groups[:] = [group for group, *_ in self._groups]


def _generators(batches: Any) -> list[torch.Generator]:
    samplers = [getattr(batches, "sampler", None), getattr(getattr(batches, "batch_sampler", None), "sampler", None)]
    owners = [batches, getattr(batches, "dataset", None), *samplers]
    found = {
        id(g): g for g in (getattr(owner, "generator", None) for owner in owners) if isinstance(g, torch.Generator)
    }
    return list(found.values())


@contextlib.contextmanager
def _random_states(generators: list[torch.Generator]) -> Iterator[None]:
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    own = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        for generator, state in zip(generators, own, strict=True):
            generator.set_state(state)
