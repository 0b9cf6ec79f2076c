"""What a trace should hold, by plain code: no module is called, no hook is set, gradients come from `autograd.grad`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.probe.by_hand import as_double

Key = tuple[str, int]


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of parameters and buffers by name, as they are now."""
    model = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: plain(one).clone().requires_grad_(one.requires_grad) for name, one in named}


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor, whole where they are sharded."""
    whole = getattr(tensor, "full_tensor", None)
    return (tensor if whole is None else whole()).detach()


class Oracle:
    """One step. Called as `note(site, tensor)`, it writes down what passes; `backward` asks for the gradients.

    `p[name]` are the parameters and buffers as the pass found them, in the precision of the oracle.
    """

    def __init__(self, precision: torch.dtype | None, cleared: bool = False) -> None:
        self._precision = precision
        self._cleared = cleared
        self._pass: list[tuple[Key, torch.Tensor]] = []
        self.p: dict[str, torch.Tensor] = {}
        self.activations: dict[Key, list[np.ndarray]] = {}
        self.gradients: dict[Key, list[np.ndarray]] = {}
        self.weights: dict[str, np.ndarray] = {}
        self.weight_gradients: dict[str, np.ndarray] = {}
        self.losses: list[float] = []

    def begin(self, state: dict[str, torch.Tensor]) -> None:
        """A pass begins with these parameters and buffers."""
        self.p = {
            name: self.cast(one.detach()).clone().requires_grad_(one.requires_grad) for name, one in state.items()
        }
        for name, one in self.p.items():
            if one.requires_grad:
                self.weights.setdefault(name, as_double(one))

    def cast(self, value: Any) -> Any:
        """A tensor in the oracle's precision; integers, and what is no tensor, as they are."""
        if self._precision is None or not isinstance(value, torch.Tensor):
            return value
        if value.is_complex():
            return value.to(torch.complex128)
        return value.to(self._precision) if value.is_floating_point() else value

    def __call__(self, site: str, tensor: torch.Tensor) -> torch.Tensor:
        """Note a tensor under the name of its site."""
        self._pass.append(((site, sum(known == site for (known, _), _ in self._pass)), tensor))
        return tensor

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Note x W^T + b with the parameters of that name."""
        out = x @ self.p[f"{name}.weight"].mT
        bias = self.p.get(f"{name}.bias")
        return self(name, out if bias is None else out + bias)

    def backward(self, loss: torch.Tensor, share: float = 1.0) -> None:
        """Differentiate. share: what the gradients of the weights are multiplied with before the optimizer steps."""
        self.losses.append(loss.item())
        parameters = {name: one for name, one in self.p.items() if one.requires_grad}
        inner = [(key, one) for key, one in self._pass if one.requires_grad]
        found = torch.autograd.grad(loss, [*(one for _, one in inner), *parameters.values()], allow_unused=True)
        for key, one in self._pass:
            self.activations.setdefault(key, []).append(as_double(one))
        for (key, _), gradient in zip(inner, found, strict=False):
            if gradient is not None:
                self.gradients.setdefault(key, []).append(as_double(gradient))
        for name, gradient in zip(parameters, found[len(inner) :], strict=True):
            if gradient is not None:
                before = 0.0 if self._cleared else self.weight_gradients.get(name, 0.0)
                self.weight_gradients[name] = before + share * as_signed(gradient)
        self._pass = []


def as_signed(tensor: torch.Tensor) -> np.ndarray:
    """A gradient as it adds up: complex ones stay so."""
    tensor = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    return tensor.numpy() if tensor.is_complex() else tensor.double().numpy()


def joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    """The passes of a step as one set of numbers."""
    return np.concatenate([np.abs(one).ravel() if np.iscomplexobj(one) else one.ravel() for one in parts])
