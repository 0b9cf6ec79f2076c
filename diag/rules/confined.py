"""Logits that cannot leave a small range: a cross-entropy of them has a floor, however long one trains."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from diag.rules.evidence import SIGNAL_ROLES, Evidence
from diag.rules.finding import Finding, Severity
from diag.rules.scales import guesses

_WIDTH = {"tanh": 2.0, "softsign": 2.0, "hardtanh": 2.0, "sigmoid": 1.0, "hardsigmoid": 1.0}
"""How far apart an activation's outputs may lie."""
_COSINES = ("normalize", "cosine_similarity")
_LOGITS = ("cross_entropy", "binary_cross_entropy_with_logits")
_EVEN = 1e-3
"""How equal the factors are by which a bounded output was multiplied, over columns and steps."""
_ROUNDED = 1.001
_APART = 2.5
"""How far apart logarithms of a softmax of cosines may lie: 2, and what the samples' own sums differ by."""
_BELOW = 1.02
"""Of the way from a guess to the floor: beyond it the floor was not where it was thought to be."""
_SMALL, _LONG, _NEAR = 0.05, 100, 0.9
"""A factor of logits that is small, the losses after which it shows, and how near to a guess's they then are."""
_SMALLER, _NEARER = 0.15, 0.97
"""The same of a factor that is less small."""
_STILL, _FEWEST = 0.05, 12
"""Of a guess's loss: what it falls by from the middle third of the steps to the last where it has come to its end."""


def confined(evidence: Evidence) -> Finding | None:
    """The cross-entropy is given bounded numbers: with C classes and logits at most R apart it cannot fall below
    log(1 + (C - 1) exp(-R)).

    An error where that floor is more than half of a guess's loss, or the loss lies there.
    """
    known = guesses(evidence)
    if known is None or len(known[0]) < _FEWEST:
        return None
    values, chance, site = known
    rows = evidence.rows("activation", evidence.clean)
    given = rows[(rows["site"] == site) & rows["op"].isin(_LOGITS)]
    if not len(given):
        return None
    return (
        _scaled(evidence, rows, given, values, chance)
        or _cosines(evidence, rows, given, values, chance)
        or _clamped(evidence, given, values, chance)
        or _tempered(evidence, given, values, chance)
    )


def _clamped(evidence: Evidence, given: pd.DataFrame, values: pd.Series, chance: float) -> Finding | None:
    """The logits are cut at both ends, by a clamp right before the loss."""
    site, op = str(given["site"].iloc[0]), str(given["op"].iloc[0])
    bounds = (evidence.trace.coverage.get("clamped_logits") or {}).get(site)
    if bounds is None or op != "cross_entropy":
        return None
    low, high = (float(one) for one in bounds)
    width = high - low
    floor = math.log1p((round(math.exp(chance)) - 1) * math.exp(-width))
    if not _lies_at(evidence, values, chance, floor, certain=floor >= evidence.thresholds["confined_error"] * chance):
        return None
    said = f"The logits are cut to between {low:.3g} and {high:.3g}"
    remedy = f"Give {op} what stands before the clamp."
    return _finding(evidence, site, "error", said, remedy, values, chance, floor, width)


def _tempered(evidence: Evidence, given: pd.DataFrame, values: pd.Series, chance: float) -> Finding | None:
    """The logits were divided by a large number, and the loss is still near that of a guess: they are, and their
    gradients, so much smaller than what the network puts out."""
    site = str(given["site"].iloc[0])
    scale = abs(float((evidence.trace.coverage.get("scaled_logits") or {}).get(site, 1.0)))
    last = float(values.iloc[-(len(values) // 3) :].median())
    if len(values) < _LONG or not any(
        scale <= small and last >= near * chance for small, near in ((_SMALL, _NEAR), (_SMALLER, _NEARER))
    ):
        return None
    apart = float((given["max"] - given["min"]).iloc[-(len(given) // 3) :].median())
    return Finding(
        "loss-not-decreasing",
        "error",
        site,
        f"The logits are multiplied by {scale:.3g} (divided by {1 / scale:.3g}) before {given['op'].iloc[0]}: they"
        f" lie {apart:.2g} apart, and the loss goes from {values.iloc[0]:.3g} to {last:.3g}, where a guess has"
        f" {chance:.3g}.",
        {"step": evidence.clean[0], "of": "confined", "scale": scale, "chance": chance, "last": last, "apart": apart},
        "Divide by a temperature of 1, or of 0.05 to 0.5 where logits are cosines.",
        "Hinton et al. 2015, section 2; Wu et al. 2018, 'Unsupervised feature learning', section 3.1, on temperatures",
    )


def _scaled(
    evidence: Evidence, rows: pd.DataFrame, given: pd.DataFrame, values: pd.Series, chance: float
) -> Finding | None:
    """A bounded activation, times one and the same number in every step, is what the loss is given."""
    first = given[given["step"] == given["step"].min()].iloc[0]
    before = rows[rows["op"].isin(list(_WIDTH)) & (rows["step"] == first["step"]) & (rows["order"] < first["order"])]
    before = before[before["count"] == first["count"]]
    if not len(before):
        return None
    last = before.iloc[-1]
    pairs = given.merge(rows[(rows["site"] == last["site"]) & (rows["call"] == last["call"])], on="step")
    pairs = pairs[pairs["var_y"] > 0]
    spread = np.sqrt(pairs["var_x"] / pairs["var_y"])
    factors = np.concatenate([spread, (pairs["max_x"] - pairs["min_x"]) / (pairs["max_y"] - pairs["min_y"])])
    factor = float(np.median(factors)) if len(factors) else 0.0
    if not factor > 0 or np.abs(factors / factor - 1).max() > _EVEN:
        return None
    op, width = str(last["op"]), factor * _WIDTH[str(last["op"])]
    # Of two classes in a binary loss only the one logit is moved, and by half of the width from 0.
    single = first["op"] != "cross_entropy"
    reach = (width / 2 if _WIDTH[op] == 2.0 else width) if single else width
    floor = math.log1p((round(math.exp(chance)) - 1) * math.exp(-reach))
    grave = floor >= evidence.thresholds["confined_error"] * chance
    if not _lies_at(evidence, values, chance, floor, certain=grave):
        return None
    times = "" if abs(factor - 1) < _EVEN else f", times {factor:.3g},"
    said = f"The logits are what {last['site']} ({op}) puts out{times} and lie at most {width:.3g} apart"
    remedy = f"Give {first['op']} what stands before the {op}, unscaled."
    return _finding(evidence, str(last["site"]), "error", said, remedy, values, chance, floor, width)


def _cosines(
    evidence: Evidence, rows: pd.DataFrame, given: pd.DataFrame, values: pd.Series, chance: float
) -> Finding | None:
    """Normalized vectors are compared, no layer follows, and nothing multiplies what comes of it.

    C directions that are spread evenly have cosines C / (C - 1) apart. Where each sample is told from the others of its
    batch some of them are alike, and the floor is no goal: a warning.
    """
    orders = rows.groupby(["site", "op", "role"])["order"].max().reset_index()
    last = orders[orders["role"].isin([*SIGNAL_ROLES, "attention", "embedding", "nonlinearity"])]["order"].max()
    behind = orders[orders["op"].isin(_COSINES) & (orders["order"] > last)]
    own = evidence.sites[evidence.sites["kind"] == "parameter"]
    learned = own["shape"].isin(["scalar", "1"]) & own["trainable"].fillna(False).astype(bool)
    classes = round(math.exp(chance))
    if not len(behind) or learned.any() or given["op"].iloc[0] != "cross_entropy":
        return None
    apart = float((given["max"] - given["min"]).max())
    exact = bool(given["max"].max() > 0)
    if max(float(given["max"].max()), -float(given["min"].min())) > _ROUNDED if exact else apart > _APART:
        return None
    floor = math.log1p((classes - 1) * math.exp(-classes / (classes - 1)))
    high = floor >= evidence.thresholds["confined_cosine_error"] * chance
    if not high or not _lies_at(evidence, values, chance, floor, certain=False):
        return None
    batch = f"{classes}x{classes}" == str(given["shape"].iloc[0])
    site = str(behind["site"].iloc[-1])
    said = f"The logits are cosines of normalized vectors ({site}), between -1 and 1"
    remedy = "Multiply the cosines by a scale of 10 to 30 (divide by a temperature of 0.05 to 0.1), or learn it."
    return _finding(evidence, site, "warning" if batch else "error", said, remedy, values, chance, floor, apart)


def _lies_at(evidence: Evidence, values: pd.Series, chance: float, floor: float, *, certain: bool) -> bool:
    """Whether the loss has come most of the way to its floor and stays there; it may not lie below."""
    third = len(values) // 3
    middle, last = float(values.iloc[third:-third].median()), float(values.iloc[-third:].median())
    way = (chance - last) / (chance - floor)
    if way > _BELOW:
        return False
    return certain or (way >= evidence.thresholds["confined_way"] and middle - last < _STILL * chance)


def _finding(
    evidence: Evidence,
    site: str,
    severity: Severity,
    said: str,
    remedy: str,
    values: pd.Series,
    chance: float,
    floor: float,
    apart: float,
) -> Finding:
    last = float(values.iloc[-(len(values) // 3) :].median())
    return Finding(
        "loss-not-decreasing",
        severity,
        site,
        f"{said}: the cross-entropy cannot fall below about {floor:.3g}, where a guess has {chance:.3g}, and goes from"
        f" {values.iloc[0]:.3g} to {last:.3g}.",
        {
            "step": evidence.clean[0],
            "of": "confined",
            "floor": floor,
            "chance": chance,
            "first": float(values.iloc[0]),
            "last": last,
            "apart": apart,
        },
        remedy,
        "Wang et al. 2017, 'NormFace', proposition 2: the bound of a softmax loss of normalized features",
    )
