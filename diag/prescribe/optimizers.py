"""What an optimizer was told wrongly: parameters it lacks, options that swallow or inflate its steps."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from typing import Any

import torch

from diag.prescribe.mistakes import PLACE, mistakes, set_option
from diag.prescribe.patient import Patient
from diag.prescribe.remedy import SIGNAL, SLOW, STEP, Advice, Remedy, family
from diag.probe.held import held_by

UNEVEN_RATES = 100.0

_UNCLEARED = """# or, in your own loop, optimizer.zero_grad() before loss.backward(): the call of zero_grad alone
optimizer.register_step_post_hook(lambda *_: model.zero_grad())
"""
_MISSING = """held = {id(p): group for group in optimizer.param_groups for p in group["params"]}
group = optimizer.param_groups[0]
for p in model.parameters():  # a parameter joins the group of the one before it
    group = held.get(id(p), group)
    if p.requires_grad and id(p) not in held:
        group["params"].append(p)
"""
_UNFROZEN = """model.requires_grad_(True)
"""


@family("clearing")
def clearing(patient: Patient) -> Iterator[Remedy | Advice]:
    """Gradients cleared after each step, where the rules saw that none ever are."""
    if patient.finding("oversized-update", of="uncleared"):
        change = "Clear the gradients in every step."
        yield Remedy("zero_grad", "optimizer", change, _UNCLEARED, STEP, direct=True, place=PLACE + 5)


@family("parameters")
def parameters(patient: Patient) -> Iterator[Remedy | Advice]:
    """Parameters that no optimizer holds handed to it; frozen ones unfrozen."""
    optimizer = patient.optimizer
    if optimizer is None:
        return
    held = {id(p) for p in held_by(optimizer)}
    every = list(patient.model.parameters())
    missing = [p for p in every if p.requires_grad and id(p) not in held]
    frozen = [p for p in every if not p.requires_grad]
    lbfgs = isinstance(optimizer, torch.optim.LBFGS)
    if missing and patient.suffers(*SLOW, "missing-gradient", *SIGNAL):
        change = f"Hand the optimizer the {len(missing)} parameters that it lacks."
        if lbfgs:
            yield Advice("parameters added", change, "LBFGS takes no new parameters: build it anew")
        else:
            rules = (*SLOW, "missing-gradient")
            yield Remedy("parameters added", "optimizer", change, _MISSING, rules, direct=True, place=PLACE)
    if frozen and not lbfgs and patient.suffers(*SLOW, "missing-gradient", *SIGNAL):
        change = f"Unfreeze the {len(frozen)} parameters that are frozen, and train them."
        name, parts = "unfrozen", 1
        if missing:
            change = (
                f"Hand the optimizer the {len(missing)} parameters that it lacks, and unfreeze and train the "
                f"{len(frozen)} that are frozen."
            )
            name, parts = "parameters added and unfrozen", 2
        more = (*SLOW, "missing-gradient", "vanishing-gradient", "collapsed-signal")
        yield Remedy(name, "optimizer", change, _UNFROZEN + _MISSING, more, place=PLACE, parts=parts)


@family("options of the optimizer")
def options(patient: Patient) -> Iterator[Remedy | Advice]:
    """One option after another that is out of its usual range."""
    if patient.optimizer is None:
        return
    yield from mistakes(patient.optimizer)
    if not patient.suffers(*STEP, *SLOW, *SIGNAL):
        return
    groups = patient.optimizer.param_groups
    rates = [float(group["lr"]) for group in groups if "lr" in group]
    if rates and min(rates) > 0 and max(rates) >= UNEVEN_RATES * min(rates):
        change = f"Train all groups at {min(rates):g}: one has {max(rates):g}."
        yield set_option("one learning rate", change, "lr", min(rates))


@family("plain optimizer")
def plain(patient: Patient) -> Iterator[Remedy | Advice]:
    """torch's own optimizer in place of a subclass of it, or of one that hooks or a schedule act on."""
    optimizer = patient.optimizer
    if optimizer is None or not patient.suffers(*STEP, *SLOW):
        return
    kind = next((one for one in type(optimizer).__mro__ if one.__module__.startswith("torch.optim.")), None)
    scheduled = "step" in vars(optimizer)
    hooked = any(vars(optimizer)[name] for name in vars(optimizer) if name.startswith("_optimizer_step_p"))
    changed = type(optimizer) is not kind
    if kind in (None, torch.optim.Optimizer) or not (scheduled or hooked or changed):
        return
    what = "its schedule" if scheduled else "its hooks" if hooked else f"what {type(optimizer).__name__} adds"
    change = f"Use a plain torch.optim.{kind.__name__}, without {what}."
    if len(optimizer.param_groups) > 1:
        yield Advice("plain optimizer", change, "it has several groups of parameters: build it anew by hand")
        return
    written = _written(kind, optimizer.param_groups[0])
    code = f"import torch\n\noptimizer = torch.optim.{kind.__name__}(model.parameters(), {written})\n"
    yield Remedy("plain optimizer", "optimizer", change, code, (*STEP, *SLOW), direct=changed or scheduled, place=45)


def _written(kind: type, group: dict[str, Any]) -> str:
    """The group's options as arguments: lr, and what differs from the class's defaults."""
    known = inspect.signature(kind).parameters
    values = {"lr": float(group.get("initial_lr", group.get("lr", math.nan)))}
    for name, value in group.items():
        if name in known and name not in ("lr", "params") and value != known[name].default:
            values[name] = value
    return ", ".join(f"{name}={value!r}" for name, value in values.items())
