"""The set-ups that are not made by hand: families in their variations, and faults injected into them.

Which fault goes into which family is drawn once, by `draw`; the names then stand in `labels.json`.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Iterator

import torch

from tests.corpus import inject_data, inject_training, inject_weights
from tests.corpus.case import Build, Case, seeded
from tests.corpus.families import FAMILIES
from tests.corpus.inject import INJECTORS, NotApplicable, injected
from tests.corpus.labels import labels
from tests.corpus.split import FIT_BASES, ROUNDS

__all__ = ["draw", "drawn", "inject_data", "inject_training", "inject_weights", "varied"]
FAULTS, FAULTS_OF_LARGE = 6, 4
"""How many go into a family; into one that is slow."""
FAULTS_OF_BASES = 8
LARGE = frozenset("mobilenet-v2 convbert gpt-neo xlnet mamba fnet mpnet phi olmo linear-attention "
                  "big-transfer biogpt blenderbot convnext-v2 ernie focalnet gemma2 gpt-bigcode granite hubert levit "
                  "mpt patch-series pvt-v2 absorbing-diffusion megatron-bert olmo2 openai-gpt phi3 rembert segformer "
                  "siglip switch-transformers decision-transformer esm series-transformer spectrogram-transformer "
                  "starcoder2 topic-transformer".split())  # fmt: skip


def varied() -> list[Case]:
    """The healthy ones."""
    return [
        Case(f"{one.name}-{name}", seeded(build), frozenset(), "", learns=one.learns, family=one.name)
        for one in FAMILIES.values()
        for name, build in one.variants.items()
    ]


def _bases(by_hand: list[Case]) -> dict[str, Build]:
    known = {one.name: one.build for one in by_hand}
    bases = {name: known[name] for name in FIT_BASES}
    return bases | {one.name: seeded(one.variants["base"]) for one in FAMILIES.values() if one.learns}


def drawn(by_hand: list[Case]) -> list[Case]:
    """The faulty ones, as they stand in `labels.json`."""
    bases = _bases(by_hand)
    named = [name for name in labels() if "+" in name]
    return [_case(name, bases) for name in named if name.partition("+")[0] in bases]


def _case(name: str, bases: dict[str, Build]) -> Case:
    base, _, rest = name.partition("+")
    fault, _, strength = rest.partition("@")
    one, twin = INJECTORS[fault], bases[base]
    build = injected(twin, fault, float(strength))
    return Case(
        name, seeded_after(build), one.causes, one.why, twin, False, one.beyond, base, fault, float(strength), one.roots
    )


def seeded_after(build: Build) -> Build:
    """The same builder; what it draws to inject a fault comes from a seed too, and so does what follows."""
    return seeded(build)


def draw(by_hand: list[Case], part: str) -> Iterator[Case]:
    """Faults for every family of a round: those used least so far in it, at the strength used least."""
    bases = _bases(by_hand)
    used: Counter[str] = Counter()
    graded: Counter[tuple[str, float]] = Counter()
    for base in ROUNDS[part] if part == "fit" else sorted(ROUNDS[part]):
        if base not in bases:
            continue
        wanted = FAULTS_OF_BASES if part == "fit" else FAULTS_OF_LARGE if base in LARGE else FAULTS
        rng = random.Random(zlib.crc32(base.encode()))
        order = sorted(INJECTORS, key=lambda name: (used[name], rng.random()))
        for fault in order:
            strength = min(INJECTORS[fault].strengths, key=lambda one: (graded[fault, one], rng.random()))
            case = _case(f"{base}+{fault}@{strength:g}", bases)
            if not _applies(case):
                continue
            used[fault] += 1
            graded[fault, strength] += 1
            wanted -= 1
            yield case
            if not wanted:
                break


def _applies(case: Case) -> bool:
    """Whether the fault can be put in and a first step's gradient be taken."""
    try:
        workload = case.build()
        workload.loss(workload.model, next(iter(workload.batches))).backward()
    except (NotApplicable, RuntimeError, ValueError, IndexError):
        return False
    return any(one.grad is not None for one in workload.model.parameters()) and torch.is_grad_enabled()
