"""Normalizations put between a layer and what follows it, where the model is built of `nn.Sequential`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from diag.prescribe.patient import Patient
from diag.prescribe.remedy import SIGNAL, SLOW, STEP, Advice, Remedy, family
from diag.trace.shapes import sizes

PLACE = 20
ANSWERS = (*SIGNAL, *SLOW, *STEP)
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
FEWEST_SAMPLES = 8
"""Below it, a batch says too little of its own mean and variance."""

_CODE = """from torch import nn

group_of = {{id(p): group for group in optimizer.param_groups for p in group["params"]}}
for name in {names}:  # what follows a layer, and is put behind a normalization
    parent, _, child = name.rpartition(".")
    chain, at = model.get_submodule(parent), int(child)
    weight = chain[at - 1].weight
    norm = {norm}.to(weight.device, weight.dtype)
    chain[at] = nn.Sequential(norm, chain[at])
    group_of.get(id(weight), optimizer.param_groups[-1])["params"] += norm.parameters()
"""


@family("normalization")
def normalization(patient: Patient) -> Iterator[Remedy | Advice]:
    """Batch normalization, and layer normalization, after every layer that something follows in a `nn.Sequential`."""
    if not patient.suffers(*ANSWERS) or any(isinstance(one, _NORMS) for one in patient.model.modules()):
        return
    places = list(_places(patient.model))
    change = "Put {} after every hidden layer, before its activation."
    if not places or isinstance(patient.optimizer, torch.optim.LBFGS):
        why = "LBFGS takes no new parameters"
        if not places:
            why = "the model is no chain of nn.Sequential, so only its forward() can say where: put it in by hand"
        yield Advice("normalization", change.format("batch or layer normalization"), why)
        return
    ranks = {_rank(patient, name) for name, _ in places}
    names = [name for name, _ in places]
    if len(ranks) == 1 and None not in ranks and _samples(patient, places[0][0]) >= FEWEST_SAMPLES:
        dims = next(iter(ranks)) or 1
        norm = f"nn.BatchNorm{max(dims, 1)}d(weight.shape[0])"
        yield _remedy(patient, "batch normalization", change.format("batch normalization"), names, norm)
    convolutions = {isinstance(layer, _ConvNd) for _, layer in places}
    if len(convolutions) == 1:
        norm = "nn.GroupNorm(1, weight.shape[0])" if True in convolutions else "nn.LayerNorm(weight.shape[0])"
        yield _remedy(patient, "layer normalization", change.format("layer normalization"), names, norm)


def _remedy(patient: Patient, name: str, change: str, names: list[str], norm: str) -> Remedy:
    code = _CODE.format(names=names, norm=norm)
    if patient.optimizer is None:
        code = "\n".join(line for line in code.splitlines() if "group" not in line or "nn.Group" in line) + "\n"
    return Remedy(name, "normalization", change, code, ANSWERS, surgery=True, place=PLACE)


def _places(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The names of what follows a linear or convolutional layer in a `nn.Sequential`, and the layer."""
    for prefix, chain in model.named_modules():
        if type(chain) is not nn.Sequential:
            continue
        for (name, layer), (after, _) in zip(
            list(chain.named_children()), list(chain.named_children())[1:], strict=False
        ):
            if isinstance(layer, (nn.Linear, _ConvNd)) and name.isdigit() and after.isdigit():
                yield f"{prefix}.{after}" if prefix else after, layer


def _layer_shape(patient: Patient, name: str) -> list[int]:
    """The shape of what the layer before `name` puts out; empty where it was not seen."""
    parent, _, child = name.rpartition(".")
    before = f"{parent}.{int(child) - 1}" if parent else str(int(child) - 1)
    sites = patient.watched.trace.sites
    shapes = sites.loc[sites["site"] == before, "shape"]
    return list(sizes(str(shapes.iloc[0]))) if len(shapes) else []


def _rank(patient: Patient, name: str) -> int | None:
    """Dimensions after batch and channels, for a batch normalization; None where features come last or are unknown."""
    parent, _, child = name.rpartition(".")
    layer = patient.model.get_submodule(parent)[int(child) - 1]  # type: ignore[index]
    shape = _layer_shape(patient, name)
    if isinstance(layer, nn.Linear):
        return 0 if len(shape) == 2 else None
    return len(shape) - 2 if len(shape) > 2 else None


def _samples(patient: Patient, name: str) -> int:
    shape = _layer_shape(patient, name)
    return shape[0] if shape else 0
