"""Sequence modules that are called with the wrong dimension first."""

from __future__ import annotations

from collections.abc import Iterator

from diag.prescribe.mistakes import PLACE
from diag.prescribe.patient import Patient
from diag.prescribe.remedy import SLOW, Advice, Remedy, family

_RULE = "loss-not-decreasing"
_BATCH_FIRST = """for name in {names!r}:
    model.get_submodule(name).batch_first = True
"""


@family("first dimension")
def batch_first(patient: Patient) -> Iterator[Remedy | Advice]:
    """`batch_first=True` for sequence modules that were seen to take samples for time."""
    found = patient.finding(_RULE, of="batch axis")
    if found is None:
        return
    several = len(patient.watched.trace.coverage.get("models") or ()) > 1
    modules = dict(patient.model.named_modules())
    names = [name for name in found.evidence["sites"] if name in modules]
    change = f"Let {', '.join(found.evidence['sites'][:3])} take samples first: batch_first=True."
    if several or len(names) < len(found.evidence["sites"]):
        yield Advice("batch_first=True", change, "of several models each is named by its own path: set it by hand")
        return
    yield Remedy(
        "batch_first=True", "first dimension", change, _BATCH_FIRST.format(names=names), SLOW, direct=True, place=PLACE
    )
