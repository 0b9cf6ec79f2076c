"""Residual branches scaled down, so that their sum does not grow with depth."""

from __future__ import annotations

from collections.abc import Iterator

from diag.prescribe.branches import branch_ends
from diag.prescribe.patient import Patient
from diag.prescribe.remedy import STEP, Advice, Remedy, family

PLACE = 35
ANSWERS = ("exploding-gradient", "exploding-activation", *STEP, "collapsed-signal")
FEWEST = 2
_CODE = """import torch

with torch.no_grad():
    for name in {names}:  # the last layer of each residual branch
        for parameter in model.get_submodule(name).parameters(recurse=False):
            parameter.mul_({factor:.4g})
"""


@family("residual scaling")
def residual(patient: Patient) -> Iterator[Remedy | Advice]:
    """The last layer of each of L residual branches times 1 / sqrt(L)."""
    if not patient.suffers(*ANSWERS):
        return
    with patient.fresh() as workload:
        try:
            names = branch_ends(workload, patient.batches[0])
        except Exception as error:
            names = []
            why = f"looking for residual blocks failed ({type(error).__name__})"
        else:
            why = "no module was found that adds what it is given to what a branch makes of it"
    if len(names) < FEWEST:
        yield Advice("residual scaling", "Scale residual branches down.", why)
        return
    yield Remedy(
        "residual scaling",
        "residual",
        f"Multiply the last layer of each of the {len(names)} residual branches by 1 / sqrt({len(names)}).",
        _CODE.format(names=names, factor=len(names) ** -0.5),
        ANSWERS,
        place=PLACE,
    )
