"""A variational autoencoder whose latent variables are the prior for every sample: nothing of the input is in them."""

from __future__ import annotations

import math

import pandas as pd

from diag.rules.evidence import OF_LOSS, Evidence
from diag.rules.finding import Finding

_FEWEST, _SHRUNK = 30, 0.2
"""Steps from which it is judged; what is left of the divergence that the first step had: small it may also begin."""


def collapsed_posterior(evidence: Evidence) -> Finding | None:
    """Mean and logarithm of the variance of what is sampled go to zero: per latent variable the divergence is about

        KL = E[mean^2] / 2 + E[(deviation - 1)^2]  nats,

    the deviation being the exponential behind the layer. An error where what comes of it fits other samples as well.
    """
    rows = evidence.rows("activation", evidence.clean)
    sampled = rows[(rows["op"] == "exp") & ~rows["site"].str.contains(OF_LOSS, regex=True)]
    if not evidence.trains or len(evidence.clean) < _FEWEST or not len(sampled):
        return None
    for site, own in sampled.groupby("site", sort=False):
        own = own.drop_duplicates("step").set_index("step")
        layers = _before(rows, own)
        if not len(layers) or not (rows["role"].eq("layer") & (rows["order"] > own["order"].max())).any():
            continue
        mean_square = (layers.groupby("step")["rms"].max() ** 2).reindex(own.index)
        divergence = (mean_square / 2 + (own["mean"] - 1) ** 2 + own["var"]).dropna()
        third = len(divergence) // 3
        if third < _FEWEST // 3:
            continue
        last = float(divergence.iloc[-third:].max())
        if last > evidence.thresholds["posterior_error"] or last > _SHRUNK * divergence.iloc[0]:
            continue
        return _finding(evidence, str(layers.sort_values("order")["site"].iloc[0]), str(site), divergence, last)
    return None


def _before(rows: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """The layers that the deviation is made of: as many numbers, or twice as many, and no other layer between."""
    start, first = own.index[0], own.iloc[0]
    below = rows[(rows["step"] == start) & (rows["role"] == "layer") & (rows["order"] < first["order"])]
    below = below.sort_values("order", ascending=False)
    sites: list[str] = []
    for _, one in below.iterrows():
        if one["count"] not in (first["count"], 2 * first["count"]) or len(sites) == 2:
            break
        sites.append(str(one["site"]))
    return rows[rows["site"].isin(sites)]


def _finding(evidence: Evidence, site: str, deviation: str, divergence: pd.Series, last: float) -> Finding:
    scores = evidence.rows("activation", evidence.clean, ("pairing",)).set_index("step")["mean"].sort_index()
    scores = scores.iloc[-(len(scores) // 3) :] if len(scores) >= 3 else scores
    fit = float(scores.mean() * math.sqrt(len(scores))) if len(scores) else math.nan
    unrelated = fit < evidence.thresholds["unrelated_warning"]
    said = f", and what is reconstructed fits other samples as well ({fit:.1f} standard errors)" if unrelated else ""
    return Finding(
        "collapsed-signal",
        "error" if unrelated else "warning",
        site,
        f"The posterior has collapsed: what {site} and {deviation} give is a standard normal for every sample"
        f" ({last:.1g} nats a latent variable in the last third of the steps, {divergence.iloc[0]:.1g} in the first"
        f" step){said}. The KL term outweighs the reconstruction.",
        {
            "step": evidence.clean[0],
            "of": "posterior",
            "divergence": last,
            "first": float(divergence.iloc[0]),
            "fit": fit if math.isfinite(fit) else None,
        },
        "Sum both terms over pixels and latent variables and average both over the batch (a mean over pixels beside a"
        " sum over latent variables weighs KL too much), lower its weight, or raise it from 0 over the first epochs.",
        "Bowman et al. 2016, section 3.1: KL cost annealing; Kingma & Welling 2014, equation 10",
    )
