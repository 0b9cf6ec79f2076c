"""What a test wants a model to put out: the labels, or numbers, that stand beside the call of the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from diag.probe.named import Named, callee_of, named, value_of
from diag.probe.tensors import is_measurable

_IGNORED = -100
"""The label of a position that is to be ignored."""
_TAKEN = 8
"""Entries of a batch that are looked into."""
_LABELS = ("labels", "label", "targets", "target")
"""What models that compute their own loss are given, by name."""


class Wanted(NamedTuple):
    """labels: numbers of classes; otherwise numbers of the output's own kind, of its shape. rows: of which samples, or
    of which positions."""

    values: Tensor
    rows: Tensor
    labels: bool


def wanted(
    frame: FrameType,
    output: Tensor,
    kwargs: Mapping[str, Any],
    module: nn.Module,
    given: Sequence[Tensor],
) -> Wanted | None:
    """What is wanted of a model's output, if that can be told: of all samples, or of those of a mask, but for those to
    be ignored. None where there is nothing, or several things that differ.

    frame: where it is called. kwargs: what it is given by name. given: all tensors that it is given, which are not
    wanted of it.
    """
    for name in _LABELS:
        told = _as_labels(kwargs.get(name), output.shape)
        if told is not None:
            others = list(given)
            # One and the same tensor may be given twice: as labels, and as what they are labels of.
            others.pop(next((place for place, one in enumerate(given) if one is kwargs[name]), len(given) - 1))
            return None if _is_repeated(told, others) else _of_labels([told], [])
    looked = _Looked(frame, output, module, given)
    for statement in named(frame.f_code.co_filename, frame.f_lineno):
        for one in statement:
            if not looked.see(one) and one.parts is not None and looked.see(one.parts[0]):
                looked.see_place(one.parts[1])
        if looked.labels or looked.numbers:
            break
    if looked.labels:
        return _of_labels(looked.labels, looked.masks)
    numbers = looked.numbers
    if not numbers or any(not torch.equal(numbers[0], one) for one in numbers[1:]):
        return None
    return Wanted(numbers[0], torch.ones(len(output), dtype=torch.bool), labels=False)


class _Looked:
    """What was found among what is named: labels, masks of samples, and numbers."""

    def __init__(self, frame: FrameType, output: Tensor, module: nn.Module, given: Sequence[Tensor]) -> None:
        self._frame, self._output, self._module, self._given = frame, output, module, given
        self.labels: list[Tensor] = []
        self.masks: list[Tensor] = []
        self.numbers: list[Tensor] = []

    def see(self, one: Named) -> bool:
        """Whether it is anything that may be wanted."""
        if _is_argument(callee_of(one, self._frame), self._module):
            return True
        found = False
        for value in _entries(value_of(one, self._frame)):
            if any(_is_same(value, one) for one in self._given):
                found = True
                continue
            told = _as_labels(value, self._output.shape)
            if told is None:
                numbers = _as_numbers(value, self._output)
                self.numbers += numbers
                found = found or bool(numbers)
                continue
            found = True
            if self._output.shape[-1] > 2 and value.dtype in (torch.bool, np.bool_):
                self.masks.append(told.bool() ^ one.inverted)
            else:
                self.labels.append(told)
        return found

    def see_place(self, one: Named) -> None:
        """Which of all samples are tested: a mask, or their numbers."""
        place = _as_tensor(value_of(one, self._frame))
        count = math.prod(self._output.shape[:-1])
        if place is None or place.ndim != 1:
            return
        if place.dtype == torch.bool and len(place) == count:
            self.masks.append(place ^ one.inverted)
        elif not place.is_floating_point() and len(place) and 0 <= int(place.min()) <= int(place.max()) < count:
            self.masks.append(torch.zeros(count, dtype=torch.bool).index_fill(0, place.long(), True))


def _is_repeated(labels: Tensor, others: Sequence[Tensor]) -> bool:
    """Whether the model is given the same numbers for another purpose: it shifts them itself, to tell what follows."""
    asked = labels != _IGNORED
    return any(
        one.numel() == len(labels) and torch.equal(one.detach().cpu().reshape(-1)[asked], labels[asked])
        for one in others
    )


def _is_same(value: Any, other: Tensor) -> bool:
    """Whether it is this tensor, or another of the same numbers."""
    if value is other or not isinstance(value, Tensor):
        return value is other
    alike = (value.shape, value.dtype, value.device) == (other.shape, other.dtype, other.device)
    return alike and is_measurable(other) and torch.equal(value, other)


def _of_labels(labels: list[Tensor], masks: list[Tensor]) -> Wanted | None:
    if any(not torch.equal(group[0], one) for group in (labels, masks) for one in group[1:]):
        return None
    rows = (masks[0] if masks else torch.ones_like(labels[0], dtype=torch.bool)) & (labels[0] != _IGNORED)
    return Wanted(labels[0][rows], rows, labels=True)


def _is_argument(callee: Any, module: nn.Module) -> bool:
    """Whether it is the model that is called with it, or what wraps the model."""
    return callee is module or (isinstance(callee, nn.Module) and any(one is module for one in callee.modules()))


def _entries(value: Any) -> Iterator[Any]:
    """A variable itself, or what a batch holds."""
    if isinstance(value, dict):
        yield from list(value.values())[:_TAKEN]
    elif isinstance(value, (tuple, list)):
        yield from value[:_TAKEN]
    else:
        yield value


def _as_tensor(value: Any) -> Tensor | None:
    """On the processor, if it holds numbers that are no complex ones."""
    if type(value) is np.ndarray:
        value = torch.from_numpy(value.copy()) if value.dtype.kind in "biuf" else None
    if type(value) is not Tensor or not is_measurable(value) or value.is_complex():
        return None
    return value.detach().cpu()


def _as_labels(value: Any, shape: torch.Size) -> Tensor | None:
    """The numbers of classes that a value holds, one for each sample or position; of two classes they may be zeros and
    ones of any kind."""
    places, classes = shape[:-1], shape[-1]
    if len(shape) == 1:
        places, classes = shape, 1
    shapes = {tuple(places), (*places, 1)} if len(places) == 1 else {tuple(places)}
    if len(shape) > 3 or type(value) not in (Tensor, np.ndarray) or tuple(value.shape) not in shapes:
        return None
    tensor = _as_tensor(value)
    if tensor is None or (tensor.is_floating_point() and classes != 1):
        return None
    numbers = tensor.double().reshape(-1)
    asked = numbers[numbers != _IGNORED] if len(places) > 1 else numbers
    known = bool(((asked >= 0) & (asked < max(classes, 2)) & (asked == asked.round())).all())
    return numbers.long() if known else None


def _as_numbers(value: Any, output: Tensor) -> list[Tensor]:
    """The numbers that a value holds, one for each of the output's."""
    if type(value) not in (Tensor, np.ndarray):
        return []
    if value.dtype in (torch.bool, np.bool_) and output.ndim < 2:
        return []
    alike = tuple(value.shape) == tuple(output.shape)
    if not alike and not (output.ndim <= 2 and output.numel() == len(output) == _count(value)):
        return []
    tensor = _as_tensor(value)
    return [] if tensor is None else [tensor.double().reshape(output.shape)]


def _count(value: Any) -> int:
    return int(value.numel() if isinstance(value, Tensor) else value.size)
