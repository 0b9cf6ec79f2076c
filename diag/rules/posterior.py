"""A variational autoencoder whose latent variables are the prior for every sample, or cut off from what decodes them:
nothing of the input is in them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.trace.operations import OF_LOSS

_FEWEST, _SHRUNK = 30, 0.2
"""Steps from which it is judged; what is left of the divergence that the first step had: small it may also begin."""
_LONG = 200
"""Steps after which it is one for certain, where it is not known what is reconstructed."""
_PULLED, _SAME = 5, 1e-5
"""Steps in which a gradient is that of the divergence alone; by how much ratios differ that are the same."""


def collapsed_posterior(evidence: Evidence) -> Finding | None:
    """Mean and logarithm of the variance of what is sampled go to zero: per latent variable the divergence is about

        KL = E[mean^2] / 2 + E[(deviation - 1)^2]  nats,

    the deviation being the exponential behind the layer. An error where what comes of it fits other samples as well,
    or, where that is not known, after many steps.
    """
    if not evidence.trains or len(evidence.clean) < _FEWEST or cut_off(evidence) is not None:
        return None
    for site, own, layers in _sampled(evidence):
        mean_square = (layers.groupby("step")["rms"].max() ** 2).reindex(own.index)
        divergence = (mean_square / 2 + (own["mean"] - 1) ** 2 + own["var"]).dropna()
        third = len(divergence) // 3
        if third < _FEWEST // 3:
            continue
        last = float(divergence.iloc[-third:].max())
        if last > evidence.thresholds["posterior_error"] or last > _SHRUNK * divergence.iloc[0]:
            continue
        return _finding(evidence, str(layers.sort_values("order")["site"].iloc[0]), site, divergence, last)
    return None


def cut_off(evidence: Evidence) -> Finding | None:
    """Nothing but the divergence comes back to the mean of what is sampled: its gradient is just a number times the
    mean, d/dm (m^2 / 2) = m, in every step. What is made of the samples has no part in it.
    """
    if not evidence.trains:
        return None
    for site, _, layers in _sampled(evidence):
        back = evidence.rows("gradient", evidence.clean)
        behind = back[back["role"].eq("layer") & (back["order"] > layers["order"].max())]
        if not len(behind) or behind.sort_values("order").groupby("step")["rms"].first().eq(0).any():
            continue  # what decodes has nothing to give back
        for layer, own in layers.groupby("site", sort=False):
            pairs = own.merge(back[back["site"] == layer], on=["step", "call"], suffixes=("", "_back"))
            pairs = pairs[(pairs["rms"] > 0) & (pairs["mean"] != 0)]
            factors = pairs["rms_back"] / pairs["rms"]
            same = (pairs["mean_back"] / pairs["mean"] / factors - 1).abs() < _SAME
            if len(pairs) < _PULLED or not same.all() or not (factors > 0).all():
                continue
            factor = float(factors.median())
            return Finding(
                "missing-gradient",
                "error",
                str(layer),
                f"Of what is sampled nothing comes back: the gradient of {layer} is {factor:.3g} times what it puts out"
                f" in all {len(pairs)} steps, which is that of the divergence alone. What is decoded is cut off from"
                f" {layer} and {site}.",
                {"step": evidence.clean[0], "of": "prior alone", "factor": factor, "steps": len(pairs)},
                "Keep the graph where it is sampled: mean + std * torch.randn_like(std), without .data, .detach(),"
                " .item(), numpy or no_grad; rsample() rather than sample().",
                "Kingma & Welling 2014, section 2.4: the reparameterization trick",
            )
    return None


def _sampled(evidence: Evidence) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Each deviation that is the exponential of something, by step, with the rows of the layers that it and its mean
    are made of, where layers follow that may decode."""
    rows = evidence.rows("activation", evidence.clean)
    sampled = rows[(rows["op"] == "exp") & ~rows["site"].str.contains(OF_LOSS, regex=True)]
    for site, own in sampled.groupby("site", sort=False):
        own = own.drop_duplicates("step").set_index("step")
        layers = _before(rows, own)
        if len(layers) and (rows["role"].eq("layer") & (rows["order"] > own["order"].max())).any():
            yield str(site), own, layers


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
    for_long = math.isnan(fit) and len(evidence.clean) >= _LONG
    said = f", and what is reconstructed fits other samples as well ({fit:.1f} standard errors)" if unrelated else ""
    return Finding(
        "collapsed-signal",
        "error" if unrelated or for_long else "warning",
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
