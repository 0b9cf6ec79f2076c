"""Which figures a page shows, in which order; one that would be empty is left out."""

from __future__ import annotations

from collections.abc import Sequence

from diag.report.diagnosis import Diagnosis
from diag.report.figures import curves, depth, heat, overlay
from diag.report.figures.plot import Plot
from diag.report.figures.style import styled

SINGLE = {
    "gradients": depth.gradients,
    "activations": depth.activations,
    "saturation": heat.saturation,
    "dead": heat.dead,
    "zeros": heat.zeros,
    "loss": curves.loss,
    "updates": curves.updates,
}


def draw(diagnosis: Diagnosis, prefix: str = "figure") -> list[Plot]:
    """The figures of one diagnosis; `prefix` sets their names apart from another's on the same page."""
    with styled():
        plots = [make(diagnosis.trace, f"{prefix}-{name}") for name, make in SINGLE.items()]
    return [plot for plot in plots if plot is not None]


def compare(diagnoses: Sequence[Diagnosis], prefix: str = "compare") -> list[Plot]:
    """The figures that show several diagnoses at once."""
    with styled():
        plots = [
            overlay.gradients(diagnoses, f"{prefix}-gradients"),
            overlay.activations(diagnoses, f"{prefix}-activations"),
            overlay.losses(diagnoses, f"{prefix}-loss"),
            overlay.shares(diagnoses, f"{prefix}-saturation", "saturated"),
            overlay.shares(diagnoses, f"{prefix}-dead", "dead"),
        ]
    return [plot for plot in plots if plot is not None]
