"""Parameters that are to be trained and get no gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from diag.rules.axes import over_samples
from diag.rules.blocked import lost_gradients
from diag.rules.detached import judged_without_gradient, severed, severed_terms
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, listed
from diag.rules.first_step import of_first_step
from diag.rules.policies import own_ratio
from diag.rules.posterior import cut_off
from diag.rules.registry import rule
from diag.rules.truncated import truncated
from diag.trace.shapes import sizes

_NO_HEADS = 3
"""Dimensions of samples, positions and entries."""
_MOST_OF = 0.5
"""Of all elements that are to be trained, what no pooler and no auxiliary head has."""


@rule("missing-gradient")
def missing_gradient(evidence: Evidence) -> Iterator[Finding]:
    """Trainable parameters without a gradient: an error where everything below some point gets none."""
    table = _parameters(evidence)
    if not len(table):
        return
    single = _over_one(evidence) or cut_off(evidence) or severed_terms(evidence) or own_ratio(evidence)
    if single is not None:
        yield single
        return
    if not table["reached"].any():
        matrices = list(table.index[table["shape"].str.contains("x", regex=False)])
        if evidence.trains and table["none"].all():
            yield _nowhere(evidence, table)
        elif evidence.trains and len(matrices) > 1 and _are_zero(evidence, matrices):
            yield _both_zero(evidence, matrices)
        elif evidence.trains and not table["none"].any():
            lost = lost_gradients(evidence, table)
            yield from [] if lost is None else [lost]
        return
    unused = table[(table["order"] < 0) & ~table["reached"] & ~_is_of_attention(evidence, table)]
    missing = table[(table["order"] >= 0) & ~table["reached"]]
    cut = _cut(evidence, table, missing)
    short = truncated(evidence) if cut is None else None
    if cut is not None or short is not None:
        yield from (one for one in (cut, short) if one is not None)
    else:
        yield from _untrained(evidence, table, missing[missing["none"]].sort_values("order"))
        yield from _cancelled(evidence, table, missing[~missing["none"]].sort_values("order"))
    idle = _without_graph(evidence, unused)
    if len(idle):
        names = list(idle.index)
        yield Finding(
            "missing-gradient",
            "error",
            str(idle["owner"].iloc[0]),
            f"{_counted(len(names), 'parameter')} that the optimizer is to train ran only under no_grad:"
            f" {listed(names)}.",
            {"step": evidence.clean[0], "of": "none", "parameters": names[:20], "count": len(names)},
            "Call this part outside of no_grad(), or take its parameters from the optimizer if it is to stay.",
            "torch.autograd documentation, 'Locally disabling gradient computation'",
        )
        unused = unused.drop(idle.index)
    if len(unused):
        names = list(unused.index)
        yield Finding(
            "missing-gradient",
            "note",
            names[0],
            f"{_counted(len(names), 'trainable parameter')} of modules that never ran: {listed(names)}.",
            {"step": evidence.clean[0], "of": "never ran", "parameters": names[:20], "count": len(names)},
            "Call them in forward() if they are meant to be of use; else remove or freeze them.",
            "torch.autograd documentation",
        )


def _over_one(evidence: Evidence) -> Finding | None:
    """A softmax of a single entry is 1 whatever it is given, and has no slope."""
    shapes = over_samples(evidence, evidence.named("over_one"))
    # Attention, with its heads, may well have a single key.
    own = [site for site, shape in shapes.items() if len(shape) <= _NO_HEADS]
    if not own or not evidence.trains:
        return None
    site = evidence.in_order(own)[0]
    return Finding(
        "missing-gradient",
        "warning" if evidence.is_half_solved else "error",
        site,
        f"{site} is a softmax over a single entry (of {'x'.join(map(str, shapes[site]))}): it is 1 whatever it is"
        " given, and nothing before it gets a gradient through it.",
        {"step": evidence.clean[0], "of": "one entry", "sites": own[:20]},
        "Let it run over the dimension of the positions or classes; of one logit take a sigmoid.",
        "torch.nn.Softmax documentation: 'dim, a dimension along which Softmax will be computed'",
    )


def _nowhere(evidence: Evidence, table: pd.DataFrame) -> Finding:
    """An optimizer takes steps, and nothing that it holds has ever had a gradient."""
    names = list(table.sort_values("order").index)
    gradients = evidence.rows("gradient")
    if (gradients["rms"] > 0).any():
        return Finding(
            "missing-gradient",
            "error",
            "optimizer",
            f"Gradients came to the layers, but none of the {len(names)} parameters that the optimizer is to train has"
            f" one when it steps ({listed(names)}): they were cleared, or set to None, between backward() and step(),"
            " or came to copies of them.",
            {"step": evidence.clean[0], "of": "all", "parameters": names[:20], "count": len(names)},
            "Call optimizer.zero_grad() before loss.backward(), not between it and optimizer.step(). Copies that stand"
            " in for parameters, as fast weights of meta-learning do, must not be detached from them.",
            "torch.optim documentation, 'Taking an optimization step'",
        )
    ran = bool((evidence.steps["backward_passes"] > 0).any() or evidence.trace.coverage.get("backward_begun"))
    return Finding(
        "missing-gradient",
        "error",
        names[0],
        f"No gradient came to any of the {len(names)} parameters that the optimizer is to train: {listed(names)}."
        f" {'The loss does not depend on them.' if ran else 'No backward pass ran.'}",
        {"step": evidence.clean[0], "of": "all", "parameters": names[:20], "count": len(names)},
        "Look for what cuts the loss off the model: detach(), item(), numpy(), argmax, a comparison, no_grad(), or a"
        " new tensor made of the output."
        if ran
        else "Call loss.backward(), without no_grad().",
        "torch.autograd documentation",
    )


def _without_graph(evidence: Evidence, unused: pd.DataFrame) -> pd.DataFrame:
    """Of the parameters that never ran in a training pass, those that an optimizer holds and that ran under no_grad."""
    parts = tuple(evidence.trace.coverage.get("ran_without_gradient", ()))
    if not parts or not evidence.trains:
        return unused.iloc[:0]
    inside = unused["owner"].map(
        lambda owner: any(owner == part or str(owner).startswith(f"{part}.") for part in parts)
    )
    return unused[inside.astype(bool)]


def _parameters(evidence: Evidence) -> pd.DataFrame:
    """Trainable parameters that are meant to learn: whether a gradient that is not zero ever reached them."""
    sites = evidence.sites
    table = sites[(sites["kind"] == "parameter") & sites["trainable"].fillna(False).astype(bool)].copy()
    if evidence.trains:
        table = table[table["optimized"].fillna(False).astype(bool)]
    rows = evidence.rows("weight_gradient")
    # Before any step a last layer or gate of zeros lets nothing through, which the first step mends.
    known = (rows["rms"] > 0) | (rows["nonfinite"] > 0) | (not evidence.trains)
    reached = rows[known]["site"].unique()
    none = set(table.index) - set(rows["site"].unique())
    table["reached"] = table.index.isin(reached)
    table["none"] = table.index.isin(none)
    return table


def _is_of_attention(evidence: Evidence, table: pd.DataFrame) -> pd.Series:
    """Whether a parameter is of a part that attention, which ran, uses without calling it, as its `out_proj`."""
    sites = evidence.sites
    ran = sites.index[(sites["op"] == "attention") & (sites["order"] >= 0)]
    return table["owner"].astype(str).str.rpartition(".")[0].isin(ran)


def _cut(evidence: Evidence, table: pd.DataFrame, missing: pd.DataFrame) -> Finding | None:
    """What stands below all that learns, where it is more than a bias whose gradient cancels."""
    first_reached = (
        int(table.loc[table["reached"] & (table["order"] >= 0), "order"].min())
        if (table["reached"] & (table["order"] >= 0)).any()
        else -1
    )
    below = missing[missing["order"] < first_reached]
    matrices = below[below["shape"].str.contains("x", regex=False)]
    if len(matrices) and not below["none"].any() and _are_zero(evidence, list(matrices.index)):
        return _both_zero(evidence, list(matrices.index))
    if len(below) and not below["none"].any() and _fades(evidence):
        return None
    if len(below) and (len(matrices) or below["none"].any()):
        last = below.sort_values("order").index[-1]
        owner = str(table.loc[last, "owner"]) or last
        kind = "none" if below["none"].all() else "none, or exactly zero,"
        return Finding(
            "missing-gradient",
            "error",
            owner,
            f"Nothing up to {owner} gets a gradient: {_counted(len(below), 'parameter')} meant to be trained"
            f" {'gets' if len(below) == 1 else 'get'} {kind} while those after it do.",
            {
                "step": evidence.clean[0],
                "of": "none" if below["none"].any() else "zero",
                "parameters": list(below.index)[:20],
                "count": len(below),
                "cut_after": owner,
            },
            "Look between this layer and the next for detach(), .data, no_grad(), a round trip through numpy, or a"
            " function without a slope (round, sign, argmax, a comparison).",
            "torch.autograd documentation, 'Locally disabling gradient computation'",
        )
    return None


def _fades(evidence: Evidence) -> bool:
    """Whether the gradient falls so far over the layers that it does reach that it may well end at exactly zero."""
    trend = evidence.trend("gradient", evidence.early, "norm")
    return trend is not None and 10.0**-trend.total <= evidence.thresholds["vanishing_error"]


def _are_zero(evidence: Evidence, names: list[str]) -> bool:
    weights = evidence.rows("weight", evidence.clean)
    own = weights[weights["site"].isin(names)]
    return len(own) > 0 and bool((own["rms"] == 0).all())


def _both_zero(evidence: Evidence, names: list[str]) -> Finding:
    """Factors of a product that are all zero: neither has a slope while the other is."""
    count = len(names)
    return Finding(
        "missing-gradient",
        "error",
        names[0],
        f"{listed(names)} {'is' if count == 1 else 'are'} exactly zero from the start, and so"
        f" {'is its' if count == 1 else 'are their'} gradient{'s' * (count > 1)} in every step: what"
        f" {'it is' if count == 1 else 'they are'} multiplied with is zero too.",
        {"step": evidence.clean[0], "of": "zero weights", "parameters": names[:20], "count": count},
        "Initialize them at random, as nn.init.normal_(weight, std=0.1) does: of the factors of a product at most one"
        " may begin at zero.",
        "Goodfellow et al. 2016, section 8.4",
    )


def _untrained(evidence: Evidence, table: pd.DataFrame, absent: pd.DataFrame) -> Iterator[Finding]:
    """Parameters that no backward pass reached although their modules ran: whole modules first, then single ones.

    A warning, since a head that was detached by mistake looks like a pooler that nobody asked for; an error where a
    loss is seen to be given what they put out, where a part of the loss has no graph, and where they are most of what
    is to be trained.
    """
    parts = _whole(table, absent)
    inside = absent[absent["owner"].isin(parts)]
    judged = judged_without_gradient(evidence, parts, list(inside.index))
    if judged is not None:
        yield judged
        inside = inside.iloc[:0]
        absent = absent[~absent["owner"].isin(parts)]
    if len(inside):
        names = list(inside.index)
        are, they, their = ("is", "it runs", "its") if len(parts) == 1 else ("are", "they run", "their")
        lot = "not trained at all" if evidence.trains else "without a gradient"
        cut = severed(evidence, "partly")
        number = f" A part of the loss, of {cut[2]:.3g} to {cut[3]:.3g}, is a number without a graph." if cut else ""
        most = evidence.trains and _elements(inside) >= _MOST_OF * _elements(table)
        yield Finding(
            "missing-gradient",
            "error" if cut or most else "warning",
            names[0],
            f"{listed(parts)} {are} {lot}: {they}, but no gradient came to any of {their} parameters in"
            f" {_counted(len(evidence.measured), 'measured step')} ({listed(names)}). The loss that is differentiated"
            f" does not depend on them.{number}",
            {"step": evidence.clean[0], "parameters": names[:20], "count": len(names), "modules": parts[:20]},
            "If it has a loss of its own, look between its output and what backward() is called on for detach(), item()"
            " or no_grad(); if nothing needs it, as with a pooler or an auxiliary head, freeze it.",
            "torch.autograd documentation",
        )
    rest = absent.drop(inside.index)
    if len(rest):
        names = list(rest.index)
        yield Finding(
            "missing-gradient",
            "warning",
            names[0],
            f"{_counted(len(names), 'trainable parameter')} {'gets' if len(names) == 1 else 'get'} no gradient although"
            f" the module{'' if rest['owner'].nunique() == 1 else 's'} ran: {listed(names)}.",
            {"step": evidence.clean[0], "parameters": names[:20], "count": len(names)},
            "If the loss is meant to depend on them, look for detach() or no_grad() behind them; if not, freeze them.",
            "torch.autograd documentation",
        )


def _elements(parameters: pd.DataFrame) -> int:
    return sum(math.prod(sizes(str(shape))) for shape in parameters["shape"])


def _whole(table: pd.DataFrame, absent: pd.DataFrame) -> list[str]:
    """Modules with a matrix that hold nothing but such parameters, in forward order."""
    matrices = set(absent.loc[absent["shape"].str.contains("x", regex=False), "owner"])
    others = set(table.loc[~table.index.isin(absent.index), "owner"])
    return [
        owner
        for owner in absent["owner"].unique()
        if owner and owner in matrices and not any(f"{other}.".startswith(f"{owner}.") for other in others)
    ]


def _cancelled(evidence: Evidence, table: pd.DataFrame, zero: pd.DataFrame) -> Iterator[Finding]:
    """Parameters whose gradient arrives and is exactly zero: nothing is cut off.

    That of a last bias is where the loss takes differences of outputs, as that of a critic or of pairs; it is no
    finding.
    """
    last = str(table.sort_values("order")["owner"].iloc[-1])
    biases = (zero["op"] == "bias") & zero["owner"].map(table[table["reached"]].groupby("owner").size()).gt(0)
    zero = zero[~(biases & (zero["owner"] == last))]
    if not len(zero):
        return
    first = of_first_step(evidence, table, zero)
    if first is not None:
        yield first
        return
    names = list(zero.index)
    only_biases = bool(biases.reindex(zero.index).all())
    why = "adds, as a normalization does" if only_biases else "gives, or multiplies it by zero"
    yield Finding(
        "missing-gradient",
        "note",
        names[0],
        f"The gradient of {_counted(len(names), 'trainable parameter')} arrives and is exactly zero in every step:"
        f" {listed(names)}. Nothing is cut off: what follows cancels what {'it' if len(names) == 1 else 'each'} {why}.",
        {"step": evidence.clean[0], "parameters": names[:20], "count": len(names)},
        "Build the layer with bias=False."
        if only_biases
        else "Look behind them for units that are dead or saturated, a gate or factor that stays zero, or underflow.",
        "torch.autograd documentation",
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
