"""Normalizations put between a layer and what follows it, in place, whatever the model is built of."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from diag.prescribe.patient import Patient
from diag.prescribe.remedy import SIGNAL, SLOW, STEP, Advice, Remedy, family
from diag.trace.shapes import sizes

PLACE = 36
"""After what calls layers by their names, which are others then."""
ANSWERS = (*SIGNAL, *SLOW, *STEP)
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
FEWEST_SAMPLES = 8
"""Below it, a batch says too little of its own mean and variance."""

_GROUPS = """group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
"""
_CODE = """for name in {names}:  # each layer becomes itself and a normalization
    layer = model.get_submodule(name)
    norm = {norm}.to(layer.weight.device, layer.weight.dtype)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Sequential(layer, norm))
"""
_HELD = """    group_of.get(id(layer.weight), optimizer.param_groups[-1])["params"] += norm.parameters()
"""


@family("normalization")
def normalization(patient: Patient) -> Iterator[Remedy | Advice]:
    """Batch normalization, and layer normalization, after every layer that something follows in a `nn.Sequential`, or
    that is seen to go straight into a nonlinearity."""
    if not patient.suffers(*ANSWERS) or any(isinstance(one, _NORMS) for one in patient.model.modules()):
        return
    places = {**dict(_in_chains(patient.model)), **dict(_before_nonlinearities(patient))}
    change = "Put {} after every hidden layer, before its activation."
    if not places or isinstance(patient.optimizer, torch.optim.LBFGS):
        why = "LBFGS takes no new parameters"
        if not places:
            why = "no layer was seen to go straight into a nonlinearity: only forward() can say where, so do it by hand"
        yield Advice("normalization", change.format("batch or layer normalization"), why)
        return
    ranks = {_rank(patient, layer) for layer in places.values()}
    convolutions = {isinstance(layer, _ConvNd) for layer in places.values()}
    names, channels = list(places), "layer.out_channels" if True in convolutions else "layer.out_features"
    if len(ranks) == 1 and None not in ranks and _samples(patient, places[names[0]]) >= FEWEST_SAMPLES:
        dims = next(iter(ranks)) or 1
        norm = f"nn.BatchNorm{dims}d({channels})"
        yield _remedy(patient, "batch normalization", change.format("batch normalization"), names, norm)
    if len(convolutions) == 1:
        norm = f"nn.GroupNorm(1, {channels})" if True in convolutions else f"nn.LayerNorm({channels})"
        yield _remedy(patient, "layer normalization", change.format("layer normalization"), names, norm)


def _remedy(patient: Patient, name: str, change: str, names: list[str], norm: str) -> Remedy:
    trained = patient.optimizer is not None
    code = _CODE.format(names=names, norm=norm)
    code = f"from torch import nn\n\n{_GROUPS if trained else ''}{code}{_HELD if trained else ''}"
    return Remedy(name, "normalization", change, code, ANSWERS, surgery=True, place=PLACE)


def _in_chains(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that something follows in a `nn.Sequential`, by name."""
    for prefix, chain in model.named_modules():
        if type(chain) is nn.Sequential:
            for name in list(chain._modules)[:-1]:
                layer = chain._modules[name]
                if isinstance(layer, (nn.Linear, _ConvNd)):
                    yield f"{prefix}.{name}" if prefix else name, layer


def _before_nonlinearities(patient: Patient) -> Iterator[tuple[str, nn.Module]]:
    """The layers but the last whose outputs the trace shows to be what a nonlinearity is given next, by name."""
    trace, modules = patient.watched.trace, dict(patient.model.named_modules())
    frame = trace.frame[(trace.frame["kind"] == "activation") & (trace.frame["op"] != "Identity")]
    calls = frame[frame["step"] == frame["step"].min()].sort_values("order")
    rows = list(calls.join(trace.sites.set_index("site")[["role", "shape"]], on="site").itertuples())
    last = max((row.order for row in rows if row.role == "layer"), default=-1)
    for row, after in pairwise(rows):
        layer = modules.get(row.site)
        straight = after.role == "nonlinearity" and "softmax" not in after.op and after.shape == row.shape
        if isinstance(layer, (nn.Linear, _ConvNd)) and row.order < last and straight:
            yield row.site, layer


def _shape(patient: Patient, layer: nn.Module) -> list[int]:
    """The shape of what a layer puts out; empty where it was not seen."""
    names = [name for name, one in patient.model.named_modules(remove_duplicate=False) if one is layer]
    sites = patient.watched.trace.sites
    shapes = sites.loc[sites["site"].isin(names), "shape"]
    return list(sizes(str(shapes.iloc[0]))) if len(shapes) else []


def _rank(patient: Patient, layer: nn.Module) -> int | None:
    """Dimensions after batch and channels, for a batch normalization; None where features come last or are unknown."""
    shape = _shape(patient, layer)
    if isinstance(layer, nn.Linear):
        return 0 if len(shape) == 2 else None
    return len(shape) - 2 if len(shape) > 2 else None


def _samples(patient: Patient, layer: nn.Module) -> int:
    shape = _shape(patient, layer)
    return shape[0] if shape else 0
