"""Scales that come from outside the network's depth: of the input, and of the first loss."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.remembered import remembered
from diag.trace.shapes import sizes

_HALVES = ("huber_loss", "smooth_l1_loss")
_BINARY = "binary_cross_entropy_with_logits"
_FEWEST, _OWN, _FALLEN, _POWER = 12, 0.8, 10.0, 10.0
"""Squared errors from which they are judged; the share of one that is the predictions' own; how far it has fallen."""
_LEARNED = 0.25
"""Times a guess's cross-entropy: below it the network has learned most of what there is."""
_USUAL_WEIGHTS, _NO_BETTER = 3.0, 0.9
"""rms times sqrt(fan_in) of weights that are none too large; of the targets' variance, an error that tells nothing."""
_LITTLE_LEFT = 0.1
"""Of the first loss: what ends below it has little left to learn."""
_ABOVE = 4.5
"""Times the targets' variance: squared errors that tell of outputs which are far too large."""
_TIED = 2.0
"""Times 1 / sqrt(features): an embedding's rms beyond which logits made with it are too large."""
_ROUNDED = 1.001
"""Times a bound, beyond which rounding of single precision does not reach."""
_PASSED = 0.1
"""Of an input's rms: a layer whose output is as large as this was given it."""
_BEHIND = ("layer", "recurrent", "nonlinearity", "normalization", "embedding", "attention")


def unscaled_input(evidence: Evidence) -> Finding | None:
    """An input far larger than 1: an error where training has not coped, and nothing normalizes it first."""
    rows = evidence.rows("activation", evidence.early, ("input",)).sort_values("order")
    rows = rows[~rows["site"].isin(evidence.named("computed_inputs"))]
    # A number that is given beside the batch, such as how many tokens it has, is no input of a layer.
    several = rows["shape"].astype("string").str.contains("x").fillna(True).astype(bool)
    rows = rows[several & (rows["rms"] >= evidence.thresholds["input_error"])]
    if not len(rows):
        return None
    first = rows.iloc[0]
    behind = evidence.rows("activation", evidence.early, _BEHIND).sort_values("order")
    role = behind["role"].iloc[0] if len(behind) else ""
    if len(behind) and behind["op"].iloc[0] == "batch_norm":  # each feature is standardized before a weight sees it
        return None
    normalized = role in ("normalization", "embedding") or _is_scaled(evidence, float(first["rms"]), behind)
    # An embedding takes no numbers: it stands beside an input of numbers, or before a mask is added.
    layers = behind[behind["role"] == "layer"]
    if role == "embedding" and len(layers):
        largest = float(layers.groupby("site")["rms"].median().max())
        normalized = largest < max(_PASSED * float(first["rms"]), evidence.thresholds["input_error"])
    copes = evidence.is_half_solved and not far_from_chance(evidence) and not _came_down(evidence)
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


def unseen_input(evidence: Evidence, wild: pd.Series) -> Finding | None:
    """A first layer of usual weights that puts out huge numbers in the first step: what it is given is as large.

    wild: its row. Of an input that was seen the input itself tells.
    """
    layers = evidence.rows("activation", evidence.clean[:1], ("layer", "recurrent")).sort_values("order")
    first = len(layers) and layers["site"].iloc[0] == wild["site"] and wild["step"] == layers["step"].iloc[0]
    if not first or not math.isnan(evidence.input_rms()) or not evidence.trains:
        return None
    scale = float(scales_of_weights(evidence).get(f"{wild['site']}.weight", math.inf))
    given = float(wild["rms"]) / scale if scale > 0 else math.inf
    if scale > _USUAL_WEIGHTS or not evidence.thresholds["input_error"] <= given < math.inf:
        return None
    return Finding(
        "exploding-activation",
        "error",
        str(wild["site"]),
        f"The first layer, {wild['site']}, puts out rms {wild['rms']:.3g} in step {wild['step']}, with weights of usual"
        f" size: its input, which was not seen, must have an rms of about {given:.2g}, where weights are made for"
        " inputs of about 1.",
        {"step": int(wild["step"]), "of": "input", "rms": given},
        "Standardize the input: subtract its mean and divide by its standard deviation over the training set.",
        "LeCun et al. 1998, 'Efficient BackProp', section 4.3",
    )


@remembered
def scales_of_weights(evidence: Evidence) -> pd.Series:
    """Per weight matrix: its first rms times sqrt(fan_in); 1/sqrt(3) as torch initializes, sqrt(2) as He et al. do."""
    first = evidence.parameters.dropna(subset=["norm"]).sort_values("step").groupby("site").first()
    if not len(first):
        return pd.Series(dtype=float)
    return first["norm"] / [math.sqrt(sizes(str(shape))[0]) for shape in first["shape"]]


def at_the_mean(evidence: Evidence) -> bool:
    """Whether the last squared errors are no better than those of the targets' mean, feature by feature."""
    values, _, targets = _squared_errors(evidence)
    if not len(values):
        values = 2 * _judged(evidence, *_HALVES)[1]  # near 0 they are half of a square
    if len(values) < _FEWEST or not len(targets):
        return False
    guess = float(targets[["var", "sample_var"]].min(axis=1).median())
    return guess > 0 and float(values.iloc[-(len(values) // 3) :].median()) >= _NO_BETTER * guess


def _is_scaled(evidence: Evidence, rms: float, behind: pd.DataFrame) -> bool:
    """Whether what stands first behind the input is a module of one's own that scales it, before any layer."""
    rows = evidence.rows("activation", evidence.early, ("other",)).sort_values("order")
    if not len(rows) or not len(behind) or not rows["order"].iloc[0] < behind["order"].iloc[0]:
        return False
    return bool(rows["rms"].iloc[0] < _PASSED * rms)


def _came_down(evidence: Evidence) -> bool:
    """Whether the loss has fallen so far so soon that its beginning was the input's size, and not the task's."""
    losses = evidence.clean_losses
    return len(losses) >= _FEWEST and bool(
        losses.iloc[:3].max() > _FALLEN * losses.iloc[-len(losses) // 3 :].median() > 0
    )


@remembered
def guesses(evidence: Evidence) -> tuple[pd.Series, float, str] | None:
    """The cross-entropies by step, that of a guess, and the site of what they are given; None where there are none.

    Of a binary one the guess is even; where classes are not, a better one is smaller.
    """
    op, values, given = _judged(evidence, "cross_entropy", "nll_loss", _BINARY)
    if not len(values) or not len(given) or (op == "nll_loss" and given["max"].max() > 0):
        return None
    shape = sizes(str(given["shape"].iloc[0]))
    classes = max(2, shape[0] if len(shape) == 1 else shape[1]) if op != _BINARY else 2
    if len(shape) == 2 and op != _BINARY and given["units"].nunique() > 1:  # the head was replaced: the last one counts
        classes = int(given["units"].iloc[-1])
        given = given[given["units"] == classes]
        values = values[values.index.isin(given["step"])]
        if not len(values):
            return None
    chance = math.log(classes)
    # No mean of cross-entropies exceeds the logits' range, with 0 for a binary one, by more than that: a larger one is
    # a sum over the targets.
    first = given[given["step"] == given["step"].iloc[0]]
    zero = first["max"] * 0 if op == _BINARY else first["max"]
    reach = np.maximum(first["max"], zero) - np.minimum(first["min"], zero)
    if float(values.iloc[0]) > _ROUNDED * (float(reach.max()) + chance):
        values = values * (classes if op != _BINARY else 1) / float(given["count"].iloc[0])
    return values, chance, str(given["site"].iloc[0])


def learned(evidence: Evidence) -> bool:
    """Whether the last cross-entropies are far below that of a guess, and nothing broke down.

    Of binary ones, which may be as low where one class is rare, this tells nothing.
    """
    known = guesses(evidence)
    if known is None or known[2].endswith(_BINARY):
        return False
    if evidence.diverged_at is not None or evidence.first_bad_step is not None:
        return False
    values, chance, _ = known
    last = values.iloc[-max(1, len(values) // 3) :]
    return len(values) >= 3 and float(last.median()) < _LEARNED * chance


def is_open(evidence: Evidence) -> bool:
    """Whether there is much left to learn: a loss above half of its first one, or a cross-entropy above half of that of
    a guess, however high it began."""
    known = guesses(evidence)
    if known is None or len(known[0]) < 3:
        return not evidence.is_half_solved
    values, chance, _ = known
    return float(values.iloc[-max(1, len(values) // 3) :].median()) > chance / 2


def does_well(evidence: Evidence) -> bool:
    """Whether next to nothing is left to learn."""
    known = guesses(evidence)
    if known is not None and len(known[0]) >= 3:
        return learned(evidence)
    losses = evidence.clean_losses
    if len(losses) < 6:
        return False
    return 0 <= float(losses.iloc[-(len(losses) // 3) :].median()) < _LITTLE_LEFT * float(losses.iloc[0])


@remembered
def _judged(evidence: Evidence, *ops: str) -> tuple[str | None, pd.Series, pd.DataFrame]:
    """The first of these losses that there is, its values by step, and the rows of what it was given."""
    rows = evidence.rows("activation", evidence.clean, ("loss",)).sort_values(["step", "order", "call"])
    op = next((one for one in ops if (rows["op"] == one).any()), None)
    rows = rows[rows["op"] == op]
    values = rows[rows["site"].str.endswith("[value]")].groupby("step")["mean"].first()
    return op, values, rows[~rows["site"].str.contains("[", regex=False)]


def _squared_errors(evidence: Evidence) -> tuple[pd.Series, pd.DataFrame, pd.DataFrame]:
    """Their values by step, and the rows of predictions and of targets."""
    op, values, given = _judged(evidence, "mse_loss", "sub")
    values = evidence.clean_losses if op == "sub" else values  # of what is written out there is no value of its own
    return values, given, evidence.rows("activation", evidence.clean, ("target",))


def far_from_chance(evidence: Evidence) -> list[Finding]:
    """The first loss is far above that of a guess, and the last one still above it: the outputs are too large."""
    known = guesses(evidence)
    if known is None:
        return _far_from_mean(evidence) or _far_from_targets(evidence)
    values, chance, site = known
    first, last = float(values.iloc[0]), float(values.iloc[-max(1, len(values) // 3) :].median())
    limit, tied = evidence.thresholds, tied_embedding(evidence, round(math.exp(chance)))
    if first < limit["first_loss_error"] * chance or last < (limit["tied_error"] if tied else 1) * chance:
        return []
    said = f"The first cross-entropy is {first:.3g}, where a guess has {chance:.3g}, and the last ones {last:.3g}: the"
    if tied is not None:
        name, rms, features = tied
        said = (
            f"{said} output layer's weight is the embedding's, {name}, whose rms of {rms:.2g} makes logits"
            f" sqrt({features}) times as large"
        )
        found = _too_large(evidence, site, said, first, last, {"chance": chance, "rms": rms})
        fix = (
            f"Initialize {name} with a standard deviation of 0.02 (or 1 / sqrt({features}) = {features**-0.5:.2g}), and"
        )
        fix = f"{fix} multiply what the embedding gives by sqrt({features}) where the network needs it."
        source = "Press & Wolf 2017, section 3; Vaswani et al. 2017, section 3.4"
        return [replace(found, site=name, evidence={**found.evidence, "tied": name}, remedy=fix, source=source)]
    return [_too_large(evidence, site, f"{said} logits are far too large", first, last, {"chance": chance})]


def tied_embedding(evidence: Evidence, classes: int) -> tuple[str, float, int] | None:
    """The weight of an embedding that the last layer has too: its name, its first rms, and how many features it has.

    The last layer owns no matrix, and the embedding has a row for every class, larger than what keeps a signal's size.
    """
    sites = evidence.sites
    layers = sites[(sites["kind"] == "output") & (sites["role"] == "layer") & (sites["order"] >= 0)]
    matrices = sites[(sites["kind"] == "parameter") & sites["shape"].str.contains("x", regex=False)]
    embeddings = sites[(sites["kind"] == "output") & (sites["role"] == "embedding")].index
    if not len(layers) or layers.sort_values("order").index[-1] in set(matrices["owner"]):
        return None
    first = evidence.rows("weight", evidence.clean[:1]).set_index("site")["rms"]
    for name, one in matrices[matrices["owner"].isin(embeddings)].iterrows():
        rows, features = sizes(str(one["shape"]))[:2]
        rms = float(first.get(name, 0.0))
        if rows == classes and rms > _TIED * features**-0.5:
            return str(name), rms, features
    return None


def _far_from_mean(evidence: Evidence) -> list[Finding]:
    """Squared errors, the last ones too, are many times the variance of the targets, which is the error of their mean.

    With predictions of rms p and targets of rms t none is above (p + t)^2: what is, is a sum.
    """
    begun = began_far(evidence)
    values, given, _ = _squared_errors(evidence)
    last = float(values.iloc[-(len(values) // 3) :].median()) if begun else 0.0
    if begun is None or last < _ABOVE * begun[1]:
        return []
    first, guess = begun
    said = (
        f"The first squared error is {first:.3g} and the last ones are {last:.3g}, where always the targets' mean would"
        f" have {guess:.3g}: outputs are far too large"
    )
    return [_too_large(evidence, str(given["site"].iloc[0]), said, first, last, {"guess": guess})]


def began_far(evidence: Evidence) -> tuple[float, float] | None:
    """The first squared error and the variance of the targets, where it is many times that and no sum."""
    values, given, targets = _squared_errors(evidence)
    if len(values) < _FEWEST or not len(given) or not len(targets):
        return None
    guess, first = float(targets["var"].median()), float(values.iloc[0])
    most = (given["rms"].iloc[0] + targets["rms"].iloc[0]) ** 2
    return (first, guess) if guess > 0 and _ABOVE * guess <= first <= 1.01 * most else None


def _far_from_targets(evidence: Evidence) -> list[Finding]:
    """A squared error that is nothing but the predictions' own square, and falls with it without coming to an end.

    With targets of power t^2 an error of predictions p is at most (p + t)^2, and p^2 alone where t is far smaller.
    """
    _, values, given = _judged(evidence, "mse_loss")
    if len(values) < _FEWEST or not len(given) or not (values > 0).all():
        return []
    power = (given.groupby("step")["rms"].first() ** 2).reindex(values.index)
    own = power / values
    third = len(values) // 3
    first, last = float(values.iloc[0]), float(values.iloc[-third:].median())
    if not (own.iloc[0] > _OWN and own.iloc[0] < 1 / _OWN and own.iloc[-third:].median() > _OWN):
        return []
    if first < _FALLEN * last or power.iloc[0] < _POWER:  # small targets, as displacements are, are learned so too
        return []
    said = (
        f"The first squared error, {first:.3g}, is all the predictions' own square, as are the last ones, {last:.3g}:"
    )
    return [_too_large(evidence, str(given["site"].iloc[0]), f"{said} outputs are far too large", first, last, {})]


def _too_large(evidence: Evidence, site: str, said: str, first: float, last: float, more: dict[str, float]) -> Finding:
    return Finding(
        "exploding-activation",
        "error",
        site,
        f"{said} from the start.",
        {"step": evidence.clean[0], "of": "output", "first": first, **more, "last": last},
        "Initialize the last layer, and what leads to it, smaller (he_normal, glorot_normal; 0.02 for embeddings),"
        " or normalize before it; standardize the input.",
        "Karpathy 2019, 'A recipe for training neural networks': verify loss @ init",
    )
