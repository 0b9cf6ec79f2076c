"""Biases that shut or saturate units, set to zero; dropout that leaves too little."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from diag.prescribe.patient import Patient
from diag.prescribe.remedy import SIGNAL, SLOW, STEP, Advice, Remedy, family
from diag.recipes.weights import layers_of

LARGE = 1.0
"""A layer's bias beyond it outweighs the unit variance that a good initialization gives to what it is added to."""
TOO_MUCH = 0.5
"""Srivastava et al. 2014, section A.4: 0.2 to 0.5 are usual."""

_BIASES = """from torch import nn

for layer in model.modules():
    if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)) and layer.bias is not None:
        nn.init.zeros_(layer.bias)
"""
_DROPOUT = """from torch import nn

for layer in model.modules():
    if isinstance(layer, nn.modules.dropout._DropoutNd):
        layer.p = min(layer.p, 0.1)
"""


@family("biases")
def biases(patient: Patient) -> Iterator[Remedy | Advice]:
    """Biases set to 0 where one is large."""
    large = [
        one
        for one in layers_of(patient.model)
        for name in one.biases
        if isinstance(one.module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
        and getattr(one.module, name, None) is not None
        and float(getattr(one.module, name).detach().abs().max()) > LARGE
    ]
    if large and patient.suffers(*SIGNAL, *SLOW):
        yield Remedy(
            "biases at zero",
            "biases",
            f"Set the biases to 0: those of {len(large)} layers are larger than {LARGE:g}.",
            _BIASES,
            (*SIGNAL, *SLOW),
            direct=True,
            place=31,
        )


@family("dropout")
def dropout(patient: Patient) -> Iterator[Remedy | Advice]:
    """Dropout lowered to 0.1 where it is more than usual."""
    rates = [one.p for one in patient.model.modules() if isinstance(one, nn.modules.dropout._DropoutNd)]
    if rates and max(rates) > TOO_MUCH:
        yield Remedy(
            "less dropout",
            "dropout",
            f"Lower dropout from {max(rates):g} to 0.1.",
            _DROPOUT,
            (*SIGNAL, *SLOW, *STEP),
            direct=True,
            surgery=True,
            place=15,
        )
