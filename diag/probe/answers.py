"""How a model answers when it is tested: which samples a classifier tells right, and how well numbers fit theirs."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from diag.probe.pairing import FEWEST, score_of_classes, score_of_numbers, thinned
from diag.probe.tensors import find_tensors, is_measurable
from diag.probe.variables import callers
from diag.probe.wanted import Wanted, wanted

_PASSES = 64
"""After one step, that are looked at."""
_FIRST, _MOST = 8, 40
"""Tests of one model by one line that are kept: so many, the first ones and the last."""
_PLACES = 1000
"""Lines that train, that are known at once."""
_LARGE = 2**22
"""Numbers of a batch that are looked at: an even part of its samples."""
_TENSORS = 4
"""Of several that a model puts out."""
_SCORED = 512
"""Samples of a batch whose pairs are scored."""


@dataclass
class Test:
    """Of one model between two steps, by one line of the script.

    columns: classes, or numbers of a sample. score: the sum over batches of the scores of their pairs. Of labels:
    samples by their label, those that are told right, and the sum of their cross-entropies. Of numbers: how many
    samples, and the sums of squared errors and of squared deviations.
    """

    step: int
    columns: int = 0
    passes: int = 0
    right: int = 0
    loss: float = 0.0
    labels: Counter[int] = field(default_factory=Counter)
    samples: int = 0
    batches: int = 0
    score: float = 0.0
    error: float = 0.0
    spread: float = 0.0

    def add_labels(self, logits: Tensor, labels: Tensor) -> None:
        """More samples of a classifier."""
        self.columns = logits.shape[1]
        self.right += int((_told(logits) == labels).sum())
        self.loss += _cross_entropy(logits, labels)
        self.labels.update(labels.tolist())
        if len(labels) >= FEWEST:
            column = logits.shape[1] == 1
            one = score_of_numbers(logits, labels[:, None].double(), _SCORED) if column else None
            self._add_score(score_of_classes(logits, labels, _SCORED) if one is None else one)

    def add_numbers(self, given: Tensor, target: Tensor) -> None:
        """More samples of numbers: the deviation is that of the batch, as if of more samples."""
        count = len(given)
        self.columns = given.numel() // count
        deviation = target - target.mean(0)
        self.samples += count
        self.error += float((given - target).square().sum())
        self.spread += float(deviation.square().sum()) * count / (count - 1)
        self._add_score(score_of_numbers(given, target, _SCORED))

    def _add_score(self, score: Tensor) -> None:
        self.batches += 1
        self.score += float(score)

    def to_dict(self) -> dict[str, Any] | None:
        """For the coverage; None where nothing could be told."""
        told: dict[str, Any] = {"columns": self.columns, "samples": self.samples or self.labels.total()}
        if self.batches:
            told |= {"batches": self.batches, "z": self.score / self.batches**0.5}
        if self.labels:
            counts = {str(label): count for label, count in sorted(self.labels.items())}
            return {**told, "right": self.right, "labels": counts, "loss": self.loss / told["samples"]}
        return {**told, "error": self.error, "spread": self.spread} if self.batches else None


class Answers:
    """Looks, when a trained model is called without training, for what is wanted of it among what is named by the
    statement that calls it, and by those that follow.

    Nothing is told where there is nothing, or several things that differ.
    """

    def __init__(self) -> None:
        self._tests: dict[tuple[int, Any], list[Test]] = {}
        self._training: set[tuple[int, Any]] = set()
        self.doubts = False
        self._module: nn.Module | None = None
        self._root = 0
        self._given: list[weakref.ref[Tensor]] = []

    def doubt(self, module: nn.Module, root: int, args: tuple[Any, ...], *, trained: bool) -> None:
        """A model is called in training mode and with a graph. trained: whether it has taken a step before: then a line
        that was not there until now may be a test that is not told to be one.
        """
        self.doubts, self._module = False, None
        caller = next(callers(), None)
        place = None if caller is None else (root, _place(caller))
        if place is None or place in self._training or len(self._training) >= _PLACES:
            return
        if trained:
            self.expect(module, root, args)
            self.doubts = True
        else:
            self._training.add(place)

    def see_doubted(self, module: nn.Module, step: int, kwargs: dict[str, Any], output: Any) -> None:
        """Such a pass has ended. Where a backward pass comes by, it was one of training."""
        self.doubts = False
        key = self.see(module, step, kwargs, output)
        graded = [one for one in _put_out(output) if one.requires_grad] if key is not None else []

        def trains(gradient: Tensor) -> None:
            if key is not None and key not in self._training:
                self._training.add(key)
                self._tests.pop(key, None)

        for one in graded:
            one.register_hook(trains)

    def expect(self, module: nn.Module, root: int, args: tuple[Any, ...]) -> None:
        """A model is called: what it is given is not wanted of it."""
        self._module, self._root = module, root
        self._given = [weakref.ref(one) for one in _tensors(args)]

    def see(self, module: nn.Module, step: int, kwargs: dict[str, Any], output: Any) -> tuple[int, Any] | None:
        """A module has been called, perhaps the model: where this was, if it is looked at."""
        if module is not self._module:
            return None
        self._module = None
        given = [one for ref in self._given if (one := ref()) is not None]
        given += _tensors(list(kwargs.values()))
        outputs = _put_out(output)
        caller = next(callers(), None)
        if not outputs or caller is None:
            return None
        key = self._root, _place(caller)
        test = self._test(key, step)
        test.passes += 1
        if test.passes > _PASSES:
            return None
        with torch._C.DisableTorchFunction(), torch.no_grad():
            pairs = [(one, wanted(caller, one, kwargs, module, given)) for one in outputs]
            found = [(one, what) for one, what in pairs if what is not None]
            if len(found) == 1:  # of several outputs it is not known which is meant
                _add(test, found[0][0].detach().cpu(), found[0][1])
        return key

    def entries(self, models: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """For the coverage, by model: of each test by which line it is (a number), the samples; how many are told right
        and have each label, and the mean cross-entropy of outputs that are taken for logits; or how numbers fit."""
        told: dict[str, list[dict[str, Any]]] = {}
        for line, ((root, _), kept) in enumerate(self._tests.items()):
            for test in kept:
                one = test.to_dict()
                if one is not None:
                    told.setdefault(models[root], []).append({"line": line, "step": test.step, **one})
        return told

    def _test(self, key: tuple[int, Any], step: int) -> Test:
        kept = self._tests.setdefault(key, [])
        if not kept or kept[-1].step != step:
            kept.append(Test(step))
            if len(kept) > _MOST:
                del kept[_FIRST]
        return kept[-1]


def _add(test: Test, output: Tensor, found: Wanted) -> None:
    values = found.values
    if found.labels:
        output = (output if output.ndim > 1 else output[:, None]).flatten(0, -2)[found.rows]
    most = max(FEWEST, _LARGE // max(output[:1].numel(), 1))
    output, values = thinned(output, most).double(), thinned(values, most)
    if found.labels:
        test.add_labels(output, values)
    elif len(output) >= FEWEST:
        test.add_numbers(output, values)


def _tensors(values: Any) -> Iterator[Tensor]:
    for one in values:
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, (list, tuple, dict)):
            yield from _tensors(one.values() if isinstance(one, dict) else one)


def _put_out(output: Any) -> list[Tensor]:
    """The tensors that may be judged: the only one, the logits, or the first ones of several."""
    output = getattr(output, "logits", output)  # as models of transformers return it
    several = isinstance(output, (tuple, list))
    tensors = [one for _, one in find_tensors(output) if one.ndim > 1][:_TENSORS] if several else [output]
    return [one for one in tensors if _may_be_judged(one)]


def _may_be_judged(output: Any) -> bool:
    plain = type(output) is Tensor and output.is_floating_point()
    return plain and output.ndim > 0 and output.numel() > 0 and is_measurable(output)


def _told(logits: Tensor) -> Tensor:
    """The class of each sample: the largest, or of a single number, which may be a probability, above even."""
    if logits.shape[1] > 1:
        return logits.argmax(1)
    even = 0.5 if bool(((logits >= 0) & (logits <= 1)).all()) else 0.0
    return (logits[:, 0] > even).long()


def _cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """The sum of all samples'."""
    if logits.shape[1] > 1:
        return float(functional.cross_entropy(logits, labels, reduction="sum"))
    return float(functional.binary_cross_entropy_with_logits(logits[:, 0], labels.double(), reduction="sum"))


def _place(frame: FrameType) -> tuple[Any, ...]:
    """Where a model is called, and where what calls it was called."""
    above = frame.f_back
    return frame.f_code, frame.f_lineno, above and above.f_code, above and above.f_lineno
