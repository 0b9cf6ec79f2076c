"""What a loss is given: predictions and targets that cannot go together, however long one trains."""

from __future__ import annotations

import math

import pandas as pd

from diag.rules.alike import put_out_by
from diag.rules.axes import across_samples, odd_axis, softmax_over_samples
from diag.rules.clipped_logits import clipped_logits
from diag.rules.confined import confined
from diag.rules.empty_masks import empty_masks
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.flat import flat
from diag.rules.labels import several_classes, single_class, smoothed
from diag.rules.left_out import ignored_class, of_one_sample, padding_learned, partly_read
from diag.rules.modes import never_trained
from diag.rules.pairs import swapped_pairs
from diag.rules.players import players
from diag.rules.policies import beyond_the_end, policy
from diag.rules.remembered import remembered
from diag.rules.scrambled import reshaped, scrambled
from diag.rules.signs import unsigned
from diag.rules.tokens import copies, given_back, masked, sees_the_next, shifted_twice
from diag.rules.unscaled import unscaled
from diag.rules.weighed import inverted_weights, weighed_class
from diag.trace.schema import BINARY, INDEXED
from diag.trace.shapes import are_crossed, shape_text, sizes

_SQUASHES = {
    "cross_entropy": ("softmax", "sigmoid"),
    "binary_cross_entropy_with_logits": ("sigmoid", "softmax"),
}
"""What bounds the logits that these losses take; each squashes its input itself."""
_REACH = {
    "relu": (0.0, math.inf), "softplus": (0.0, math.inf), "relu6": (0.0, 6.0), "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "softsign": (-1.0, 1.0),
}  # fmt: skip
"""Between which numbers an activation's outputs lie."""
_MARGIN, _WELL_BEYOND = 0.05, 0.25
"""Of the targets' deviation, by how much half of one reaches beyond: to be told, and to be an error however much of the
rest is learned."""
_FAR_BEYOND = 0.5
"""How far beyond 0 and 1 targets of a binary cross-entropy lie that are none, however low that makes the loss."""
_FIRST = 3
"""Looks at log-probabilities, at the start, that tell whether they are any."""
_FEWEST, _MOST = 5, 0.5
"""Batches whose targets were seen; the share of them in which all are of one class."""
_FEWEST_READ, _NEARLY_ALL = 3, 0.9
"""Backward passes whose graph shows it, and their share."""
_SAMPLES = 8
_SUM = 0.05
"""The log of what log-probabilities may add up to, beyond rounding of half precision."""


@remembered
def misfit(evidence: Evidence) -> Finding | None:
    """What keeps the loss from being what its name says, if anything does."""
    for look in (
        flat,
        _squashed_twice,
        _squashed_outside,
        scrambled,
        reshaped,
        _no_log_probabilities,
        _crossed,
        across_samples,
        softmax_over_samples,
        odd_axis,
        unsigned,
        sees_the_next,
        given_back,
        copies,
        masked,
        shifted_twice,
        never_trained,
        _beyond_one,
        _out_of_reach,
        unscaled,
        _sorted,
        _overlap_of_logits,
        single_class,
        of_one_sample,
        smoothed,
        ignored_class,
        padding_learned,
        weighed_class,
        inverted_weights,
        several_classes,
        partly_read,
        policy,
        beyond_the_end,
        players,
        swapped_pairs,
        confined,
        clipped_logits,
        empty_masks,
    ):
        found = look(evidence)
        if found is not None:
            return found
    return None


def _squashed_twice(evidence: Evidence) -> Finding | None:
    """The loss squashes its input itself, and is given what was squashed already.

    With p in [0, 1] and C classes a cross-entropy of p cannot fall below log(e + C - 1) - 1; with one class and logits
    p in [0, 1] a binary one not below log(1 + 1/e).
    """
    rows = evidence.rows("activation", evidence.clean[:1])
    losses = evidence.losses.dropna()
    for _, loss in _of_logits(rows).iterrows():
        before = put_out_by(rows, loss, _SQUASHES[loss["op"]])
        if len(before) and len(losses):
            squash, op = str(before["site"].iloc[-1]), str(before["op"].iloc[-1])
            return _twice(evidence, loss, squash, f"{squash} ({op})", op)
    return None


def _squashed_outside(evidence: Evidence) -> Finding | None:
    """The same, by a function between the model and the loss: the graph tells."""
    known = evidence.trace.coverage.get("squashed") or {}
    for _, loss in _of_logits(evidence.rows("activation", evidence.clean[:1])).iterrows():
        op = known.get(loss["site"])
        # Outputs beyond 0 and 1 have been through something else since.
        if op in _SQUASHES[loss["op"]] and loss["min"] >= 0 and loss["max"] <= 1 and len(evidence.losses.dropna()):
            return _twice(evidence, loss, str(loss["site"]), f"a {op} behind the model", str(op))
    return None


def _twice(evidence: Evidence, loss: pd.Series, site: str, squash: str, op: str) -> Finding:
    shape, losses = sizes(str(loss["shape"])), evidence.losses.dropna()
    classes = shape[0] if len(shape) == 1 else shape[1]
    floor = math.log(math.e + classes - 1) - 1 if loss["op"] == "cross_entropy" else math.log(1 + math.exp(-1))
    start, end = float(losses.iloc[0]), float(losses.iloc[-1])
    return Finding(
        "loss-not-decreasing",
        "error",
        site,
        f"The output is squashed twice: {squash} goes straight into {loss['site']}, which applies its own. "
        f"That loss cannot fall below {floor:.3f}; what is trained goes from {start:.3f} to {end:.3f}.",
        {
            "step": evidence.clean[0],
            "of": "squash",
            "loss": str(loss["site"]),
            "floor": floor,
            "first": start,
            "last": end,
        },
        f"Remove the {op} and give {loss['op']} the logits.",
        "torch.nn.CrossEntropyLoss documentation: 'the input is expected to contain the unnormalized logits'",
    )


def _of_logits(rows: pd.DataFrame) -> pd.DataFrame:
    """What losses are given that squash their input themselves."""
    return rows[rows["op"].isin(list(_SQUASHES)) & ~rows["site"].str.endswith("]")]


def _no_log_probabilities(evidence: Evidence) -> Finding | None:
    """What takes logarithms is given no logarithm of probabilities: over the classes they do not add up to 1."""
    rows = evidence.rows("activation", evidence.clean, ("log_sum",))
    for site, own in rows[rows["nonfinite"] == 0].groupby("site", sort=False):
        if own["rms"].iloc[:_FIRST].min() < _SUM:  # later ones may have come near to 1 by themselves
            continue
        loss = str(site).removesuffix("[log_sum]")
        given = evidence.rows("activation", [int(own["step"].iloc[0])])
        given = given[given["site"] == loss]
        highest = float(given["max"].max())
        said = f", and it reaches {highest:.3g} itself" if highest > 0 else ""
        op = str(evidence.sites.loc[loss, "op"])
        return Finding(
            "loss-not-decreasing",
            "error",
            loss,
            f"{op} takes log-probabilities: at most 0, and their exponentials add up to 1 over the classes. Those of"
            f" what it is given add up to {math.exp(min(float(own['mean'].median()), 700.0)):.3g}{said}: what is"
            " minimized is no likelihood.",
            {
                "step": int(own["step"].iloc[0]),
                "of": "log-probabilities",
                "log_sum": float(own["mean"].median()),
                "max": highest,
            },
            f"Give {op} log_softmax(logits, dim={-1 if op == 'ctc_loss' else 1})"
            f"{', or the logits to cross_entropy' * (op == 'nll_loss')}.",
            "torch.nn.NLLLoss documentation: 'the input is expected to contain log-probabilities of each class'",
        )
    return None


def _crossed(evidence: Evidence) -> Finding | None:
    """Predictions of shape N x 1 are compared with targets of shape N, which makes a table of N x N."""
    targets = evidence.rows("activation", evidence.clean[:1], ("target",))
    for site in targets["site"].drop_duplicates():
        loss = str(site).removesuffix("[target]")
        shapes = [str(evidence.sites.loc[one, "shape"]) for one in (loss, site)]
        if not are_crossed(*map(sizes, shapes)):
            continue
        losses = evidence.losses.dropna()
        count = sizes(shapes[0])[0]
        return Finding(
            "loss-not-decreasing",
            "error",
            loss,
            f"Predictions of shape {shapes[0]} meet targets of shape {shapes[1]}: broadcast to {count}x{count}, every"
            " prediction is compared with every target, so that nothing but the targets' mean can be learned.",
            {
                "step": evidence.clean[0],
                "of": "broadcast",
                "predictions": shapes[0],
                "targets": shapes[1],
                "last": float(losses.iloc[-1]) if len(losses) else None,
            },
            "Give both the same shape: predictions.squeeze(1), or targets.unsqueeze(1).",
            "torch documentation, 'Broadcasting semantics'",
        )
    return _spread(evidence)


def _spread(evidence: Evidence) -> Finding | None:
    """The same in a loss that is written out, by its graph."""
    known = evidence.trace.coverage.get("terms") or {}
    found = known.get("crossed")
    if not found or found["count"] < max(_FEWEST_READ, _NEARLY_ALL * known["looked"]):
        return None
    before, after = (shape_text(found[name]) for name in ("given", "spread"))
    return Finding(
        "loss-not-decreasing",
        "error",
        "loss",
        f"In the loss predictions of shape {before} are broadcast to {after}, in {found['count']} of"
        f" {known['looked']} backward passes that were read: what they are compared or multiplied with has another"
        " shape, so that every prediction meets the numbers of every sample.",
        {"step": evidence.clean[0], "of": "broadcast", "predictions": before, "spread": after},
        "Give both the same shape before they are subtracted or multiplied: squeeze or unsqueeze one of them.",
        "torch documentation, 'Broadcasting semantics'",
    )


def _beyond_one(evidence: Evidence) -> Finding | None:
    """A binary cross-entropy is given targets that are no probabilities: above 1 or below 0 it has no least value.

    Its slope is sigmoid(x) - t, which for t > 1 is negative however large the logit x is.
    """
    rows = evidence.rows("activation", evidence.clean, ("target",))
    for site, own in rows.groupby("site", sort=False):
        loss = str(site).removesuffix("[target]")
        least, most = float(own["min"].min()), float(own["max"].max())
        if evidence.sites.loc[loss, "op"] not in BINARY or (least >= -_MARGIN and most <= 1 + _MARGIN):
            continue
        mean, op = float(own["mean"].median()), str(evidence.sites.loc[loss, "op"])
        losses = evidence.clean_losses
        below = f" A loss of {losses.min():.3g} tells of it." if len(losses) and losses.min() < 0 else ""
        return Finding(
            "loss-not-decreasing",
            "warning" if evidence.is_half_solved and max(-least, most - 1) < _FAR_BEYOND else "error",
            loss,
            f"The targets of {op} lie between {least:.3g} and {most:.3g}, with mean"
            f" {mean:.3g}; it takes probabilities, and beyond 0 and 1 pushes the logits on without end.{below}",
            {"step": evidence.clean[0], "of": "range", "least": least, "most": most, "mean": mean},
            "Scale the targets into [0, 1] (divide pixels by their largest value), or take a loss for numbers such as"
            " mse_loss.",
            "torch.nn.BCEWithLogitsLoss documentation: 'targets should be numbers between 0 and 1'",
        )
    return None


def _out_of_reach(evidence: Evidence) -> Finding | None:
    """The last activation cannot put out what the targets are: an error where the loss is not half solved."""
    step = evidence.clean[:1]
    rows = evidence.rows("activation", step)
    for _, target in rows[rows["role"] == "target"].iterrows():
        own = rows[rows["site"] == str(target["site"]).removesuffix("[target]")]
        before = put_out_by(rows, own.iloc[0], _REACH) if len(own) else own
        if not len(before):
            continue
        op, (low, high) = str(before["op"].iloc[-1]), _REACH[str(before["op"].iloc[-1])]
        every = evidence.rows("activation", evidence.clean, ("target",))
        every = every[every["site"] == target["site"]]
        mean, bottom, top = float(every["mean"].median()), float(every["min"].min()), float(every["max"].max())
        spread = math.sqrt(max(0.0, float((every["rms"] ** 2).median()) - mean**2))
        # A standardized target has tails beyond tanh, half of it lies below relu.
        least, most = max(mean - spread / 2, bottom), min(mean + spread / 2, top)
        beyond = max(low - least, most - high)
        if spread == 0 or beyond < _MARGIN * spread:
            continue
        between = f"no less than {low:g}" + (f" and no more than {high:g}" if high < math.inf else "")
        return Finding(
            "loss-not-decreasing",
            "warning" if evidence.is_half_solved and beyond < _WELL_BEYOND * spread else "error",
            str(before["site"].iloc[-1]),
            f"The targets lie between {bottom:.3g} and {top:.3g}, with mean {mean:.3g} and deviation"
            f" {spread:.3g}; {op} puts out {between}.",
            {
                "step": step[0],
                "of": "reach",
                "low": low,
                "high": high if high < math.inf else None,
                "least": bottom,
                "most": top,
            },
            f"Leave the {op} away behind the last layer, or scale the targets into what it can put out.",
            "Goodfellow et al. 2016, section 6.2.2: output units",
        )
    return None


def _sorted(evidence: Evidence) -> Finding | None:
    """Each batch has samples of one class alone, now of this class and now of that one."""
    rows = evidence.rows("activation", evidence.clean, ("target",))
    for (site, _), own in rows[rows["count"] >= _SAMPLES].groupby(["site", "call"], sort=False):
        loss = str(site).removesuffix("[target]")
        single = own[own["min"] == own["max"]]
        if evidence.sites.loc[loss, "op"] not in INDEXED or len(own) < _FEWEST:
            continue
        if len(single) < _MOST * len(own) or single["min"].nunique() < 2:
            continue
        return Finding(
            "loss-not-decreasing",
            "warning" if evidence.is_half_solved else "error",
            loss,
            f"In {len(single)} of {len(own)} batches all targets are of one class, now of this and now of that one: the"
            " data come sorted by class, and each step unlearns what the last ones learned.",
            {"step": int(own["step"].iloc[0]), "of": "sorted", "batches": len(own), "single": len(single)},
            "Shuffle: DataLoader(..., shuffle=True).",
            "LeCun et al. 1998, 'Efficient BackProp', section 4.2; Bengio 2012, section 3.1",
        )
    return None


def _overlap_of_logits(evidence: Evidence) -> Finding | None:
    """An overlap, as Dice's, of numbers that are no probabilities."""
    known = evidence.trace.coverage.get("terms") or {}
    count = int(known.get("of_logits", 0))
    if count < max(_FEWEST_READ, _MOST * int(known.get("looked", 0))):
        return None
    return Finding(
        "loss-not-decreasing",
        "error",
        "loss",
        "The overlap of predictions and targets (the sum of their product over the sum of both, as of Dice or Jaccard)"
        f" is taken of what a layer puts out, of any sign and size, in {count} of {known['looked']} backward passes"
        " that were read: it is one of probabilities, and of other numbers has no largest value.",
        {"step": evidence.clean[0], "of": "squash", "passes": count},
        "Put a sigmoid, or a softmax over the classes, before it.",
        "Milletari et al. 2016, 'V-Net', section 3",
    )
