"""The functions of torch that are replaced while any probe watches, to tell of backward, scales, zero_grad, clips, and
loaders that are begun."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.utils.data

from diag.probe import capture


class Listener(Protocol):
    """What a probe is told."""

    def begin_backward(self, tensors: Any, grad_tensors: Any) -> None:
        """A backward pass begins, perhaps within another."""

    def end_backward(self) -> None:
        """It has ended, perhaps by an exception."""

    def see_recorded(self, tensors: Any) -> None:
        """A backward pass is recorded into a CUDA graph."""

    def see_recorded_zero_grad(self, owner: Any) -> None:
        """Gradients are cleared at every replay of one."""

    def see_scaled(self, outputs: Any, scale: torch.Tensor) -> None:
        """A loss was multiplied by the scale of a `GradScaler`."""

    def begin_scaled_step(self) -> None:
        """A `GradScaler` is about to let an optimizer step."""

    def end_scaled_step(self, optimizer: Any) -> None:
        """It has done so, or has left the step out."""

    def see_unscaled(self) -> None:
        """A `GradScaler` divided gradients by its scale."""

    def see_zero_grad(self, owner: Any) -> None:
        """Gradients were cleared, by an optimizer or a module."""

    def see_clip(self, parameters: list[torch.Tensor]) -> None:
        """Gradients are about to be clipped."""

    def see_loader(self, loader: Any) -> None:
        """A loader of data is begun."""


_listeners: list[Listener] = []
_replaced: list[tuple[Any, str, Any, Any]] = []


def listen(listener: Listener) -> None:
    """Tell this listener from now on. All probes share one replacement, so that they may end in any order."""
    if not _replaced:
        _replace(torch.autograd, "backward", _watched_backward)
        _replace(torch.amp.GradScaler, "scale", _watched_scale)
        _replace(torch.amp.GradScaler, "step", _watched_step)
        _replace(torch.amp.GradScaler, "unscale_", _watched_unscale)
        _replace(torch.optim.Optimizer, "zero_grad", _watched_zero_grad)
        _replace(torch.nn.Module, "zero_grad", _watched_zero_grad)
        _replace(torch.utils.data.DataLoader, "__iter__", _watched_loader)
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            _replace(torch.nn.utils, name, _watched_clip)
    _listeners.append(listener)


def unlisten(listener: Listener) -> None:
    """Tell this listener no more; after the last one put back all that nobody else has replaced since."""
    if listener in _listeners:
        _listeners.remove(listener)
    while not _listeners and _replaced:
        owner, name, original, ours = _replaced.pop()
        if getattr(owner, name) is ours:
            setattr(owner, name, original)


def _replace(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    ours = functools.wraps(original)(wrap(original))
    setattr(owner, name, ours)
    _replaced.append((owner, name, original, ours))


def _watched_backward(original: Any) -> Any:
    def backward(tensors: Any, grad_tensors: Any = None, *args: Any, **kwargs: Any) -> Any:
        told = capture.told(_listeners)
        for one in () if told else _listeners:
            one.see_recorded(tensors)
        for one in told:
            one.begin_backward(tensors, grad_tensors)
        try:
            return original(tensors, grad_tensors, *args, **kwargs)
        finally:
            for one in told:
                one.end_backward()

    return backward


def _watched_zero_grad(original: Any) -> Any:
    def zero_grad(owner: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(owner, *args, **kwargs)
        told = capture.told(_listeners)
        for one in told:
            one.see_zero_grad(owner)
        for one in () if told else _listeners:
            one.see_recorded_zero_grad(owner)
        return result

    return zero_grad


def _watched_clip(original: Any) -> Any:
    def clip(parameters: Any, *args: Any, **kwargs: Any) -> Any:
        parameters = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
        for one in capture.told(_listeners):
            one.see_clip(parameters)
        return original(parameters, *args, **kwargs)

    return clip


def _watched_loader(original: Any) -> Any:
    def begin(loader: Any) -> Any:
        for one in capture.told(_listeners):
            one.see_loader(loader)
        return original(loader)

    return begin


def _watched_scale(original: Any) -> Any:
    def scale(scaler: Any, outputs: Any) -> Any:
        scaled = original(scaler, outputs)
        told = capture.told(_listeners)
        if told and scaler.is_enabled() and scaler._scale is not None:
            factor = scaler._scale.detach().clone()
            for one in told:
                one.see_scaled(scaled, factor)
        return scaled

    return scale


def _watched_unscale(original: Any) -> Any:
    def unscale_(scaler: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(scaler, *args, **kwargs)
        for one in capture.told(_listeners):
            one.see_unscaled()
        return result

    return unscale_


def _watched_step(original: Any) -> Any:
    def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        told = capture.told(_listeners)
        for one in told:
            one.begin_scaled_step()
        result = original(scaler, optimizer, *args, **kwargs)
        for one in told:
            one.end_scaled_step(optimizer)
        return result

    return step
