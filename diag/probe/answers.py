"""Which samples a classifier tells right when it is tested: by the labels that stand beside the call of the model."""

from __future__ import annotations

import ast
import functools
import linecache
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from diag.probe.tensors import is_measurable
from diag.probe.variables import callers, variables

_PASSES = 64
"""After one step, that are looked at."""
_FIRST, _MOST = 8, 40
"""Tests of one model by one line that are kept: so many, the first ones and the last."""
_FOLLOWING = 4
"""Statements after the call in which labels are looked for."""
_IGNORED = -100
"""The label of a position that is to be ignored."""
_TAKEN = 8
"""Entries of a batch that are looked into."""


@dataclass
class Test:
    """Of one model between two steps, by one line of the script: samples by their label, those that are told right, and
    the sum of their cross-entropies."""

    step: int
    passes: int = 0
    right: int = 0
    loss: float = 0.0
    labels: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True)
class Name:
    """A variable, or an attribute of it, as it stands in a statement. inverted: by `~`, as a mask is."""

    name: str
    attribute: str
    inverted: bool


class Answers:
    """Looks, when a trained model is called without training, for its labels among the names of the statement that
    calls it, and of those that follow: integers, one for each sample, each the number of a class.

    Nothing is told where there are none, or several that differ.
    """

    def __init__(self) -> None:
        self._tests: dict[tuple[int, Any], list[Test]] = {}
        self._module: nn.Module | None = None
        self._root = 0
        self._given: list[int] = []

    def expect(self, module: nn.Module, root: int, args: tuple[Any, ...]) -> None:
        """A model is called: what it is given is no label."""
        self._module, self._root = module, root
        self._given = [id(one) for one in args]

    def see(self, module: nn.Module, step: int, kwargs: dict[str, Any], output: Any) -> None:
        """A module has been called, perhaps the model."""
        if module is not self._module:
            return
        self._module = None
        self._given += [id(one) for one in kwargs.values()]
        logits = getattr(output, "logits", output)  # as models of transformers return it
        if type(logits) is not torch.Tensor or logits.ndim not in (2, 3) or not logits.is_floating_point():
            return
        if not is_measurable(logits) or not logits.numel():
            return
        caller = next(callers(), None)
        if caller is None:
            return
        kept = self._tests.setdefault((self._root, _place(caller)), [])
        if not kept or kept[-1].step != step:
            kept.append(Test(step))
            if len(kept) > _MOST:
                del kept[_FIRST]
        test = kept[-1]
        test.passes += 1
        if test.passes > _PASSES:
            return
        with torch._C.DisableTorchFunction(), torch.no_grad():
            found = _labels(caller, logits.shape, given=self._given)
            if found is not None:
                labels, rows = found
                logits = logits.detach().cpu().double().flatten(0, -2)[rows]
                test.right += int((_told(logits) == labels).sum())
                test.loss += _cross_entropy(logits, labels)
                test.labels.update(labels.tolist())

    def entries(self, models: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """For the coverage, by model: of each test by which line it is (a number), the samples, how many are told right
        and have each label, and the mean cross-entropy of outputs that are taken for logits."""
        told: dict[str, list[dict[str, Any]]] = {}
        for line, ((root, _), kept) in enumerate(self._tests.items()):
            for test in kept:
                if test.labels:
                    samples = test.labels.total()
                    one = {"line": line, "step": test.step, "samples": samples, "right": test.right}
                    counts = {str(label): count for label, count in sorted(test.labels.items())}
                    told.setdefault(models[root], []).append({**one, "labels": counts, "loss": test.loss / samples})
        return told


def _told(logits: torch.Tensor) -> torch.Tensor:
    """The class of each sample: the largest, or of a single number, which may be a probability, above even."""
    if logits.shape[1] > 1:
        return logits.argmax(1)
    even = 0.5 if bool(((logits >= 0) & (logits <= 1)).all()) else 0.0
    return (logits[:, 0] > even).long()


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The sum of all samples'."""
    if logits.shape[1] > 1:
        return float(functional.cross_entropy(logits, labels, reduction="sum"))
    return float(functional.binary_cross_entropy_with_logits(logits[:, 0], labels.double(), reduction="sum"))


def _place(frame: FrameType) -> tuple[Any, ...]:
    """Where a model is called, and where what calls it was called."""
    above = frame.f_back
    return frame.f_code, frame.f_lineno, above and above.f_code, above and above.f_lineno


def _labels(frame: FrameType, shape: torch.Size, *, given: list[int]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The labels of the samples, or of their positions, for logits of this shape, and which of them they are of, if
    that can be told: all, or those of a mask, but for those to be ignored."""
    found: list[torch.Tensor] = []
    masks: list[torch.Tensor] = []
    for names in _names(frame.f_code.co_filename, frame.f_lineno):
        for value, name in zip(_values(frame, names), names, strict=True):
            for one in _entries(value):
                labels = None if id(one) in given else _as_labels(one, shape)
                if labels is None:
                    continue
                if shape[-1] > 2 and one.dtype in (torch.bool, np.bool_):
                    masks.append(labels.bool() ^ name.inverted)
                else:
                    found.append(labels)
        if found:
            break
    if any(not torch.equal(group[0], one) for group in (found, masks) for one in group[1:]) or not found:
        return None
    rows = (masks[0] if masks else torch.ones_like(found[0], dtype=torch.bool)) & (found[0] != _IGNORED)
    return found[0][rows], rows


def _values(frame: FrameType, names: Sequence[Name]) -> list[Any]:
    """What stands behind these names."""
    pairs = zip(variables(frame, [one.name for one in names]), names, strict=True)
    return [_attribute(value, one.attribute) if one.attribute else value for value, one in pairs]


def _attribute(owner: Any, name: str) -> Any:
    """What an object holds by this name, itself or in a mapping that it has; no property of it is run."""
    held = getattr(owner, "__dict__", {}) if not isinstance(owner, (torch.Tensor, type)) else {}
    if name in held:
        return held[name]
    return next((one[name] for one in held.values() if isinstance(one, Mapping) and name in one), None)


def _entries(value: Any) -> Iterator[Any]:
    """A variable itself, or what a batch holds."""
    if isinstance(value, dict):
        yield from list(value.values())[:_TAKEN]
    elif isinstance(value, (tuple, list)):
        yield from value[:_TAKEN]
    else:
        yield value


def _as_labels(value: Any, shape: torch.Size) -> torch.Tensor | None:
    """The numbers of classes that a value holds, one for each sample or position; of two classes they may be zeros and
    ones of any kind."""
    places, classes = shape[:-1], shape[-1]
    shapes = {tuple(places), (*places, 1)} if len(places) == 1 else {tuple(places)}
    if type(value) not in (torch.Tensor, np.ndarray) or tuple(value.shape) not in shapes:
        return None
    if type(value) is np.ndarray:
        value = torch.from_numpy(value.copy()) if value.dtype.kind in "biuf" else None
    if value is None or not is_measurable(value) or value.is_complex():
        return None
    if value.is_floating_point() and classes != 1:
        return None
    numbers = value.detach().cpu().double().reshape(-1)
    asked = numbers[numbers != _IGNORED] if len(places) > 1 else numbers
    known = bool(((asked >= 0) & (asked < max(classes, 2)) & (asked == asked.round())).all())
    return numbers.long() if known else None


@functools.cache
def _names(path: str, line: int) -> tuple[tuple[Name, ...], ...]:
    """What the statement that holds a line of a file names, then what those do that follow it."""
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError):
        return ()
    block: list[ast.stmt] = tree.body
    following: list[ast.stmt] = []
    while True:
        at = next((i for i, one in enumerate(block) if one.lineno <= line <= (one.end_lineno or line)), None)
        if at is None:
            return ()
        defines = isinstance(block[at], (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        following = [] if defines else block[at + 1 :] + following
        inner = [body for body in _blocks(block[at]) if body[0].lineno <= line]
        if not inner:
            break
        block = inner[-1]
    return _read(block[at]), tuple(name for one in following[:_FOLLOWING] for name in _read(one))


def _blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    """The blocks of statements that a statement holds, in the order of the file."""
    named = (getattr(statement, name, None) for name in ("body", "handlers", "orelse", "finalbody"))
    found = [one for one in named if isinstance(one, list) and one]
    flat = [one.body if isinstance(one, ast.ExceptHandler) else None for block in found for one in block]
    return [one for one in found if isinstance(one[0], ast.stmt)] + [one for one in flat if one]


def _read(node: ast.AST) -> tuple[Name, ...]:
    """What is named in a statement, once where it is an attribute of something."""
    nodes = list(ast.walk(node))
    inverted = {id(one.operand) for one in nodes if isinstance(one, ast.UnaryOp) and isinstance(one.op, ast.Invert)}
    owned = {one.value: one for one in nodes if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name)}
    found = []
    for one in nodes:
        if isinstance(one, ast.Name):
            owner = owned.get(one)
            found.append(Name(one.id, owner.attr if owner else "", id(owner or one) in inverted))
    return tuple(found)
