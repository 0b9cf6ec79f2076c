"""Scales that come from outside the network's depth: of the input, and of the first loss."""

from __future__ import annotations

import math

import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding

_BEHIND = ("layer", "recurrent", "nonlinearity", "normalization", "embedding", "attention")


def unscaled_input(evidence: Evidence) -> Finding | None:
    """An input far larger than 1: an error where training has not coped, and nothing normalizes it first."""
    rows = evidence.rows("activation", evidence.early, ("input",)).sort_values("order")
    # A number that is given beside the batch, such as how many tokens it has, is no input of a layer.
    several = rows["shape"].astype("string").str.contains("x").fillna(True).astype(bool)
    rows = rows[several & (rows["rms"] >= evidence.thresholds["input_error"])]
    if not len(rows):
        return None
    first = rows.iloc[0]
    behind = evidence.rows("activation", evidence.early, _BEHIND)
    normalized = len(behind) and behind.sort_values("order")["role"].iloc[0] in ("normalization", "embedding")
    copes = evidence.is_half_solved and not far_from_chance(evidence)
    return Finding(
        "exploding-activation",
        "error" if evidence.trains and not normalized and not copes else "warning",
        str(first["site"]),
        f"The input {first['site']} has mean {first['mean']:.3g} and rms {first['rms']:.3g}, where weights are made for"
        " inputs of about 1.",
        {"step": int(first["step"]), "of": "input", "rms": float(first["rms"]), "mean": float(first["mean"])},
        "Standardize the input: subtract its mean and divide by its standard deviation over the training set.",
        "LeCun et al. 1998, 'Efficient BackProp', section 4.3",
    )


def guesses(evidence: Evidence) -> tuple[pd.Series, float, str] | None:
    """The cross-entropies by step, that of a guess, and the site of what they are given; None where there are none."""
    rows = evidence.rows("activation", evidence.clean, ("loss",)).sort_values(["step", "order", "call"])
    rows = rows[rows["op"] == "cross_entropy"]
    values = rows[rows["site"].str.endswith("[value]")].groupby("step")["mean"].first()
    given = rows[~rows["site"].str.endswith("[value]")]
    if not len(values) or not len(given):
        return None
    sizes = [int(size) for size in str(given["shape"].iloc[0]).split("x")]
    classes = max(2, sizes[0] if len(sizes) == 1 else sizes[1])
    chance = math.log(classes)
    # No mean of cross-entropies exceeds the logits' range by more than that: a larger one is a sum over the targets.
    most = float((given["max"] - given["min"]).max()) + chance
    if float(values.iloc[0]) > most:
        values = values * classes / float(given["count"].iloc[0])
    return values, chance, str(given["site"].iloc[0])


def far_from_chance(evidence: Evidence) -> list[Finding]:
    """The first cross-entropy is far above that of a guess, and the last one still above it: logits are too large."""
    known = guesses(evidence)
    if known is None:
        return []
    values, chance, site = known
    first, last = float(values.iloc[0]), float(values.iloc[-max(1, len(values) // 3) :].median())
    if first < evidence.thresholds["first_loss_error"] * chance or last < chance:
        return []
    return [
        Finding(
            "exploding-activation",
            "error",
            site,
            f"The first cross-entropy is {first:.3g}, where a guess has {chance:.3g}, and the last ones {last:.3g}: the"
            " logits are far too large from the start.",
            {"step": evidence.clean[0], "of": "output", "first": first, "chance": chance, "last": last},
            "Initialize the last layer, and what leads to it, smaller (he_normal, glorot_normal; 0.02 for embeddings),"
            " or normalize before it; standardize the input.",
            "Karpathy 2019, 'A recipe for training neural networks': verify loss @ init",
        )
    ]
