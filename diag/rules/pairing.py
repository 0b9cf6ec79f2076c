"""Targets that have nothing to do with the inputs they stand beside."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from diag.rules.answered import at_a_guess, beats_a_guess, is_late
from diag.rules.evidence import SIGNAL_ROLES, Evidence, chance_of_fall
from diag.rules.finding import Finding
from diag.rules.fitted import fits_nothing, fits_something
from diag.rules.noise import is_noise
from diag.rules.omissions import untaught
from diag.rules.registry import rule
from diag.rules.scales import guesses
from diag.trace.schema import BINARY, INDEXED
from diag.trace.shapes import sizes

_FEWEST_SCORES = 5
_MOST_COUNTED = 256
"""Predictions that are scored in a batch."""
_EACH_CLASS = 4
"""Predictions, for every class, from which a network that learns has learned something of the pairing."""
_STILL_FALLS = 0.01
_MANY_SCORES, _A_LITTLE = 30, 0.25
"""Batches in the second half of the steps of which no prediction fits its target; of all that the loss has fallen, how
much of that is in this half."""
_DRIVEN = 3.0
"""Times the limit, below zero, for predictions that are driven from their targets: a large bias gave -4.2, a term whose
sign was turned -40.7."""
_INTACT, _A_GUESS = 0.01, 1.1
"""Variance over samples over mean square of all layers, and times a guess's cross-entropy, of what is not broken."""
_OF_CLASSES = (*INDEXED, *BINARY)
_MOST_HEADS, _ENOUGH_SCORES = 4, 20
"""Losses of which one may have targets of its own, and from how many batches each is judged."""
_LOOK = (
    "Look at some inputs beside their targets, as the loss gets them: one of the two may be shuffled, sorted,"
    " filtered or shifted without the other, or the input does not determine the target. If they do belong"
    " together, train longer, and see whether one small batch can be learned by heart."
)
_SWAPPED = (
    "Look at which of the two is the positive: positives lie farther from their anchors than negatives do, as where"
    " both are swapped."
)
_TURNED = (
    "Look at the sign of every term of the loss: one that is made large rather than small, as a score that is added or"
    " a loss that is subtracted, drives predictions away from their targets. Labels may also be turned round."
)


@rule("unrelated-targets")
def unrelated_targets(evidence: Evidence) -> Iterator[Finding]:
    """Predictions fit their own targets no better than others of the batch, and the loss has come to a stand.

    For each scored batch the probe has the standardized sum z over its own pairs, among all ways to pair predictions
    and targets (Hoeffding 1951). Before a batch is trained on nothing is known of it, so that with targets that hold
    nothing of the inputs sum z / sqrt(batches) is standard normal. The second half of the steps counts. Far below zero
    targets are related, and predictions are driven from them.
    """
    told = list(untaught(evidence)) if evidence.trains else []
    yield from told
    steps = evidence.clean[len(evidence.clean) // 2 :]
    if told or not evidence.trains or evidence.alternates or evidence.acts or not steps:
        return
    losses = evidence.clean_losses
    losses = losses[losses.index >= steps[0]]
    if len(losses) < 2 * _FEWEST_SCORES or not _moves(evidence, steps):
        return
    scores = _scores(evidence, steps)
    limit = evidence.thresholds["unrelated_warning"]
    if (scores["z"] >= limit).any():
        alone = _of_one_head(evidence, losses)
        yield from [] if alone is None else [alone]
        return
    if not len(scores):
        return
    driven = float(scores["z"].max()) < -_DRIVEN * limit  # whatever else makes the loss fall
    if not driven and chance_of_fall(losses) / 2 < _STILL_FALLS and not _falls_regardless(evidence, losses, scores):
        return
    if not any(_suffices(evidence, str(site), count) for site, count in scores["scores"].items()):
        return
    best = scores.sort_values("z").iloc[-1]
    z, count = float(best["z"]), int(best["scores"])
    swapped = evidence.sites.loc[str(best.name), "op"] == "triplet_margin_loss" and z <= -limit
    worse = driven or swapped
    certain = z < evidence.thresholds["unrelated_error"] and _is_certain(evidence, str(best.name))
    yield Finding(
        "unrelated-targets",
        "error" if certain else "warning",
        str(best.name),
        (
            f"Predictions fit their own targets worse than other targets of the same batch: by {-z:.2f} standard errors"
            f" over {count} batches. What belongs to which input is learned, and then avoided."
            if worse
            else "Predictions fit their own targets no better than other targets of the same batch: by"
            f" {z:.2f} standard errors over {count} batches, where {limit:g} would show that anything was learned of"
            " which target belongs to which input."
        )
        + f" The loss stands at {losses.median():.3g}.",
        {
            **({"of": "worse"} if worse else {}),
            **({"able": True, "intact": _is_intact(evidence, steps)} if certain and _is_able(evidence) else {}),
            "step": steps[0],
            "z": z,
            "p": 0.5 * math.erfc(z / math.sqrt(2)),
            "batches": count,
            "loss": float(losses.median()),
        },
        (_SWAPPED if swapped else _TURNED) if worse else _LOOK,
        "Hoeffding 1951, theorem 2; Zhang et al. 2017, section 2.1, on random labels",
    )


def _falls_regardless(evidence: Evidence, losses: pd.Series, scores: pd.DataFrame) -> bool:
    """Whether a loss of classes still falls a little, while predictions from numbers have fit no target for so long
    that it can only be how often each class, or each class at each place, occurs.

    losses: of the second half of the steps.
    """
    best = scores.sort_values("z").iloc[-1]
    inputs = evidence.rows("activation", evidence.clean, ("input",))
    known = evidence.sites.loc[str(best.name), "op"] in _OF_CLASSES and len(inputs) > 0
    if not known or best["scores"] < _MANY_SCORES or not is_late(evidence, evidence.clean[-1]):
        return False
    start = float(evidence.clean_losses.iloc[:3].mean())
    before, after = float(losses.iloc[: len(losses) // 4].median()), float(losses.iloc[-(len(losses) // 4) :].median())
    return before - after < _A_LITTLE * (start - after)


def _of_one_head(evidence: Evidence, losses: pd.Series) -> Finding | None:
    """Of a few losses of classes one whose predictions have nothing to do with their targets from the first step to the
    last, where another's do: with what is adversarial they do at first."""
    table = _scores(evidence, evidence.clean, ["site", "call"]).reset_index()
    heads = table[table["scores"] >= _ENOUGH_SCORES]
    of_classes = heads[heads["site"].map(evidence.sites["op"]).isin(_OF_CLASSES)].sort_values("z")
    if not 2 <= len(heads) <= _MOST_HEADS or not len(of_classes) or not is_late(evidence, evidence.clean[-1]):
        return None
    worst = of_classes.iloc[0]
    site, z, count = str(worst["site"]), float(worst["z"]), int(worst["scores"])
    if z >= evidence.thresholds["unrelated_error"] or not _suffices(evidence, site, count):
        return None
    which = f"{site} (call {worst['call']})" if (table["site"] == site).sum() > 1 else site
    return Finding(
        "unrelated-targets",
        "error",
        site,
        f"Of {len(heads)} losses one is of targets that have nothing to do with the inputs: predictions that {which} is"
        f" given fit their own targets no better than other targets of the same batch, by {z:.2f} standard errors over"
        f" {count} batches; those of another loss do by {heads['z'].max():.3g}.",
        {
            "step": evidence.clean[0],
            "of": "one head",
            "z": z,
            "p": 0.5 * math.erfc(z / math.sqrt(2)),
            "batches": count,
            "loss": float(losses.median()),
        },
        _LOOK,
        "Hoeffding 1951, theorem 2; Zhang et al. 2017, section 2.1, on random labels",
    )


def _is_certain(evidence: Evidence, site: str) -> bool:
    """Whether it cannot be the task, the input, or what the network makes of it.

    A regression may learn its targets' mean for long before it learns more, and of tokens frequencies alone are
    learned for long, so that there were to be steps enough. Random numbers are there to try a network out. That tests
    tell no class right, or no number, makes it certain; that they do speaks against it.
    """
    # That predictions go with the classes of other samples may be chance where samples come in clusters: those that
    # are told right come first.
    if at_a_guess(evidence) is not None:
        return True
    if beats_a_guess(evidence) or fits_something(evidence):
        return False
    if fits_nothing(evidence) is not None:
        return True
    inputs = evidence.rows("activation", evidence.clean, ("input",))
    quick = evidence.sites.loc[site, "op"] in _OF_CLASSES and len(inputs) > 0
    if not quick and not is_late(evidence, evidence.clean[-1]):
        return False
    return not (len(inputs) > 0 and is_noise(inputs)) and _is_able(evidence) is not False


def _is_able(evidence: Evidence) -> bool | None:
    """Whether, before anything was learned, the network let through what tells samples apart: what a last layer gets
    suffices it to learn something, and what fades later fades for want of anything to learn. None if that is unknown;
    tables of embeddings alone let everything through.
    """
    spread = _spread(evidence, evidence.early)
    if math.isnan(spread):
        tables = evidence.rows("activation", evidence.early, ("embedding",))
        return True if len(tables) and not len(evidence.layers) else None
    return spread >= evidence.thresholds["unrelated_spread"]


def _is_intact(evidence: Evidence, steps: list[int]) -> bool:
    """Whether it still does so, and loses no more than a guess does: steps have not broken it."""
    known = guesses(evidence)
    if known is None or not _spread(evidence, steps) >= _INTACT:
        return False
    return float(known[0][known[0].index >= steps[0]].median()) <= _A_GUESS * known[1]


def _spread(evidence: Evidence, steps: list[int]) -> float:
    """Of the layer in which it is least, the variance over samples over the mean square."""
    layers = evidence.rows("activation", steps, SIGNAL_ROLES)
    return float((layers["sample_var"] / layers["rms"] ** 2).groupby(layers["site"]).median().min())


def _scores(evidence: Evidence, steps: list[int], by: Sequence[str] = ("site",)) -> pd.DataFrame:
    """Per loss, or per call of it: its z over these steps, and from how many scores; those of which nothing could be
    told are left out."""
    rows = evidence.rows("activation", steps, ("pairing",))
    rows = rows[rows["mean"] != 0]
    by_loss = rows.assign(site=rows["site"].str.removesuffix("[pairing]"), sum=rows["mean"] * rows["count"])
    table = by_loss.groupby(list(by))[["sum", "count"]].sum()
    table["z"] = table["sum"] / table["count"] ** 0.5
    table["scores"] = table["count"]
    return table[table["scores"] >= _FEWEST_SCORES]


def _suffices(evidence: Evidence, site: str, batches: float) -> bool:
    """Whether so many predictions were scored that, of so many classes, something could be told."""
    shape = sizes(str(evidence.sites.loc[site, "shape"]))
    if evidence.sites.loc[site, "op"] not in INDEXED or len(shape) < 2:
        return True
    return batches * min(shape[0], _MOST_COUNTED) * math.prod(shape[2:]) >= _EACH_CLASS * shape[1]


def _moves(evidence: Evidence, steps: list[int]) -> bool:
    """Whether the weights move enough for something to be learned, before a schedule takes the rate to nothing."""
    recent = evidence.parameters
    recent = recent[recent["step"].isin(steps)].dropna(subset=["update_ratio"])
    largest = recent.groupby("site")["update_ratio"].max()
    return bool(len(largest) and largest.median() >= evidence.thresholds["stalled_warning"])
