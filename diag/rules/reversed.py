"""Terms of a loss whose sign is turned: rewards that make what earned them rarer, squares and losses that are made
large."""

from __future__ import annotations

from typing import Any

import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding

_FEWEST, _NEARLY_ALL = 3, 0.9
_MANYFOLD = 10.0
"""Times as far below 0 as it began, for minus an absolute value."""
_BELOW = 1.0
"""How far below 0 a loss ends, in units of its first one, whose squares are made large."""
_OPTIMIZERS = "torch.optim documentation: optimizers minimize"


def reversed_term(evidence: Evidence) -> Finding | None:
    """Rewards, or squares of outputs, that stand with the wrong sign in nearly all backward passes that were read."""
    known = evidence.trace.coverage.get("terms") or {}
    losses = evidence.losses.dropna()
    if not known or not len(losses):
        return None
    found = _surrogate(known, losses) or _rewards(known, losses)
    if found is not None or evidence.alternates or evidence.acts:
        return found
    return (
        _upturned(known, losses)
        or _overlapping(known, losses)
        or _subtracted(evidence, known, losses)
        or _without_end(known, losses, "enlarged", "squares of outputs stand in the loss with a minus", "large")
        or (_without_end(known, losses, "lowered", "log-probabilities stand in the loss without a minus", "small"))
    )


def _often(count: int, known: dict[str, Any], passes: str = "looked") -> bool:
    return count >= max(_FEWEST, _NEARLY_ALL * known[passes])


def lowers_likelihoods(evidence: Evidence) -> bool:
    """Whether log-probabilities stand in the loss without a minus, in nearly all backward passes that were read."""
    known = evidence.trace.coverage.get("terms") or {}
    return bool(known) and _often(known.get("lowered", 0), known)


def _surrogate(known: dict[str, Any], losses: pd.Series) -> Finding | None:
    """The least of two is a bound from below, for what is to be made large; what is to be small needs the largest."""
    count = int(known.get("surrogates", 0))
    if not count or not _often(count, known):
        return None
    return Finding(
        "diverging-loss",
        "error",
        "loss",
        "The sign of the loss is turned: it is min(ratio * advantage, clip(ratio) * advantage), which is a bound from"
        f" below for what is to be made large, without a minus, in {count} of {known['looked']} backward passes that"
        " were read. What was rewarded is made less likely.",
        {"step": int(losses.index[0]), "of": "sign", "term": "surrogate", "passes": count},
        "Minimize the negative: -torch.min(ratio * advantage, ratio.clamp(1 - eps, 1 + eps) * advantage).mean().",
        "Schulman et al. 2017, 'Proximal policy optimization algorithms', equation 7",
    )


def _rewards(known: dict[str, Any], losses: pd.Series) -> Finding | None:
    count = sum(known["reversed"].values())
    compared = "rewarded" if known.get("rewarded") else "looked"  # of a short episode there are too few to be compared
    if not _often(count, known, compared):
        return None
    # Advantages and the returns that they are made of go together: now these, now those fit better.
    name = max(known["reversed"], key=known["reversed"].get)
    return Finding(
        "diverging-loss",
        "error",
        "loss",
        f"The sign of the loss is turned: it is the log-probabilities of actions times `{name}`, without a minus,"
        f" in {count} of {known[compared]} backward passes in which the two were compared. What was rewarded is made"
        " less likely.",
        {"step": int(losses.index[0]), "of": "sign", "term": name, "passes": count},
        f"Minimize the negative: -(log_prob * {name}).mean().",
        "Williams 1992, 'Simple statistical gradient-following algorithms', equation 4;"
        " torch.distributions documentation, 'Score function'",
    )


def _upturned(known: dict[str, Any], losses: pd.Series) -> Finding | None:
    """All that is minimized is losses and hinges, which are never negative, behind a minus."""
    if not _often(known.get("upturned", 0), known) or not losses.max() <= 0 or not losses.min() < 0:
        return None
    first, last = float(losses.iloc[0]), float(losses.iloc[-3:].median())
    if _often(known["absolute"], known) and not last < _MANYFOLD * first:  # a correlation may be made large on purpose
        return None
    return Finding(
        "diverging-loss",
        "error",
        "loss",
        "The sign of the loss is turned: it is made of losses, or hinges, that are never below 0, and stands with a"
        f" minus in {known['upturned']} of {known['looked']} backward passes that were read. It goes from {first:.3g}"
        f" to {last:.3g}: what is to be small is made large.",
        {"step": int(losses.index[0]), "of": "sign", "first": first, "last": last},
        "Remove the minus sign before the loss, or the maximize=True of the optimizer that needs none.",
        _OPTIMIZERS,
    )


def _overlapping(known: dict[str, Any], losses: pd.Series) -> Finding | None:
    """The overlap of predictions and targets is made small."""
    count = int(known.get("overlapping", 0))
    if not count or not _often(count, known):
        return None
    first, last = float(losses.iloc[0]), float(losses.iloc[-3:].median())
    return Finding(
        "diverging-loss",
        "error",
        "loss",
        "The sign of a term is turned: the overlap of predictions and targets (the sum of their product over the sum of"
        f" both, as of Dice or Jaccard) stands without a minus in {count} of {known['looked']} backward passes that"
        f" were read. The loss goes from {first:.3g} to {last:.3g}: predictions leave their targets.",
        {"step": int(losses.index[0]), "of": "sign", "term": "overlap", "first": first, "last": last, "passes": count},
        "Minimize 1 - dice.",
        "Milletari et al. 2016, 'V-Net', section 3",
    )


def _subtracted(evidence: Evidence, known: dict[str, Any], losses: pd.Series) -> Finding | None:
    """One of several losses is subtracted; an error where its predictions do not come to fit their targets."""
    for op, count in known.get("subtracted", {}).items():
        if count < _FEWEST or known["added"].get(op, 0) > (1 - _NEARLY_ALL) * count:
            continue
        sites = [str(site) for site in evidence.sites.index if str(site).endswith(f":{op}")]
        if not sites and evidence.trace.sites["model"].nunique() > 1:  # another model's
            continue
        steps = evidence.clean[len(evidence.clean) // 2 :]
        rows = evidence.rows("activation", steps, ("pairing",))
        rows = rows[rows["site"].isin([f"{site}[pairing]" for site in sites])]
        z = float((rows["mean"] * rows["count"]).sum() / rows["count"].sum() ** 0.5) if len(rows) else 0.0
        if z >= evidence.thresholds["unrelated_warning"]:
            continue
        return Finding(
            "diverging-loss",
            "error" if len(rows) or losses.iloc[-3:].median() < 0 else "warning",
            sites[0] if sites else "loss",
            f"The sign of a term is turned: {op} is subtracted in {count} backward passes that were read, and added in"
            f" {known['added'].get(op, 0)}, so that training makes it large, and nothing else trains against it"
            + (f": its predictions fit their own targets by {z:.2f} standard errors." if len(rows) else "."),
            {"step": int(losses.index[0]), "of": "sign", "op": op, "passes": count, "z": z if len(rows) else None},
            f"Add {op} rather than subtract it. Where a network is meant to be confused, as a domain is by reversed"
            " gradients, another optimizer must train what judges it.",
            _OPTIMIZERS,
        )
    return None


def _without_end(known: dict[str, Any], losses: pd.Series, name: str, stands: str, grows: str) -> Finding | None:
    """A term that has no bound on the side to which training pushes it, in a loss that has come far below 0."""
    first, last = float(losses.iloc[0]), float(losses.iloc[-3:].median())
    if not _often(known.get(name, 0), known) or not last < min(first, -_BELOW * abs(first)):
        return None
    return Finding(
        "diverging-loss",
        "error",
        "loss",
        f"The sign of a term is turned: {stands}, so that training makes them {grows} without end. The loss goes from"
        f" {first:.3g} to {last:.3g}.",
        {"step": int(losses.index[0]), "of": "sign", "first": first, "last": last},
        "Look at the sign of each term: an error, a penalty or a divergence, as -0.5 * (1 + log_var - mu**2 -"
        " exp(log_var)) of a VAE, is added; a log-likelihood or a reward is subtracted.",
        _OPTIMIZERS,
    )
