"""From what the probe recorded to the tables of a trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import nn
from torch.nn.parameter import is_lazy

from diag.probe.calls import Place
from diag.probe.eager import is_compiled
from diag.probe.environment import describe_environment
from diag.probe.frames import INNER
from diag.probe.parameters import owner_class
from diag.probe.sites import Root
from diag.stats import fields
from diag.trace import Trace, schema
from diag.trace.schema import KINDS

if TYPE_CHECKING:
    from diag.probe.probe import Probe

_MEASURED = {
    "count": fields.COUNT,
    "mean": fields.MEAN,
    "min": fields.MIN,
    "max": fields.MAX,
    "units": fields.UNITS,
    "dead_units": fields.DEAD_UNITS,
    "nonfinite": fields.NONFINITE,
    "sample_var": fields.SAMPLE_VAR,
    "twin_units": fields.TWIN_UNITS,
}


def assemble(probe: Probe) -> Trace:
    """The trace of everything recorded in closed steps."""
    names = [probe.sites.name(site) for site in probe.sites.table]
    return Trace(
        frame=_frame(probe, names),
        steps=_typed(pd.DataFrame(probe.recorder.steps.columns(), columns=schema.names(schema.STEPS)), schema.STEPS),
        sites=_sites(probe, names),
        units=_units(probe, names),
        coverage=_coverage(probe),
        meta=describe_environment(probe.recorder.measured_by),
    )


def _frame(probe: Probe, names: list[str]) -> pd.DataFrame:
    steps, keys, values = probe.recorder.tables()
    orders = _owner_orders(probe)
    finite = values[:, fields.COUNT] - values[:, fields.NONFINITE]
    known = finite > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        var = np.where(known, values[:, fields.M2] / finite, np.nan)
        share = {name: np.where(known, values[:, index] / finite, np.nan) for name, index in _SHARES}
    columns: dict[str, Any] = {
        "step": steps,
        "site": pd.Series(np.array(_unique(names), object)[keys[:, 0]], dtype="string"),
        "call": keys[:, 1],
        "order": np.where(keys[:, 3] >= 0, keys[:, 3], orders[keys[:, 0]] if len(keys) else keys[:, 3]),
        "op": pd.Series(np.array([site.op for site in probe.sites.table], object)[keys[:, 0]], dtype="string"),
        "kind": pd.Series(np.array(KINDS, object)[keys[:, 2]], dtype="string"),
        "var": var,
        "rms": np.sqrt(values[:, fields.MEAN] ** 2 + var),
        **share,
        **{name: values[:, index] for name, index in _MEASURED.items()},
    }
    frame = _typed(pd.DataFrame(columns, columns=schema.names(schema.FRAME)), schema.FRAME)
    return frame.sort_values(["step", "kind", "order", "call"], kind="stable", ignore_index=True)


_SHARES = (("zero_fraction", fields.ZEROS), ("saturated_fraction", fields.SATURATED))


def _unique(names: list[str]) -> list[str]:
    """Category names must differ; two sites of one name (a module called like a functional's site) are told apart."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return result


def _owner_orders(probe: Probe) -> np.ndarray:
    """A parameter stands where its module first ran."""
    first: dict[tuple[int, str], int] = {}
    for site in probe.sites.table:
        if site.kind == "output" and site.order >= 0:
            key = (site.root, site.owner)
            first[key] = min(first.get(key, site.order), site.order)
    orders = [
        site.order if site.kind == "output" else first.get((site.root, _owner(site.owner)), -1)
        for site in probe.sites.table
    ]
    return np.array(orders, np.int64)


def _owner(path: str) -> str:
    """The module that a parameter belongs to: of a parametrized weight, the one that uses it."""
    parts = path.split(".")
    return ".".join(parts[: parts.index("parametrizations")]) if "parametrizations" in parts else path


def _sites(probe: Probe, names: list[str]) -> pd.DataFrame:
    optimized = probe.parameters.optimized()
    for root in probe.sites.roots:
        for parameter in (one for one in root.model.parameters() if not is_lazy(one)):
            probe.parameters.site_of(parameter, optimized=id(parameter) in optimized)
    names += [probe.sites.name(site) for site in probe.sites.table[len(names) :]]
    held = probe.parameters.has_optimizer
    orders = _owner_orders(probe)
    several = probe.sites.several
    rows = [
        {
            "site": name,
            "kind": site.kind,
            "module": site.module,
            "op": site.op,
            "role": site.role,
            "order": order,
            "shape": site.shape,
            "trainable": site.trainable,
            "optimized": bool(site.optimized) if site.kind == "parameter" and held else None,
            "model": probe.sites.roots[site.root].name,
            "owner": ".".join(filter(None, [probe.sites.roots[site.root].name if several else "", _owner(site.owner)])),
        }
        for name, site, order in zip(_unique(names), probe.sites.table, orders, strict=True)
    ]
    return _typed(pd.DataFrame(rows, columns=schema.names(schema.SITES)), schema.SITES)


def _units(probe: Probe, names: list[str]) -> pd.DataFrame:
    unique = _unique(names)
    rows = [(step, unique[site], *rest) for step, site, *rest in probe.recorder.unit_rows]
    return _typed(pd.DataFrame(rows, columns=schema.names(schema.UNITS)), schema.UNITS)


def _typed(frame: pd.DataFrame, columns: tuple[schema.Column, ...]) -> pd.DataFrame:
    return frame.astype(schema.dtypes(columns))


def _coverage(probe: Probe) -> dict[str, Any]:
    leaves, unseen = _leaves(probe)
    recorder = probe.recorder
    measured = {step for step, *_ in recorder._done}
    standing, by_identity = probe.forward.untrained.standing, {id(root.model): root.name for root in probe.sites.roots}
    return {
        "steps": recorder.step,
        "measured_steps": len(measured),
        **({} if probe.budget is None else {"budget": probe.budget.to_dict()}),
        "training_passes": probe.forward.training_passes,
        "evaluation_passes": probe.forward.untrained.passes,
        "evaluations": probe.forward.untrained.evaluations.entries(),
        "answers": probe.forward.untrained.answers.entries([root.name for root in probe.sites.roots]),
        "padding": _padding(probe),
        "loaders": probe.loaders.told(),
        "leaf_inputs": probe.forward.untrained.leaves,
        "tested": probe.forward.untrained.tested.entries(),
        "computed_inputs": _computed_inputs(probe),
        "lagging": standing.lagging(by_identity),
        "standing": standing.entries(by_identity),
        "untaught": standing.untaught(),
        "acting_passes": probe.forward.untrained.acting.passes,
        **probe.parameters.omissions.coverage(),
        "dropped_in_evaluation": {
            probe.sites.roots[root].name: share for root, share in probe.forward.untrained.evaluations.dropped.items()
        },
        "ran_without_gradient": _without_gradient(probe),
        "models": [root.name for root in probe.sites.roots if root.within is None],
        "sites": sum(site.kind == "output" for site in probe.sites.table),
        "modules_total": leaves,
        "modules_seen": leaves - len(unseen),
        "not_seen": unseen,
        "gradients": bool(probe.backward.gradients_seen),
        "backward_begun": probe.backward.begun,
        "optimizer": probe.parameters.has_optimizer,
        "skipped_steps": list(probe.skipped_steps),
        "unregistered": {
            probe.sites.roots[root].name: names for root, names in probe.forward.strangers.left_out().items()
        },
        "made_anew": {
            probe.sites.roots[root].name: names for root, names in probe.forward.strangers.made_anew().items()
        },
        **probe.settings,
        **_of_calls(probe),
        "without_graph": [probe.sites.name(probe.sites.table[site]) for site in sorted(probe.backward.without_graph)],
        "replaced": [probe.sites.name(probe.sites.table[site]) for site in probe.parameters.replaced],
        "scaled_losses": probe.backward.scaled_losses,
        "scaled_steps": probe.scaled_steps,
        "steps_elsewhere": probe.parameters.steps_elsewhere,
        **dict(zip(("uncleared_steps", "uncleared_of"), probe.parameters.clearing.most_uncleared(), strict=True)),
        "notes": _notes(probe),
    }


def _of_calls(probe: Probe) -> dict[str, Any]:
    """What the ways tell in which functions, attention and losses were called."""
    calls, feeding, terms = probe.forward.calls, probe.forward.losses.feeding, probe.forward.losses.terms
    single = [place for place, alone in calls.over_one.items() if alone]
    return {
        "over_one": probe.settings["over_one"] + _names(probe, single),
        "over_first": probe.settings["over_first"] + _names(probe, sorted(calls.over_first)),
        "pairs": probe.forward.losses.contrasts.told(),
        "viewed": _viewed(probe),
        "squashed": dict(_named(probe, feeding.squashed)),
        "likelihood_minimized": feeding.minimized,
        "clamped_logits": dict(_named(probe, feeding.clamped)),
        "scaled_logits": {name: scale for name, scale in _named(probe, feeding.scaled) if scale != 1.0},
        "scrambled": dict(_named(probe, feeding.scrambled)),
        "odd_axis": dict(_named(probe, feeding.odd)),
        "terms": terms.told(),
        "opponents": {
            probe.sites.roots[one["root"]].name: {name: count for name, count in one.items() if name != "root"}
            for one in terms.opponents.told()
        },
        "looks_ahead": _names(probe, [place for place, ahead in calls.ahead.items() if ahead]),
        "looks_back": _names(probe, [place for place, ahead in calls.ahead.items() if not ahead]),
    }


def _viewed(probe: Probe) -> dict[str, list[list[Any]]]:
    """By model, the paths of modules in which a view has the sizes of what it was made of, in another order."""
    found: dict[str, list[list[Any]]] = {}
    for (root, path), (before, after, count) in probe.forward.calls.viewed.items():
        found.setdefault(probe.sites.roots[root].name, []).append([path, before, after, count])
    return found


def _named(probe: Probe, by_place: Mapping[Place, Any]) -> Iterator[tuple[str, Any]]:
    """What the sites at these places are called, and what is known of each."""
    for place, value in by_place.items():
        site = probe.sites.get(*place)
        if site is not None:
            yield probe.sites.name(probe.sites.table[site]), value


def _names(probe: Probe, places: list[Place]) -> list[str]:
    return [name for name, _ in _named(probe, dict.fromkeys(places))]


def _leaves(probe: Probe) -> tuple[int, list[str]]:
    """How many modules compute something, and which of them never ran."""
    leaves, unseen = 0, list[str]()
    for index, root in enumerate(probe.sites.roots):
        for path, module in root.model.named_modules() if root.within is None else ():
            if {name for name, _ in module.named_children()} - INNER or INNER & set(path.split(".")):
                continue
            if isinstance(module, _CONTAINERS):
                continue
            leaves += 1
            met = (index, path) in probe.forward.ran or _was_evaluated(probe, index, path)
            if not met and not _inside_attention(root.model, path):
                unseen.append(path or root.name)
    return leaves, unseen


def _padding(probe: Probe) -> dict[str, list[list[int]]]:
    """By model, the ids that embeddings hold for padding, each with how many ids there are."""
    found: dict[str, list[list[int]]] = {}
    for root in probe.sites.roots:
        tables = [one for one in root.model.modules() if isinstance(one, nn.Embedding) and one.padding_idx is not None]
        if tables:
            found[root.name] = [[int(one.padding_idx or 0), one.num_embeddings] for one in tables]
    return found


def _computed_inputs(probe: Probe) -> list[str]:
    """Inputs of models that were computed from parameters at least as often as not, as the state of an ODE is."""
    often = [key for key, (plain, computed) in probe.forward.given.items() if computed >= plain]
    sites = [probe.sites.get(*key) for key in often]
    return [probe.sites.name(probe.sites.table[one]) for one in sites if one is not None]


def _notes(probe: Probe) -> list[str]:
    """What was not seen, in sentences."""
    recorder = probe.recorder
    notes = list(dict.fromkeys(probe.notes))
    if recorder.stride > recorder.every:
        notes.append(f"after step 30 only every {recorder.stride}th step was kept, to bound the trace")
    if probe.budget is not None:
        own = probe.budget
        notes.append(
            f"to stay below {100 * own.share:g} % of the training's time, {own.measured} of {own.steps} steps were "
            f"measured; it took {100 * own.cost:.2g} %, and what happened in the others was not seen"
            + (f", of {own.asleep} not even the loss" if own.asleep else "")
        )
    if probe.forward.ran_compiled or any(_compiled(root) for root in probe.sites.roots):
        notes.append("code made by torch.compile ran eagerly while it was watched")
    if probe.forward.captured_passes:
        notes.append("what is recorded into a CUDA graph, and what the graph then runs, is not seen")
    if probe.forward.copies.count:
        notes.append(f"{probe.forward.copies.count} more models of a class of which eight were watched were left out")
    if probe.forward.unmeasurable:
        where = ", ".join(path or "the model itself" for path in list(probe.forward.unmeasurable)[:5])
        notes.append(f"outputs that could not be measured (nested, functorch, fake or meta tensors): {where}")
    if probe.skipped_steps:
        shown = ", ".join(map(str, probe.skipped_steps[:10])) + (", ..." if len(probe.skipped_steps) > 10 else "")
        notes.append(f"the GradScaler left out the optimizer step, for non-finite gradients, in step {shown}")
    if probe.sites.roots and not probe.backward.gradients_seen:
        ran = "reached the model" if probe.backward.begun else "ran"
        notes.append(f"no gradient of an activation was seen: no backward pass {ran} while the model was watched")
    if not probe.parameters.measured:
        notes.append("weights, their gradients and updates were not measured (parameters=False): no rule spoke of them")
    if not probe.parameters.has_optimizer:
        notes.append("no optimizer was seen: updates, and what training would do, were not observed")
    return notes


_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
"""They hold modules and parameters and are not called."""


def _compiled(root: Root) -> bool:
    return root.compiled or any(is_compiled(module) for module in root.model.modules())


def _was_evaluated(probe: Probe, root: int, path: str) -> bool:
    """Whether a module ran, alone or in what contains it, without a gradient."""
    parts = path.split(".") if path else []
    above = {".".join(parts[:count]) for count in range(len(parts) + 1)}
    return any((root, one) in probe.forward.untrained.ran for one in above)


def _inside_attention(model: Any, path: str) -> bool:
    """torch's attention uses its output projection's weight without calling the module."""
    parent = path.rpartition(".")[0]
    return path.endswith("out_proj") and owner_class(model, parent) == "MultiheadAttention"


def _without_gradient(probe: Probe) -> list[str]:
    """Parts of models that were called, but never in a pass that builds a graph."""
    several = probe.sites.several
    paths = sorted(probe.forward.untrained.ran - probe.forward.ran)
    return [
        ".".join(filter(None, [probe.sites.roots[root].name if several else "", path])) for root, path in paths if path
    ]
