"""Gradients clipped at a norm that the control itself shows to be usual."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from diag.prescribe.patient import Patient
from diag.prescribe.remedy import STEP, Advice, Remedy, family

PLACE = 60
QUANTILE = 0.25
"""Of the control's gradient norms: what it had when it went well, where it went wrong for most of the time."""
ANSWERS = ("exploding-gradient", *STEP, "exploding-activation")
_CODE = """import torch


def clip(*_):
    torch.nn.utils.clip_grad_norm_(model.parameters(), {limit:.3g})


optimizer.register_step_pre_hook(clip)  # or call it in your own loop, between loss.backward() and optimizer.step()
"""


@family("clipping")
def clipping(patient: Patient) -> Iterator[Remedy | Advice]:
    """The norm of all gradients together, clipped at the lower quartile of the control's."""
    if not patient.suffers(*ANSWERS) or patient.optimizer is None:
        return
    norms = [one for one in patient.gradient_norms if math.isfinite(one) and one > 0]
    if not norms:
        yield Advice(
            "gradient clipping", "Clip the gradient's norm.", "no gradient of the control was finite and not 0"
        )
        return
    limit = float(np.quantile(norms, QUANTILE))
    yield Remedy(
        "gradient clipping",
        "clipping",
        f"Clip the norm of all gradients together at {limit:.3g}, the lower quartile of what was measured.",
        _CODE.format(limit=limit),
        ANSWERS,
        place=PLACE,
    )
