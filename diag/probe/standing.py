"""Networks that are called beside those that are trained: whether a copy that is to follow one, as the target network
of Q-learning or an average of the weights, ever does, and whether a teacher has been taught."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from diag.probe.drawn import is_as_drawn
from diag.probe.variables import callers, variables

_FOLLOWS = re.compile(
    r"_?(?:\w+_)?(?:target|targets|tgt|targ|ema|shadow|momentum|averaged?|avg|polyak)(?:_?(?:net|network|model|q|critic"
    r"|actor|policy|encoder|online|\w+))?",
    re.IGNORECASE,
)
"""Names of what is to follow; a reference of RLHF, or a teacher, may well stand still."""
_TEACHES = re.compile(r"_?(?:\w+_)?teachers?(?:_\w+)?", re.IGNORECASE)
"""Names of what is to know something."""
_PARAMETERS, _ELEMENTS = 8, 16
"""Of a network, how many parameters are looked at, and of each, how many elements."""
_LAGS = 0.1
"""Of the way that a network has come, what its average has come."""
_CALLERS = 3
"""Functions around a call in which its name is looked for."""


@dataclass
class _Known:
    """A network by the numbers that it held when it was seen first; is_drawn: whether these were as drawn at random, of
    a teacher; moved: whether any has changed since; again: from which step on it is looked at again; ways: what it held
    then, and what a network did that it may be to follow, by its identity."""

    module: weakref.ref[nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    numbers: Tensor
    name: str = ""
    first: int = 0
    last: int = 0
    calls: int = 0
    is_drawn: bool = False
    moved: Tensor | bool = field(default=False)
    again: int = 0
    ways: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """For the coverage."""
        return {name: getattr(self, name) for name in ("name", "calls", "first", "last")}


class Standing:
    """Remembers what trained networks were at their first pass, and what stands beside them."""

    def __init__(self) -> None:
        self._trained: dict[int, _Known] = {}
        self._beside: dict[int, _Known | None] = {}

    def see_trained(self, module: nn.Module) -> None:
        """A pass of training begins."""
        if id(module) not in self._trained:
            known = _known(module)
            if known is not None:
                self._trained[id(module)] = known

    def see_beside(self, module: nn.Module, step: int) -> None:
        """A network is called without a graph, in this step."""
        if id(module) in self._trained:
            return
        if id(module) not in self._beside:
            name = _name_of(module)
            self._beside[id(module)] = _known(module) if name else None
            known = self._beside[id(module)]
            if known is not None:
                known.name, known.first = name, step
                known.is_drawn = bool(_TEACHES.fullmatch(name)) and is_as_drawn(module)
        known = self._beside[id(module)]
        if known is None or known.module() is not module:
            return
        known.calls += 1
        if known.calls == 1 or step > known.last:
            known.last = step
            if step >= known.again:
                self._see_way(known, module, step)
            if known.moved is True:
                return
            differs = (_numbers(module) != known.numbers).any()
            known.moved = bool(differs) if differs.is_cpu else differs | known.moved

    def entries(self, names: dict[int, str]) -> list[dict[str, Any]]:
        """Those that were a copy of a trained network, by its name, and are what they were. names: by identity."""
        found = []
        for known in self._still():
            like = [key for key, one in self._trained.items() if _is_same(one, known)]
            if like and not _TEACHES.fullmatch(known.name):
                found.append({"of": names.get(like[0], ""), **known.told()})
        return found

    def lagging(self, names: dict[int, str]) -> list[dict[str, Any]]:
        """Those that were still next to where a trained network began, for the way that it had come: an average that
        hardly takes in what is new."""
        found = []
        for known in self._beside.values():
            if known is None or not bool(known.moved) or _TEACHES.fullmatch(known.name):
                continue
            for key, (own, trained) in known.ways.items():
                begun = self._trained[key].numbers
                way = float((trained - begun).norm())
                share = float((own - begun).norm()) / way if way > 0 else 1.0
                if share < _LAGS:
                    found.append({"of": names.get(key, ""), "share": share, **known.told()})
                    break
        return found

    def _see_way(self, known: _Known, module: nn.Module, step: int) -> None:
        """Remember, seldom, what a network holds, and what those hold that it may be to follow."""
        known.again = step + step // 4 + 1
        now = _numbers(module)
        for key, one in self._trained.items():
            trained = one.module()
            if trained is not None and one.shapes == known.shapes and one.numbers.device == now.device:
                known.ways[key] = now, _numbers(trained)

    def untaught(self) -> list[dict[str, Any]]:
        """Teachers that are as they were drawn at random."""
        return [known.told() for known in self._still() if known.is_drawn]

    def _still(self) -> Iterator[_Known]:
        return (one for one in self._beside.values() if one is not None and not bool(one.moved))


def _known(module: nn.Module) -> _Known | None:
    if any(map(is_lazy, module.parameters())):  # it is yet to be drawn
        return None
    parameters = [one for one in module.parameters() if type(one) in (nn.Parameter, Tensor) and one.numel()]
    if not parameters or any(one.is_complex() or one.is_meta or one.layout != torch.strided for one in parameters):
        return None
    shapes = tuple(tuple(one.shape) for one in parameters)
    return _Known(weakref.ref(module), shapes, _numbers(module))


def _numbers(module: nn.Module) -> Tensor:
    """Some elements of some parameters, the last ones included."""
    parameters = list(module.parameters())
    stride = -(-len(parameters) // _PARAMETERS)
    chosen = parameters[::-stride]
    with torch.no_grad():
        parts = [one.detach().reshape(-1)[-_ELEMENTS:].float().to(chosen[0].device) for one in chosen]
        return torch.cat(parts)


def _is_same(one: _Known, other: _Known) -> bool:
    alike = one.shapes == other.shapes and one.numbers.device == other.numbers.device
    return alike and torch.equal(one.numbers, other.numbers)


def _name_of(module: nn.Module) -> str:
    """By which name that says so it is called: a variable's, or an attribute's."""
    names = _names_of(module)
    return next((name for name in names if _FOLLOWS.fullmatch(name) or _TEACHES.fullmatch(name)), "")


def _names_of(module: nn.Module) -> Iterator[str]:
    for _, frame in zip(range(_CALLERS), callers(), strict=False):
        code = frame.f_code
        names = list(dict.fromkeys((*code.co_varnames, *code.co_freevars, *code.co_names)))
        for name, value in zip(names, variables(frame, names), strict=True):
            if value is module:
                yield name
            elif name == "self" or not isinstance(value, (nn.Module, type, ModuleType)):
                held = {**getattr(value, "__dict__", {}), **(value._modules if isinstance(value, nn.Module) else {})}
                yield from (own for own, one in held.items() if one is module)
