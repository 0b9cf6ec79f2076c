"""Units that compute the same and are told the same, and so stay the same."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, milder
from diag.rules.registry import rule

_CONSTANT = 0.9999
"""Of mean over rms, where all weights are one number."""
_ALL = 0.99
_FEWEST_ELEMENTS = 256
"""Of fewer, the mean is far from zero by chance."""


@rule("symmetric-units")
def symmetric_units(evidence: Evidence) -> Iterator[Finding]:
    """Rows of a weight matrix equal each other, and so do those of its gradient."""
    rows = evidence.frame[
        evidence.frame["kind"].isin(["weight", "weight_gradient"]) & evidence.frame["twin_units"].notna()
    ]
    rows = rows[rows["step"].isin(evidence.clean) & ~rows["owner"].isin(_exempt(evidence))]
    twins = _twins(evidence, rows) if len(rows) else None
    found = twins or _one_sign(evidence)
    if found is None:
        return
    copes = evidence.copes(evidence.thresholds["copes_fall"] * (2 if found.evidence.get("of") == "sign" else 1))
    # Where all units are the same the loss falls too, as that of a single one.
    yield milder(found) if copes and found.evidence.get("share", 0.0) < _ALL else found


def _twins(evidence: Evidence, rows: pd.DataFrame) -> Finding | None:
    size = rows["shape"].str.split("x").str[0].astype(float)
    share = (rows["twin_units"] / size).rename("share")
    wide = rows.assign(share=share).pivot_table(index=["site", "step"], columns="kind", values="share")
    if not {"weight", "weight_gradient"} <= set(wide.columns):
        return None
    both = wide[["weight", "weight_gradient"]].dropna().min(axis=1)
    limit = evidence.thresholds["symmetric_error"]
    lasting = both.groupby("site").agg(["median", "size"])
    twins = lasting[(lasting["median"] >= limit) & ((lasting["size"] > 1) | (len(evidence.clean) == 1))]
    if not len(twins):
        return None
    site = evidence.in_order(twins.index)[0]
    # Rows of zeros that get no gradient at all are alike for another reason, which stands elsewhere.
    own = evidence.frame[evidence.frame["site"].eq(site) & evidence.frame["step"].isin(evidence.clean)]
    empty = not (own.loc[own["kind"].isin(["weight", "weight_gradient"]), "rms"] > 0).any()
    return Finding(
        "symmetric-units",
        "warning" if empty else "error",
        str(site),
        f"{twins['median'][site]:.0%} of the rows of {site} equal another row, and so do their gradients: these"
        " units will never differ.",
        {
            "step": evidence.clean[0],
            "share": float(twins["median"][site]),
            "sites": [str(name) for name in twins.index][:20],
            **({"of": "zero"} if empty else {}),
        },
        "Initialize the weights at random (he_normal, glorot_normal); only biases and the last layer of a residual"
        " branch may be constant.",
        "Goodfellow et al. 2016, section 8.4",
    )


def _one_sign(evidence: Evidence) -> Finding | None:
    """Most matrices begin with weights of one sign: each unit computes nearly the same sum of its inputs.

    Of independent weights around 0 the mean is about rms / sqrt(elements); of uniform ones from 0 to 1 it is 0.87 rms.
    """
    rows = evidence.rows("weight", evidence.clean[:1])
    embeddings = evidence.sites.loc[evidence.sites["role"] == "embedding", "owner"]
    rows = rows[rows["shape"].str.contains("x", regex=False) & (rows["rms"] > 0) & ~rows["owner"].isin(embeddings)]
    rows = rows[rows["count"] >= _FEWEST_ELEMENTS].sort_values(["order", "site"])
    sided = rows[rows["mean"].abs() / rows["rms"] >= evidence.thresholds["one_sign_error"]]
    if len(rows) < 2 or len(sided) <= 0.5 * len(rows):
        return None
    first = sided.iloc[0]
    ratio = abs(float(first["mean"])) / float(first["rms"])
    return Finding(
        "symmetric-units",
        "error",
        str(first["site"]),
        f"The weights of {first['site']} have mean {first['mean']:.2g} and rms {first['rms']:.2g}, and so in"
        f" {len(sided)} of {len(rows)} matrices: with weights of one sign all units compute nearly the same.",
        {
            "step": evidence.clean[0],
            "of": "sign",
            "ratio": ratio,
            # All of one number: every unit is the same as every other.
            **({"share": 1.0} if ratio > _CONSTANT else {}),
            "sites": [str(one) for one in sided["site"]][:20],
        },
        "Draw the weights around zero: he_normal or glorot_normal, or uniform from -r to r.",
        "LeCun et al. 1998, section 4.6; Glorot & Bengio 2010, eq. 1 and 16",
    )


def _exempt(evidence: Evidence) -> set[str]:
    """Embeddings, whose rarely used rows have no gradient; before any step, matrices of zeros, which it may part."""
    sites = evidence.sites
    exempt = set(sites.loc[sites["role"] == "embedding", "owner"])
    if not evidence.trains:
        weights = evidence.rows("weight")
        exempt |= set(weights.loc[(weights["rms"] == 0) & weights["twin_units"].notna(), "owner"])
    return exempt
