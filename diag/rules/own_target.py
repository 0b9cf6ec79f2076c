"""A network that is compared with nothing but itself, and gives every sample the same."""

from __future__ import annotations

from diag.rules.alike import pairs_alike
from diag.rules.evidence import SIGNAL_ROLES, Evidence
from diag.rules.finding import Finding

_FEWEST = 3
_LEFT = 0.01
"""Of the variance over samples, and of it over the mean square, what is left where samples are told apart no more."""


def own_target(evidence: Evidence) -> Finding | None:
    """The loss is a distance between two outputs of the network, which is least where all outputs are one."""
    rows = evidence.rows("activation", evidence.clean)
    layers = rows[rows["role"].isin(SIGNAL_ROLES)]
    targets = rows[(rows["role"] == "target") & (rows["rms"] > 0)]
    if not len(layers) or targets["step"].nunique() < _FEWEST or not evidence.trains:
        return None
    site = str(layers.sort_values("order")["site"].iloc[-1])
    own = layers[layers["site"] == site]
    pairs = pairs_alike(targets, own)
    if set(pairs.loc[pairs["alike"], "step"]) != set(targets["step"]):
        return None
    by_step = own.groupby("step")[["sample_var", "rms"]].median()
    early, late = by_step.loc[evidence.early].median(), by_step.loc[evidence.late].median()
    before, after = early["sample_var"], late["sample_var"]
    if not (after < _LEFT * before and after < _LEFT * late["rms"] ** 2):
        return None
    return Finding(
        "collapsed-signal",
        "error",
        site,
        f"What {site} puts out is the same for all samples by now: the loss compares it with nothing but itself, and is"
        f" least there. Its variance over samples is {after:.1g}, {after / before:.0e} of what it was.",
        {"step": evidence.clean[0], "of": "own target", "before": float(before), "after": float(after)},
        "Give the loss what pushes different samples apart: negatives (InfoNCE), a variance and covariance term"
        " (VICReg), or a predictor and a target without a gradient (SimSiam, BYOL).",
        "Chen & He 2021, 'Exploring simple siamese representation learning', section 4.1; Bardes et al. 2022",
    )
