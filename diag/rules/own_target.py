"""A network that is compared with nothing but itself, and gives every sample the same."""

from __future__ import annotations

import pandas as pd

from diag.rules.alike import pairs_alike
from diag.rules.evidence import EARLY, LATE, SIGNAL_ROLES, Evidence
from diag.rules.finding import Finding
from diag.rules.reversed import lowers_likelihoods

_FEWEST = 3
_LEFT = 0.01
"""Of the variance over samples, and of it over the mean square, what is left where samples are told apart no more."""
_LEFT_FREE, _FALLEN, _FEATURES = 0.05, 0.15, 4
"""What is left of that share where only directions are compared, of it and of what it was; and how many features an
output has at the least whose direction says something."""
_NOTHING = 1e-4
"""Of the variance, and of that share, where nothing at all is left."""
_NEARLY_ALL = 0.95
_CLEARLY = 3.0
"""Standard deviations of the last losses by which a negative one lies below the first."""
_COMPARE = {"cosine_embedding_loss", "triplet_margin_loss", "hinge_embedding_loss"}


def own_target(evidence: Evidence) -> Finding | None:
    """The loss is a distance between two outputs of the network, which is least where all outputs are one."""
    rows = evidence.rows("activation", evidence.clean)
    layers = rows[rows["role"].isin(SIGNAL_ROLES)]
    if not len(layers) or not evidence.trains or evidence.acts or lowers_likelihoods(evidence):
        return None
    site = str(layers.sort_values("order")["site"].iloc[-1])
    own = layers[layers["site"] == site]
    by_step = own.groupby("step")[["sample_var", "rms"]].median()
    early, late = by_step.iloc[:EARLY].median(), by_step.iloc[-LATE:].median()
    before, after = early["sample_var"], late["sample_var"]
    if not (before > 0 and late["rms"] > 0):
        return None
    share, begun = after / late["rms"] ** 2, float((by_step["sample_var"] / by_step["rms"] ** 2).iloc[0])
    told = f"Its variance over samples is {after:.1g}, {after / before:.0e} of what it was."
    fallen = _has_fallen(evidence)
    if _compares_outputs(rows, own) and share < _LEFT_FREE and share < _FALLEN * begun and fallen:
        # What compares directions leaves the lengths of outputs free, so that more is left of their variance.
        told = f"Its variance over samples is {share:.1g} of its mean square, which was {begun:.1g}."
    elif not (
        (share < _NOTHING and after < _NOTHING * before and fallen and _judges_outputs_alone(rows, own))
        or (share < _LEFT and after < _LEFT * before and _is_own(rows, own))
    ):
        return None
    return Finding(
        "collapsed-signal",
        "error",
        site,
        f"What {site} puts out is the same for all samples by now: the loss compares it with nothing but itself, and is"
        f" least there. {told}",
        {"step": evidence.clean[0], "of": "own target", "before": float(before), "after": float(after)},
        "Give the loss what pushes different samples apart: negatives (InfoNCE), a variance and covariance term"
        " (VICReg), or a predictor and a target without a gradient (SimSiam, BYOL).",
        "Chen & He 2021, 'Exploring simple siamese representation learning', section 4.1; Bardes et al. 2022",
    )


def _is_own(rows: pd.DataFrame, own: pd.DataFrame) -> bool:
    """Whether what a loss takes for its targets is, in every step, the network's own output."""
    targets = rows[(rows["role"] == "target") & (rows["rms"] > 0)]
    pairs = pairs_alike(targets, own)
    steps = set(targets["step"])
    own_steps = set(pairs.loc[pairs["alike"], "step"])
    return len(own_steps) >= _FEWEST and len(own_steps) >= _NEARLY_ALL * len(steps)  # rounding may tell a few apart


def _compares_outputs(rows: pd.DataFrame, own: pd.DataFrame) -> bool:
    """Whether there are two outputs of several features in every step, and no loss but one that compares such."""
    calls = own.groupby("step")["call"].nunique()
    return bool((calls >= 2).all()) and _judges_outputs_alone(rows, own)


def _judges_outputs_alone(rows: pd.DataFrame, own: pd.DataFrame) -> bool:
    """Whether outputs have several features, and no loss was seen but such as compare them with one another."""
    losses = rows[rows["role"] == "loss"]
    several = bool((own["units"] >= _FEATURES).all())
    return own["step"].nunique() >= _FEWEST and several and set(losses["op"]) <= _COMPARE


def _has_fallen(evidence: Evidence) -> bool:
    """Whether the loss is half of what it was; or, below 0, clearly lower."""
    losses = evidence.clean_losses
    last = losses.iloc[-(len(losses) // 3) :]
    if len(losses) and (losses < 0).all():
        return bool(losses.iloc[0] - last.median() > _CLEARLY * last.std())
    return evidence.is_half_solved
