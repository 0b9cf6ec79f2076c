"""What an evaluation gives a model and gets from it, beside what training does: of some batches after each step."""

from __future__ import annotations

import linecache
import math
import sys
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import nn

from diag.probe.recorder import Recorder
from diag.probe.sites import Sites
from diag.probe.tensors import find_inputs, find_tensors, is_measurable

_BATCHES = 4
"""Passes after one step that are looked at."""
_FIRST, _MOST = 8, 40
"""Evaluations that are kept: so many, the first ones and the last."""
_FEATURES = 256
_LOSSES: dict[type[nn.Module], str] = {
    nn.CrossEntropyLoss: "cross_entropy",
    nn.NLLLoss: "nll_loss",
    nn.BCEWithLogitsLoss: "binary_cross_entropy_with_logits",
}
"""Those that can be held against a guess."""


@dataclass
class _Sums:
    """Of all elements that are finite; of samples: the sum of their variances, weighted by elements."""

    count: float = 0.0
    first: float = 0.0
    second: float = 0.0
    samples: float = 0.0

    def add(self, tensor: torch.Tensor) -> None:
        values = tensor.detach().double()
        flat = values.reshape(values.shape[0], -1)[:, :_FEATURES] if values.ndim > 1 else values[:, None]
        values = values[values.isfinite()]
        if not values.numel():
            return
        self.count += values.numel()
        self.first += float(values.sum())
        self.second += float(values.square().sum())
        spread = float(flat.var(0, correction=0).mean())
        self.samples += values.numel() * (spread if math.isfinite(spread) else 0.0)

    def to_dict(self) -> dict[str, float]:
        """mean, rms, and the variance over samples, averaged over features."""
        count = max(self.count, 1.0)
        mean, rms = self.first / count, math.sqrt(self.second / count)
        return {"mean": mean, "rms": rms, "sample_var": self.samples / count, "count": self.count}


@dataclass
class _Evaluation:
    """Between two steps. sites: by number. losses: by what they are called, the sum and how many."""

    step: int
    passes: int = 0
    sites: dict[int, _Sums] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=dict)


class Evaluations:
    """Follows passes in evaluation mode of models that have been trained: their inputs, what their last layer puts out,
    and the losses that are computed of it by modules. Nothing of it is waited for within a step.

    follows: whether no pass of training has begun since.
    """

    def __init__(self, sites: Sites, recorder: Recorder) -> None:
        self._sites = sites
        self._recorder = recorder
        self.dropped: dict[int, float] = {}
        self._kept: list[_Evaluation] = []
        self._last: dict[int, tuple[int, nn.Module | None, int]] = {}
        self._module: nn.Module | None = None
        self._root, self._path = 0, ""
        self.follows = False
        self._loss: tuple[nn.Module, str] | None = None

    def see_call(self, func: Any, kwargs: dict[str, Any]) -> None:
        """A function is called in an evaluation pass: one that drops there is remembered, unless it was told to.

        `F.dropout(x)` drops in any mode. Where `training` is written in the call, as modules do, it is meant.
        """
        name = getattr(func, "__name__", "")
        share = 0.0
        if name == "dropout" and kwargs.get("training") and not _is_told():
            share = float(kwargs.get("p", 0.5))
        elif name == "scaled_dot_product_attention":
            share = float(kwargs.get("dropout_p", 0.0))
        if share > 0:
            self.dropped[self._root] = max(self.dropped.get(self._root, 0.0), share)

    @property
    def is_open(self) -> bool:
        """Whether a pass, or a loss, is being looked at."""
        return self._module is not None or self._loss is not None

    def begin(self, module: nn.Module, root: int, path: str, args: tuple[Any, ...]) -> None:
        """An outermost module of a watched model is called for evaluation."""
        now = self._now()
        self.follows = True
        if now.passes >= _BATCHES:
            return
        now.passes += 1
        self._module, self._root, self._path = module, root, path
        self._see_inputs(args, {})

    def expect_loss(self, module: nn.Module) -> None:
        """A loss module is called; it counts where it is a mean and judges what was just evaluated."""
        op = next((op for kind, op in _LOSSES.items() if isinstance(module, kind)), None) if self.follows else None
        if op is None or getattr(module, "reduction", "") != "mean":
            return
        if self._kept and self._kept[-1].step == self._recorder.step:
            self._loss = module, op

    def leave(self, module: nn.Module, kwargs: dict[str, Any], output: Any) -> None:
        """A module has been called: the last layer, the outermost one, the loss, or any other."""
        if self._loss is not None and module is self._loss[0]:
            self._see_loss(self._loss[1], output)
            self._loss = None
            return
        layer, site = self._last_layer(self._root)
        if module is layer:
            for _, tensor in list(find_tensors(output))[:1]:
                self._add(site, tensor)
        if module is self._module:
            self._module = None
            self._see_inputs((), kwargs)
            loss = getattr(output, "loss", None)  # as models of transformers return it
            if isinstance(loss, torch.Tensor):
                self._see_loss("cross_entropy", loss)

    def abandon(self) -> None:
        """A pass has been left by an exception."""
        self._module = self._loss = None

    def drop(self) -> None:
        """What was seen since the last step was no evaluation."""
        if self._kept and self._kept[-1].step == self._recorder.step:
            del self._kept[-1]

    def entries(self) -> list[dict[str, Any]]:
        """For the coverage: by evaluation, after which step, what was seen of each site, and the mean of each loss."""
        name, table = self._sites.name, self._sites.table
        return [
            {
                "step": one.step,
                "sites": {name(table[site]): sums.to_dict() for site, sums in one.sites.items()},
                "losses": {op: total / count for op, (total, count) in one.losses.items() if count},
            }
            for one in self._kept
        ]

    def _now(self) -> _Evaluation:
        if not self._kept or self._kept[-1].step != self._recorder.step:
            self._kept.append(_Evaluation(self._recorder.step))
            if len(self._kept) > _MOST:
                del self._kept[_FIRST]
        return self._kept[-1]

    def _see_inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for suffix, tensor in find_inputs(args, kwargs):
            site = self._sites.get(self._root, self._path, suffix)
            if site is not None:
                self._add(site, tensor)

    def _add(self, site: int, tensor: torch.Tensor) -> None:
        if is_measurable(tensor) and tensor.ndim and tensor.numel() and not tensor.is_complex():
            with torch._C.DisableTorchFunction(), torch.no_grad():
                self._kept[-1].sites.setdefault(site, _Sums()).add(tensor)

    def _see_loss(self, op: str, value: Any) -> None:
        if isinstance(value, torch.Tensor) and is_measurable(value) and value.numel() == 1:
            number = float(value.detach())
            sums = self._kept[-1].losses.setdefault(op, [0.0, 0.0])
            if math.isfinite(number):
                sums[0] += number
                sums[1] += 1

    def _last_layer(self, root: int) -> tuple[nn.Module | None, int]:
        """The module that is a model's last layer, as far as training has shown, and its site."""
        known = self._last.get(root)
        if known is not None and known[0] == len(self._sites.table):
            return known[1:]
        layers = [
            (site.order, index)
            for index, site in enumerate(self._sites.table)
            if site.root == root and site.role in ("layer", "recurrent") and not site.suffix and site.order >= 0
        ]
        module, index = None, -1
        if layers:
            index = max(layers)[1]
            try:
                module = self._sites.roots[root].model.get_submodule(self._sites.table[index].owner)
            except (AttributeError, RuntimeError):
                module = None
        self._last[root] = len(self._sites.table), module, index
        return module, index


def _is_told() -> bool:
    """Whether the call of `dropout` that is under way names `training`, in the line that makes it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not torch.nn.functional.dropout.__code__:
        frame = frame.f_back
    caller = None if frame is None else frame.f_back
    return caller is None or "training" in linecache.getline(caller.f_code.co_filename, caller.f_lineno)
