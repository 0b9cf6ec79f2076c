"""Terms of a loss that is written out whose sign is turned: rewards that make what earned them rarer, squares that are
made large."""

from __future__ import annotations

from typing import Any

import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding

_FEWEST, _NEARLY_ALL = 3, 0.9
_BELOW = 1.0
"""How far below 0 a loss ends, in units of its first one, whose squares are made large."""
_OPTIMIZERS = "torch.optim documentation: optimizers minimize"


def reversed_term(evidence: Evidence) -> Finding | None:
    """Rewards, or squares of outputs, that stand with the wrong sign in nearly all backward passes that were read."""
    known = evidence.trace.coverage.get("terms") or {}
    losses = evidence.losses.dropna()
    if not known or not len(losses):
        return None
    found = _rewards(known, losses)
    if found is not None or evidence.alternates or evidence.acts:
        return found
    return _without_end(known, losses, "enlarged", "squares of outputs stand in the loss with a minus", "large") or (
        _without_end(known, losses, "lowered", "log-probabilities stand in the loss without a minus", "small")
    )


def _often(count: int, known: dict[str, Any]) -> bool:
    return count >= max(_FEWEST, _NEARLY_ALL * known["looked"])


def _rewards(known: dict[str, Any], losses: pd.Series) -> Finding | None:
    for name, count in known["reversed"].items():
        if not _often(count, known):
            continue
        return Finding(
            "diverging-loss",
            "error",
            "loss",
            f"The sign of the loss is turned: it is the log-probabilities of actions times `{name}`, without a minus,"
            f" in {count} of {known['looked']} backward passes that were read. What was rewarded is made less likely.",
            {"step": int(losses.index[0]), "of": "sign", "term": name, "passes": count},
            f"Minimize the negative: -(log_prob * {name}).mean().",
            "Williams 1992, 'Simple statistical gradient-following algorithms', equation 4;"
            " torch.distributions documentation, 'Score function'",
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
