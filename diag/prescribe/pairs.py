"""Targets that do not belong to their inputs: no change of the training mends that, and what does is only told."""

from __future__ import annotations

from collections.abc import Iterator

from diag.prescribe.patient import Patient
from diag.prescribe.remedy import Advice, Remedy, family


@family("pairs")
def pairs(patient: Patient) -> Iterator[Remedy | Advice]:
    """To look at the data, where nothing was learned of which target belongs to which input."""
    found = patient.finding("unrelated-targets")
    if found is not None:
        change = "Look at some inputs beside their targets, as the loss gets them, and mend how they are paired."
        yield Advice("pairs of input and target", change, "only you can see which target belongs to which input")
