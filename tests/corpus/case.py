"""One training set-up whose state is known, and how it came to be known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from diag.train.workload import Workload

Build = Callable[[], Workload]


@dataclass(frozen=True)
class Case:
    """A workload with a label.

    build: makes it anew, always the same. causes: empty for a healthy one; else the rules of which any, at error level,
    names a right cause. why: the ground of the label. twin: the same set-up without the fault. learns: whether plain
    training must lower the loss within some dozen steps. hard: no tool is expected to see it within 30 steps.
    family: of the model. fault, strength: of what was injected; a group and 0 for faults made by hand. roots: the rules
    that are fit to be the first finding; none for all causes.
    """

    name: str
    build: Build
    causes: frozenset[str]
    why: str
    twin: Build | None = None
    learns: bool = True
    hard: bool = False
    family: str = ""
    fault: str = ""
    strength: float = 0.0
    roots: frozenset[str] = frozenset()


def healthy(name: str, build: Build, why: str = "", learns: bool = True) -> Case:
    """A case in which any error-level finding is a false alarm."""
    return Case(name, seeded(build), frozenset(), why, learns=learns)


def faulty(name: str, build: Build, causes: str, why: str, twin: Build | None = None, hard: bool = False) -> Case:
    """A case with a planted fault. causes: rule names, separated by blanks."""
    return Case(name, seeded(build), frozenset(causes.split()), why, seeded(twin) if twin else None, False, hard)


def seeded(build: Build) -> Build:
    """The same builder, started from seed 0 whatever was drawn before."""

    def seeded_build() -> Workload:
        torch.manual_seed(0)
        return build()

    return seeded_build
