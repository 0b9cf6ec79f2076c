"""Activation functions exchanged for ones that keep a slope, with the initialization that goes with them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from diag.prescribe.initialization import code_for
from diag.prescribe.mistakes import DOUBTFUL
from diag.prescribe.patient import Patient
from diag.prescribe.remedy import SIGNAL, SLOW, Advice, Remedy, family, joined

PLACE = 10
SATURATING = ("sigmoid", "tanh", "softsign", "hardtanh", "hardsigmoid", "relu6")
_KILLING = ("relu", "relu6")
_FAILING = (*SIGNAL, *SLOW)

_BY_KIND = """from torch import nn

for name, module in list(model.named_modules(remove_duplicate=False)):
    if isinstance(module, nn.{kind}):
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, {new})
"""
_BY_NAME = """from torch import nn

for name in {names}:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, {new})
"""


@family("activation")
def activation(patient: Patient) -> Iterator[Remedy | Advice]:
    """ReLU or SiLU for what saturates; leaky ReLU or GELU for what dies."""
    op = patient.usual_activation
    if op in DOUBTFUL or (op in SATURATING and patient.suffers(*_FAILING)):
        yield from _swaps(patient, op, {"ReLU": "nn.ReLU()", "SiLU": "nn.SiLU()"})
    elif op in _KILLING and patient.suffers("dead-units"):
        yield from _swaps(patient, op, {"leaky ReLU": "nn.LeakyReLU(0.1)", "GELU": "nn.GELU()"})


def _swaps(patient: Patient, op: str, choices: dict[str, str]) -> Iterator[Remedy | Advice]:
    modules = dict(patient.model.named_modules())
    names = list(dict.fromkeys(name for name, found in patient.hidden_activations if found == op and name))
    for title, new in choices.items():
        change = f"Replace {op} by {title}, with the initialization for rectifiers."
        if not names:
            yield Advice(f"{title} for {op}", change, f"{op} is called as a function in forward(): replace it there")
            return
        yield Remedy(
            f"{title} for {op}",
            "activation",
            change,
            joined(_swap(patient.model, modules, names, new), code_for(patient.model, "He")),
            _FAILING,
            surgery=True,
            place=PLACE,
        )


def _swap(model: nn.Module, modules: dict[str, nn.Module], names: list[str], new: str) -> str:
    """By class where that means the hidden ones and no other, else by name."""
    kinds = {type(modules[name]) for name in names}
    kind = next(iter(kinds))
    same = {id(one) for one in model.modules() if isinstance(one, kind)}
    if len(kinds) == 1 and getattr(nn, kind.__name__, None) is kind and same == {id(modules[name]) for name in names}:
        return _BY_KIND.format(kind=kind.__name__, new=new)
    return _BY_NAME.format(names=names, new=new)
