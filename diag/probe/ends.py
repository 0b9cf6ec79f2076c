"""What a value is to be where episodes end: the reward alone, or what is expected beyond it too."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from types import CodeType, FrameType
from typing import Any

import numpy as np
from torch import Tensor

from diag.probe.tensors import is_measurable
from diag.probe.variables import variables

_OF_NUMBERS = frozenset("MseLossBackward0 SmoothL1LossBackward0 HuberLossBackward0".split())
_DONE = re.compile(r"(?:\w+_)?(?:dones?|dns?|terminals?|terminated|finished)(?:_\w+)?|[dD]|[dD]n|Done")
_REWARD = re.compile(r"(?:\w+_)?(?:rewards?|rews?|rwds?)(?:_\w+)?|rs?|Rs?|rb|Reward")
_NOT = re.compile(r"(?:\w+_)?(?:not?|non|un)_?\w*")
_FEWEST, _LARGE, _VALUES = 4, 2**14, 4096
"""Samples of a batch that is looked at, from and to; values that are told apart of one reward."""
_SAMPLES, _REWARDS = 256, 256
"""Samples of a batch that are looked at, an even part of them; rewards that are told apart."""
_GROUP = 5
"""Samples of one reward of which something can be told."""
_CENTERED = 1e-3
"""Of the deviation, a mean of targets that were standardized."""


class Ends:
    """passes: those in which rewards and marks of an end stand beside the targets of a value. samples: of them, by
    mark: a mask may be 0 where an episode ends, or 1.
    """

    def __init__(self) -> None:
        self.passes = 0
        self.samples = [0, 0]
        self._targets: tuple[dict[float, Counter[float]], dict[float, Counter[float]]] = ({}, {})
        self._names = ("", "")

    def see(self, nodes: Sequence[Any], frame: FrameType) -> None:
        """Losses in the graph of what is differentiated, and where that is."""
        dones, rewards = _names(frame.f_code)
        if not dones or not rewards:
            return
        target = next((one for node in nodes if (one := _target_of(node)) is not None), None)
        if target is None:
            return
        done, ends = _first(frame, dones, len(target))
        reward, rewarded = _first(frame, rewards, len(target))
        if ends is None or rewarded is None:
            return
        if not bool(((ends == 0) | (ends == 1)).all()) or abs(target.mean()) <= _CENTERED * target.std():
            return
        self._names = done, reward
        self.passes += 1
        part = slice(None, None, -(-len(target) // _SAMPLES))
        for mark, own, value in zip(ends.astype(int)[part], rewarded[part], target[part], strict=True):
            self._count(mark, float(f"{own:.6g}"), float(f"{value:.5g}"))

    def _count(self, mark: int, reward: float, target: float) -> None:
        self.samples[mark] += 1
        by_reward = self._targets[mark]
        if reward not in by_reward and len(by_reward) >= _REWARDS:  # as where each is another one
            return
        known = by_reward.setdefault(reward, Counter())
        if len(known) < _VALUES:
            known[target] += 1

    def to_dict(self) -> dict[str, Any] | None:
        """For the coverage; None where no ends were seen. ended: samples with the mark that fewer have. told: of these,
        those whose reward others have too. kept: by mark, the share of those whose target is the commonest of their
        reward, as that of all ends is where nothing is expected beyond; the larger one."""
        if not min(self.samples):
            return None
        mark = int(self.samples[1] <= self.samples[0])
        groups = [[one for one in targets.values() if one.total() >= _GROUP] for targets in self._targets]
        told = [sum(one.total() for one in own) for own in groups]
        common = [sum(max(one.values()) for one in own) for own in groups]
        kept = max(count / max(of, 1) for count, of in zip(common, told, strict=True))
        return {
            "passes": self.passes,
            "samples": sum(self.samples),
            "ended": self.samples[mark],
            "told": told[mark],
            "kept": kept,
            "done": self._names[0],
            "reward": self._names[1],
        }


@functools.lru_cache(maxsize=64)
def _names(code: CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of the variables of a function those that tell of ends, and those that are called rewards."""
    names = tuple(dict.fromkeys((*code.co_varnames, *code.co_names, *code.co_freevars)))
    dones = tuple(one for one in names if _DONE.fullmatch(one) and not _NOT.fullmatch(one))
    return dones, tuple(one for one in names if _REWARD.fullmatch(one))


def _first(frame: FrameType, names: tuple[str, ...], count: int) -> tuple[str, np.ndarray | None]:
    """The first of these variables that holds that many numbers, and these."""
    for name, value in zip(names, variables(frame, names), strict=True):
        numbers = _numbers(value, count)
        if numbers is not None:
            return name, numbers
    return "", None


def _target_of(node: Any) -> np.ndarray | None:
    """The targets of a loss of numbers, one for each sample."""
    target = node._saved_target if node.name() in _OF_NUMBERS else None
    if target is None or not target.is_cpu or not _FEWEST <= target.numel() <= _LARGE or target.numel() != len(target):
        return None
    values: np.ndarray = target.detach().reshape(-1).double().numpy()
    return values if np.isfinite(values).all() else None


def _numbers(value: Any, count: int) -> np.ndarray | None:
    """What a variable holds, if it is that many numbers."""
    if isinstance(value, Tensor):
        if not is_measurable(value) or not value.is_cpu or value.numel() != count or value.is_complex():
            return None
        return value.detach().reshape(-1).double().numpy()
    if isinstance(value, np.ndarray):
        return value.reshape(-1).astype(float) if value.size == count and value.dtype.kind in "biuf" else None
    if type(value) not in (list, tuple) or len(value) != count:
        return None
    if not all(isinstance(one, (bool, int, float, np.number, np.bool_)) for one in value):
        return None
    return np.array(value, dtype=float)
