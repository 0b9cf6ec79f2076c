"""Units that compute the same and are told the same, and so stay the same."""

from __future__ import annotations

from collections.abc import Iterator

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.registry import rule


@rule("symmetric-units")
def symmetric_units(evidence: Evidence) -> Iterator[Finding]:
    """Rows of a weight matrix equal each other, and so do those of its gradient."""
    rows = evidence.frame[
        evidence.frame["kind"].isin(["weight", "weight_gradient"]) & evidence.frame["twin_units"].notna()
    ]
    rows = rows[rows["step"].isin(evidence.clean) & ~rows["owner"].isin(_exempt(evidence))]
    if not len(rows):
        return
    size = rows["shape"].str.split("x").str[0].astype(float)
    share = (rows["twin_units"] / size).rename("share")
    wide = rows.assign(share=share).pivot_table(index=["site", "step"], columns="kind", values="share")
    if not {"weight", "weight_gradient"} <= set(wide.columns):
        return
    both = wide[["weight", "weight_gradient"]].dropna().min(axis=1)
    limit = evidence.thresholds["symmetric_error"]
    lasting = both.groupby("site").agg(["median", "size"])
    twins = lasting[(lasting["median"] >= limit) & ((lasting["size"] > 1) | (len(evidence.clean) == 1))]
    if not len(twins):
        return
    site = min(twins.index, key=lambda name: (evidence.sites.loc[name, "order"], name))
    yield Finding(
        "symmetric-units",
        "error",
        str(site),
        f"{twins.loc[site, 'median']:.0%} of the rows of {site} equal another row, and so do their gradients: these"
        " units will never differ.",
        {
            "step": evidence.clean[0],
            "share": float(twins.loc[site, "median"]),
            "sites": [str(name) for name in twins.index][:20],
        },
        "Initialize the weights at random (he_normal, glorot_normal); only biases and the last layer of a residual"
        " branch may be constant.",
        "Goodfellow et al. 2016, section 8.4",
    )


def _exempt(evidence: Evidence) -> set[str]:
    """Embeddings, whose rarely used rows have no gradient; before any step, matrices of zeros, which it may part."""
    sites = evidence.sites
    exempt = set(sites.loc[sites["role"] == "embedding", "owner"])
    if not evidence.trains:
        weights = evidence.rows("weight")
        exempt |= set(weights.loc[(weights["rms"] == 0) & weights["twin_units"].notna(), "owner"])
    return exempt
