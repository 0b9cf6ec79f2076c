"""Does the top remedy bring back what an injected fault took, in families that `diag prescribe` was not developed on?

`python -m tests.corpus.prescribe --drawn [mended|scored] [name ...]` prints; without arguments behind `--drawn` it also
writes `reports/prescribe/`. The sample is drawn once, by a seed: of the families that are drawn, the slow ones apart,
half are those on which remedies were mended, half are scored. No family is in both.
"""

from __future__ import annotations

import functools
import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from tests.corpus import HEALTHY, drawn
from tests.corpus.case import Case
from tests.corpus.drawn import LARGE
from tests.corpus.keys import ROOT, hashed, sources
from tests.corpus.labels import state
from tests.corpus.split import FIT_BASES, FRESH, THIRD

CURABLE = frozenset(
    "init-scale-down init-scale-up init-one-layer init-normal-wide init-normal-narrow init-positive symmetric-units "
    "zero-init bias-down bias-up dead-units wrong-activation no-norm lr-up lr-down lr-one-layer schedule-decays "
    "clipped weight-decay never-cleared optimizer-lacks frozen input-large input-offset input-tiny recurrence-fades "
    "recurrence-explodes half-underflow".split()
)
"""Faults that a change from outside can mend: not those in forward(), in the loss, or in what the data mean."""
SEED, COUNT, OF_FRESH, OF_A_FAMILY = 7, 64, 36, 2
REPORT, KEPT = ROOT / "reports" / "prescribe", ROOT / "build" / "prescribe"
_SOURCES = ("diag/prescribe", "diag/probe", "diag/rules", "diag/stats", "diag/train", "tests/corpus/families")
_FILES = (
    "tests/corpus/prescribe.py",
    *(f"tests/corpus/inject{one}.py" for one in ("", "_data", "_training", "_weights")),
)


@dataclass(frozen=True)
class Row:
    """One case: shares of the twin's progress, the remedy, and everything that was tried."""

    name: str
    half: str
    share: float
    strict: float
    untreated: float
    remedy: str
    told: str
    seconds: float

    @property
    def fault(self) -> str:
        """What was injected."""
        return self.name.partition("+")[2].partition("@")[0]

    @property
    def family(self) -> str:
        """Into what."""
        return self.name.partition("+")[0]


def sample() -> dict[str, list[Case]]:
    """The cases of each half: `mended` and `scored`; and `fresh`, of families that were written after both."""
    curable = [one for one in drawn.drawn(HEALTHY) if one.fault in CURABLE and state(one.name) == "faulty"]
    rng = random.Random(SEED)
    chosen = _chosen([one for one in curable if one.family not in (*FIT_BASES, *LARGE, *THIRD, *FRESH)], COUNT, rng)
    families = sorted({one.family for one in chosen})
    rng.shuffle(families)
    mended: set[str] = set()
    for family in families:
        if sum(one.family in mended for one in chosen) < COUNT / 2:
            mended.add(family)
    return {
        "mended": [one for one in chosen if one.family in mended],
        "scored": [one for one in chosen if one.family not in mended],
        "fresh": _chosen([one for one in curable if one.family in set(FRESH) - LARGE], OF_FRESH, rng),
    }


def _chosen(pool: list[Case], count: int, rng: random.Random) -> list[Case]:
    """So many of them, by chance, and few of a family."""
    rng.shuffle(pool)
    chosen: list[Case] = []
    for one in pool:
        if sum(two.family == one.family for two in chosen) < OF_A_FAMILY and len(chosen) < count:
            chosen.append(one)
    return chosen


def row(case: Case, half: str, restored: Callable[[Case], tuple[float, float, float, str, str]]) -> Row:
    """From what was kept while the sources stood, or anew."""
    file = KEPT / f"{case.name}.{_version()}.json"
    if file.is_file():
        return Row(**json.loads(file.read_text()))
    begun = time.perf_counter()
    share, strict, untreated, remedy, told = restored(case)
    found = Row(case.name, half, share, strict, untreated, remedy, told, time.perf_counter() - begun)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(found)))
    return found


@functools.cache
def _version() -> str:
    """Of the sources, as they stood when it was first asked for."""
    return hashed(*sources((*_SOURCES, *_FILES)))
