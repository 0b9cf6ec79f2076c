"""Activations that explode, fade or lose their spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from diag.rules.axes import averaged
from diag.rules.biased import biased, made_by_bias
from diag.rules.evidence import Evidence, Trend
from diag.rules.finding import Finding, milder
from diag.rules.flattened import flattened
from diag.rules.own_target import own_target
from diag.rules.passes import by_layer, in_each_pass
from diag.rules.posterior import collapsed_posterior
from diag.rules.registry import rule
from diag.rules.scales import at_the_mean, far_from_chance, is_open, learned, unscaled_input, unseen_input
from diag.rules.weak import faint, lost_within, rises_from_nothing, small_weights, spreads
from diag.trace.schema import INDEXED

_AS_LARGE = 2.0
"""Times the size of what is wanted of a network that learns it: no layer is too large."""
_HE = "He et al. 2015, section 2.2; Glorot & Bengio 2010, section 4.2"
_FEWEST_EMBEDDED = 5
"""Measurements of what is embedded that show it to be the same for all."""
_TINY_INPUT, _ALIKE_INPUT = 0.05, 1e-5
"""The rms of an input that biases drown; its variance over samples over its mean square, where an offset drowns it."""
_STRONG_DROPOUT, _HEAVY_DROPOUT = 0.4, 0.82
"""Of one among several; of one alone where there is much left to learn: MobileNetV2 of transformers has 0.8."""
_ALL, _FEWEST = 0.999, 12
"""Of a layer's output that is zero throughout, no dropout is the cause."""
_SLOW = 0.15
"""The relative fall of the loss that so much dropout does not leave."""
_SPREAD_ROLES = ("layer", "recurrent", "nonlinearity", "normalization")


@rule("exploding-activation")
def exploding_activation(evidence: Evidence) -> Iterator[Finding]:
    """Activations grow over depth, or a hidden layer's are far beyond the input's, or they grow over the steps."""
    shifted = biased(evidence)
    if shifted is not None:
        yield shifted
        return
    unscaled = unscaled_input(evidence)
    if unscaled is not None and unscaled.severity == "error":
        yield unscaled
        return
    found = list(_grown(evidence))
    if not any(one.severity == "error" for one in found):
        found = far_from_chance(evidence) or found
    yield from found or ([unscaled] if unscaled is not None else [])


def _grown(evidence: Evidence) -> Iterator[Finding]:
    """Over depth, or beyond the input."""
    evidence = by_layer(evidence)
    limit = evidence.thresholds
    trends = [
        trend for steps in (evidence.early, evidence.late) if (trend := evidence.trend("activation", steps, "rms"))
    ]
    for trend in sorted(trends, key=lambda one: -one.total)[:1]:
        growth = 10**trend.total
        unwanted = not _is_wanted(evidence, 10 ** trend.values.max())
        if growth >= limit["exploding_activation_warning"] and not rises_from_nothing(trend) and unwanted:
            onset = evidence.onset(
                "activation", "rms", evidence.clean, _at_least(limit["exploding_activation_warning"])
            )
            site = trend.sites[int(np.argmax(np.diff(trend.values))) + 1]
            bias = made_by_bias(evidence, site)
            said = (
                f" The bias of {site}, of rms {bias:.3g}, makes up what it puts out in the first step." if bias else ""
            )
            yield Finding(
                "exploding-activation",
                "error" if growth >= limit["exploding_activation_error"] else "warning",
                site,
                f"Activations grow from rms {10 ** trend.values[0]:.1e} at {trend.sites[0]} to"
                f" {10 ** trend.values[-1]:.1e} at {trend.sites[-1]}: {trend.told()}.{said}",
                {"step": onset, "layers": len(trend.sites), "factor_per_layer": trend.factor, "growth": growth},
                f"Initialize the bias of {site} with 0."
                if bias
                else "Scale the initialization down (he_normal for ReLU, glorot_normal for tanh), add normalization, or"
                " scale residual branches.",
                _HE,
            )
            return
    yield from _beyond_input(evidence)


def _is_wanted(evidence: Evidence, rms: float) -> bool:
    """Whether what has at most this rms is no larger than the numbers that are wanted of a network that learns them."""
    rows = evidence.rows("activation", evidence.clean, ("target",))
    rows = rows[~rows["site"].str.removesuffix("[target]").map(evidence.sites["op"]).isin(INDEXED)]
    return len(rows) > 0 and evidence.is_half_solved and rms <= _AS_LARGE * float(rows["rms"].median())


def _at_least(growth: float) -> Callable[[Trend], bool]:
    return lambda trend: 10**trend.total >= growth


def _beyond_input(evidence: Evidence) -> Iterator[Finding]:
    """A hidden layer, not the last one, whose rms is a thousand times the input's and a thousand times 1."""
    limit = evidence.thresholds["exploding_activation_error"]
    # Steps in which the run breaks down tell of it too, as long as their numbers are finite.
    steps = [step for step in evidence.measured if evidence.first_bad_step is None or step <= evidence.first_bad_step]
    rows = evidence.rows("activation", steps, ("layer", "recurrent"))
    hidden = rows[rows["order"] < rows["order"].max()]
    if not len(hidden):
        if _is_wanted(evidence, float(rows["rms"].max())):
            return
        hidden = rows
    scale = max(1.0, np.nan_to_num(evidence.input_rms(), nan=1.0))
    wild = hidden[hidden["rms"] >= limit * scale].sort_values(["step", "order"])
    wild = wild[[not _is_shut(evidence, one) for _, one in wild.iterrows()]] if len(wild) else wild
    if len(wild):
        first = wild.iloc[0]
        given = unseen_input(evidence, first)
        if given is not None:
            yield given
            return
        own = hidden[(hidden["site"] == first["site"]) & (hidden["call"] == first["call"])].sort_values("step")
        begin = own.iloc[0]
        was_large = begin["step"] < first["step"] and begin["rms"] > 0.2 * first["rms"]
        since = f"; it was {begin['rms']:.1e} in step {begin['step']}" if was_large else ""
        yield Finding(
            "exploding-activation",
            "warning" if learned(evidence) else "error",
            str(first["site"]),
            f"Activations reach rms {first['rms']:.1e} at {first['site']} in step {first['step']},"
            f" {_times(evidence, first['rms'], scale)}{since}.",
            {"step": int(first["step"]), "rms": float(first["rms"]), "input_rms": evidence.input_rms()},
            "Scale the initialization or the learning rate down, or add normalization; in a recurrent net initialize"
            " the recurrent weights orthogonally and clip gradients.",
            _HE,
        )


def _times(evidence: Evidence, rms: float, scale: float) -> str:
    """How far beyond the input, or 1 where none was seen."""
    what = "1" if math.isnan(evidence.input_rms()) else "the input's scale"
    return f"{rms / scale:.0e} times {what}"


def _is_shut(evidence: Evidence, one: pd.Series) -> bool:
    """Whether the activation right behind lets next to nothing of it through: then its size is no one's."""
    behind = evidence.rows("activation", [int(one["step"])])
    behind = behind[behind["order"] > one["order"]].sort_values("order").head(1)
    return bool(len(behind) and behind["role"].iloc[0] == "nonlinearity" and behind["rms"].iloc[0] < 0.1 * one["rms"])


@rule("collapsed-signal")
def collapsed_signal(evidence: Evidence) -> Iterator[Finding]:
    """Activations fade over depth, no longer differ between samples, or are dropped."""
    found = (
        _constant_input(evidence)
        or _tiny_input(evidence)
        or _offset_input(evidence)
        or averaged(evidence)
        or _dropped(evidence)
        or flattened(evidence)
        or collapsed_posterior(evidence)
        or own_target(evidence)
        or small_weights(evidence)
        or _faded(evidence)
        or faint(evidence)
        or lost_within(evidence)
        or _same_for_all(evidence)
    )
    if found is None:
        return
    copes = found.evidence["of"] in ("scale", "spread") and evidence.copes(evidence.thresholds["copes_fall"])
    yield milder(found) if copes else found


def _constant_input(evidence: Evidence) -> Finding | None:
    """No input differs between samples, and neither does what the first layer makes of them.

    The second part is for what cannot be measured, such as token ids beside a mask of ones.
    """
    rows = evidence.rows("activation", evidence.clean, ("input",))
    if set(rows["site"]) & set(evidence.named("computed_inputs")):  # another network's output is that one's matter
        return None
    spread = rows["sample_var"].dropna()
    behind = evidence.rows("activation", evidence.clean, ("layer", "recurrent", "embedding"))
    behind = behind[behind["role"].eq("embedding") | behind["order"].eq(behind["order"].min())]
    if not len(rows):
        return _constant_ids(behind[behind["role"].eq("embedding")])
    if not len(spread) or spread.max() > 0 or behind["sample_var"].max() > 0:
        return None
    return _one_sample(
        rows,
        f"its variance over samples is 0 in all {len(spread)} measurements.",
        "Look at what the data pipeline returns: a batch of one repeated sample, or a constant, teaches nothing.",
    )


def _constant_ids(embedded: pd.DataFrame) -> Finding | None:
    """What is embedded of ids is the same for every sample, and nothing else comes in that could tell them apart."""
    spread = embedded["sample_var"].dropna()
    if len(spread) < _FEWEST_EMBEDDED or len(spread) < len(embedded) or spread.max() > 0:
        return None
    return _one_sample(
        embedded,
        f"what is embedded for its ids has a variance over samples of 0 in all {len(spread)} measurements.",
        "Look at what the data pipeline returns: ids that are all padding, or one and the same, teach nothing.",
    )


def _one_sample(rows: pd.DataFrame, why: str, remedy: str) -> Finding:
    """Every sample is the same, by these rows."""
    return Finding(
        "collapsed-signal",
        "error",
        str(rows.sort_values("order")["site"].iloc[0]),
        f"Every sample of the input is the same: {why}",
        {"step": int(rows["step"].min()), "of": "input", "rms": float(rows["rms"].median())},
        remedy,
        "Karpathy 2019, 'A recipe for training neural networks', step 1: become one with the data",
    )


def _tiny_input(evidence: Evidence) -> Finding | None:
    """The input is so small that biases drown it, and the loss falls no lower than that of the targets' mean."""
    rms = evidence.input_rms()
    if not 0 < rms < _TINY_INPUT or (evidence.loss_falls() and not at_the_mean(evidence)):
        return None
    rows = evidence.rows("activation", evidence.early, ("input",))
    if set(rows["site"]) & set(evidence.named("computed_inputs")):  # another network's output is that one's matter
        return None
    no_use = "falls no lower than that of the targets' mean" if evidence.loss_falls() else "does not fall"
    return Finding(
        "collapsed-signal",
        "error" if evidence.trains else "warning",
        str(rows.sort_values("order")["site"].iloc[0]),
        f"The input's rms is {rms:.1e}: next to weights and biases of usual size it is nothing, and the loss {no_use}.",
        {"step": int(rows["step"].min()), "of": "input", "rms": rms},
        "Standardize the input: subtract its mean and divide by its standard deviation over the training set.",
        "LeCun et al. 1998, 'Efficient BackProp', section 4.3",
    )


def _offset_input(evidence: Evidence) -> Finding | None:
    """Samples differ by next to nothing of the input's size."""
    rows = evidence.rows("activation", evidence.clean, ("input",))
    rows = rows[rows["rms"] > 0]
    spread = (rows["sample_var"] / rows["rms"] ** 2).groupby(rows["site"]).max()
    alike = spread[(spread > 0) & (spread < _ALIKE_INPUT)]
    if not len(alike):
        return None
    site = str(alike.index[0])
    first = rows[rows["site"] == site].iloc[0]
    return Finding(
        "collapsed-signal",
        "error" if evidence.trains else "warning",
        site,
        f"The samples of {site} differ by {float(alike.iloc[0]) ** 0.5:.0e} of its rms, {first['rms']:.3g} with mean"
        f" {first['mean']:.3g}: what tells them apart drowns in the offset.",
        {"step": int(rows["step"].min()), "of": "input", "rms": float(first["rms"]), "spread": float(alike.iloc[0])},
        "Standardize the input: subtract its mean and divide by its standard deviation over the training set.",
        "LeCun et al. 1998, 'Efficient BackProp', section 4.3",
    )


def _dropped(evidence: Evidence) -> Finding | None:
    """A dropout sets nearly all of what comes to it to zero; what was zero before is not its doing."""
    rows = evidence.rows("activation", evidence.clean).sort_values(["step", "order", "call"])
    before = rows.groupby("step")["zero_fraction"].shift(1).fillna(0.0)
    dropped = ((rows["zero_fraction"] - before) / (1 - before).where(before < 1)).clip(lower=0)
    rows = rows.assign(dropped=dropped, seen=_is_seen(rows))
    named = {"zero": ("dropped", "median"), "order": ("order", "min"), "step": ("step", "min"), "seen": ("seen", "all")}
    share = in_each_pass(evidence, rows[rows["role"] == "dropout"]).groupby(["site", "call"]).agg(**named)
    share = share.sort_values("order")
    inside = rows[rows["role"].isin(["layer", "normalization"])].groupby(["site", "call"]).agg(**named)
    inside = inside[inside["zero"].between(evidence.thresholds["dropped_inside_error"], _ALL)].sort_values("order")
    if len(inside) and len(evidence.clean_losses) >= _FEWEST and evidence.trains and not evidence.copes(_SLOW):
        return _dropped_at(inside)
    single = share[share["zero"] >= evidence.thresholds["dropped_share_error"]]
    in_a_row = None if len(single) else _dropped_in_a_row(evidence, share[share["zero"] >= _STRONG_DROPOUT])
    if in_a_row is not None:
        return in_a_row
    if not len(single) and evidence.trains and is_open(evidence):
        single = share[(share["zero"] >= _HEAVY_DROPOUT) & share["seen"]]
    return _dropped_at(single) if len(single) else None


def _is_seen(rows: pd.DataFrame) -> pd.Series:
    """Whether what stands before a row, in its step, is what came to it: of as many elements, or without zeros."""
    steps = rows.groupby("step")
    alike = steps["count"].shift(1) == rows["count"]
    return alike | steps["role"].shift(1).isin(["embedding", "layer", "normalization", "input"])


def _dropped_at(share: pd.DataFrame) -> Finding:
    """At the first of these sites."""
    first = share.iloc[0]
    return Finding(
        "collapsed-signal",
        "error",
        str(share.index[0][0]),
        f"Dropout sets {first['zero']:.1%} of the signal to zero at {share.index[0][0]}: too little is left to learn"
        " from.",
        {"step": int(first["step"]), "of": "dropout", "zero_fraction": float(first["zero"])},
        "Lower the dropout probability: 0.1 to 0.5 are usual.",
        "Srivastava et al. 2014, section A.4",
    )


def _dropped_in_a_row(evidence: Evidence, share: pd.DataFrame) -> Finding | None:
    """Strong dropouts one after the other, and a loss that does not fall."""
    left = math.prod(1 - zero for zero in share["zero"].to_numpy(dtype=float))
    if len(share) < 2 or left > evidence.thresholds["dropped_chain_error"] or not evidence.crawls():
        return None
    site = str(share.index[0][0])
    return Finding(
        "collapsed-signal",
        "error",
        site,
        f"{len(share)} dropouts from {site} on, of {float(share['zero'].median()):.0%} each, leave {left:.1%} of the"
        " signal, and the loss hardly falls.",
        {"step": int(share["step"].min()), "of": "dropout", "left": left, "sites": len(share)},
        "Lower the dropout probability: 0.1 to 0.5 are usual.",
        "Srivastava et al. 2014, section A.4",
    )


def _faded(evidence: Evidence) -> Finding | None:
    evidence, limit = by_layer(evidence), evidence.thresholds["collapsed_scale_error"]
    for steps in (evidence.early, evidence.late):
        trend = evidence.trend("activation", steps, "rms")
        if trend is not None and 10**trend.total <= limit:
            return Finding(
                "collapsed-signal",
                "error",
                trend.sites[int(np.argmin(np.diff(trend.values))) + 1],
                f"Activations fade from rms {10 ** trend.values[0]:.1e} at {trend.sites[0]} to"
                f" {10 ** trend.values[-1]:.1e} at {trend.sites[-1]}: {trend.told()}.",
                {
                    "step": steps[0],
                    "of": "scale",
                    "layers": len(trend.sites),
                    "factor_per_layer": trend.factor,
                    "ratio": 10**trend.total,
                },
                "Scale the initialization up: he_normal for ReLU, glorot_normal for tanh, lecun_normal for SELU or no"
                " activation; or add normalization.",
                _HE,
            )
    return None


def _walks_in_step(evidence: Evidence) -> bool:
    """Whether samples are alike in each of several passes as they come in, and not from the start: environments whose
    agent has made up its mind are in the same state."""
    inputs = evidence.rows("activation", evidence.measured, ("input",))
    spread = inputs.groupby("step")[["sample_var", "call"]].max()
    last = spread.reindex(evidence.late)
    return bool(last["sample_var"].median() == 0 and (last["call"] > 0).all() and (spread["sample_var"] > 0).any())


def _same_for_all(evidence: Evidence) -> Finding | None:
    """From some site to the output, samples differ by next to nothing."""
    table = spreads(evidence, evidence.late, _SPREAD_ROLES)
    limit = evidence.thresholds
    low = (table["ratio"] < limit["collapsed_spread_warning"]).to_numpy()
    if len(table) < 3 or not low[-2:].all() or _walks_in_step(evidence):
        return None
    start = len(low) - int(np.argmin(low[::-1])) if not low.all() else 0
    run = table.iloc[start:]
    before = spreads(evidence, evidence.early, _SPREAD_ROLES).reindex(run.index)["ratio"]
    step = evidence.late[0] if before.isna().any() or before.max() >= limit["collapsed_spread_warning"] else 0
    site = str(run.index[0][0])
    most = limit["collapsed_spread_crawl_error"] if evidence.stuck else limit["collapsed_spread_error"]
    return Finding(
        "collapsed-signal",
        "error" if run["ratio"].max() < most else "warning",
        site,
        f"From {site} to the output all samples look alike: their variance is {run['ratio'].max():.0e} of the mean"
        " square.",
        {"step": step, "of": "spread", "spread": float(run["ratio"].max()), "sites": len(run)},
        "Let the signal through: he_normal or glorot_normal initialization with zero biases, normalization, or residual"
        " connections.",
        "Schoenholz et al. 2017, section 3 (correlations converge to 1)",
    )
