"""Evaluation beside training: other inputs, other outputs for the same inputs, a loss that is never better."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from diag.rules.answered import by_guessing, never_better
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, shown
from diag.rules.fitted import by_heart
from diag.rules.one_batch import one_batch
from diag.rules.registry import rule
from diag.rules.scales import guesses
from diag.rules.shifted import shifted_inputs
from diag.trace.shapes import sizes

_BEFORE, _SETTLED = 5, 20
"""Measured steps before an evaluation that it is held against; steps after which running statistics have settled."""
_ALIKE = 2.0
"""Factor within which inputs are of one size."""
_FEWER = 3
"""How many times as many samples a training batch has as the one that a test normalizes by, to its harm."""
_LAGGING, _PLAINLY = 1.5, 3.0
"""Factor between outputs that tells where statistics are known to lag behind, and where no loss tells of harm."""
_WORSE = 3.0
"""Times the training's cross-entropy: an evaluation's that has suffered."""


@rule("evaluation-mismatch")
def evaluation_mismatch(evidence: Evidence) -> Iterator[Finding]:
    """What is evaluated is not what was trained: by its inputs, by what normalizes it, or by its loss."""
    dropped = _dropped(evidence)
    if dropped is not None:
        yield dropped
    entries = evidence.trace.coverage.get("evaluations") or []
    own = set(evidence.sites.index)
    entries = [one for one in entries if own & set(one["sites"])]
    untold = None if entries else _in_training_mode(evidence)
    if untold is not None:
        yield untold
    if not evidence.trains:
        return
    found = one_batch(evidence)
    if entries:
        found = found or _other_inputs(evidence, entries[-1]) or _other_outputs(evidence, entries[-1])
    found = (
        found
        or shifted_inputs(evidence)
        or by_guessing(evidence)
        or never_better(evidence, entries)
        or by_heart(evidence)
    )
    if found is not None:
        yield found


def _dropped(evidence: Evidence) -> Finding | None:
    """A function drops in evaluation mode too, as it is not told of the mode."""
    model, share = next(evidence.of_models("dropped_in_evaluation"), ("", 0.0))
    if not model or not evidence.trains:
        return None
    own = evidence.sites[(evidence.sites["model"] == model) & evidence.sites["role"].isin(["dropout", "attention"])]
    own = own[own.index.str.contains(":")].sort_values("order")
    site = str(own.index[0]) if len(own) else model
    return Finding(
        "evaluation-mismatch",
        "error",
        site,
        f"{shown(share)} of the signal is dropped in evaluation mode too: the function at {site} is not told of it.",
        {"step": evidence.clean[0], "of": "dropout in evaluation", "share": share},
        "Write F.dropout(x, p, training=self.training), dropout_p=p if self.training else 0.0, or take nn.Dropout.",
        "torch.nn.functional.dropout documentation: 'training, default: True'",
    )


def _in_training_mode(evidence: Evidence) -> Finding | None:
    """Passes after training, without a graph and in training mode; an error where they normalize far fewer samples."""
    model, (passes, fewest) = next(evidence.of_models("untold_tests"), ("", (0, 0)))
    known = guesses(evidence)
    if not model or known is None or not evidence.trains:
        return None
    norms = evidence.rows("activation", evidence.clean, ("normalization",))
    norms = norms[norms["op"] == "batch_norm"]
    trained = sizes(str(evidence.sites.loc[known[2], "shape"]))[0]
    few = bool(len(norms)) and _FEWER * fewest <= trained
    return Finding(
        "evaluation-mismatch",
        "error" if few else "warning",
        model,
        f"{passes} pass{'es' * (passes > 1)} without a graph came after the last step with {model} in training mode:"
        " dropout drops, and batch normalizations normalize by the batch of the test, which has"
        f" {fewest} sample{'s' * (fewest > 1)} at the least, and take it into their statistics.",
        {"step": evidence.clean[0], "of": "training mode", "passes": passes, "samples": fewest},
        "Call model.eval() before it is tested, and model.train() before training goes on.",
        "torch.nn.Module.eval documentation",
    )


def _ratios(evidence: Evidence, entry: dict[str, Any], roles: tuple[str, ...]) -> pd.DataFrame:
    """Per site that was seen in both: rms and variance over samples of the evaluation and of the training before it."""
    rows = evidence.rows("activation", roles=roles)
    rows = rows[rows["site"].isin(entry["sites"]) & rows["step"].le(entry["step"]) & rows["shape"].str.contains("x")]
    steps = sorted(rows["step"].unique())[-_BEFORE:]
    trained = rows[rows["step"].isin(steps)].groupby("site")[["rms", "sample_var", "order"]].median()
    seen = pd.DataFrame(entry["sites"]).T.reindex(trained.index)
    return trained.assign(**{f"{name}_evaluated": seen[name] for name in ("rms", "sample_var")}).sort_values("order")


def _factor(table: pd.DataFrame, column: str) -> pd.Series:
    """How many times the larger of both is the smaller one."""
    one, other = table[column], table[f"{column}_evaluated"]
    known = (one > 0) & (other > 0)
    return pd.Series(np.maximum(one / other, other / one), table.index).where(known)


def _other_inputs(evidence: Evidence, entry: dict[str, Any]) -> Finding | None:
    """Inputs of another size by far: an error where classes are told apart, which are the same whoever looks."""
    table = _ratios(evidence, entry, ("input",))
    factor = _factor(table, "rms").dropna()
    if not len(factor) or factor.max() < evidence.thresholds["evaluated_input_error"]:
        return None
    site = str(factor.idxmax())
    trained, evaluated = (float(table[name][site]) for name in ("rms", "rms_evaluated"))
    return Finding(
        "evaluation-mismatch",
        "error" if guesses(evidence) is not None else "warning",
        site,
        f"The model is evaluated on inputs of rms {evaluated:.3g} at {site}, and trained on such of {trained:.3g}:"
        f" {factor.max():.0f} times {'smaller' if evaluated < trained else 'larger'}.",
        {"step": int(entry["step"]), "of": "evaluated input", "trained": trained, "evaluated": evaluated},
        "Do to the data that are evaluated what is done to those of training, with the same numbers: division by 255,"
        " mean and standard deviation of the training set.",
        "LeCun et al. 1998, 'Efficient BackProp', section 4.3",
    )


def _other_outputs(evidence: Evidence, entry: dict[str, Any]) -> Finding | None:
    """In evaluation mode, which takes running statistics, outputs for like inputs are much larger or smaller."""
    norms = evidence.rows("activation", evidence.clean, ("normalization",))
    norms = norms[norms["op"] == "batch_norm"]
    inputs = _factor(_ratios(evidence, entry, ("input",)), "rms").dropna()
    if not len(norms) or len(evidence.losses) < _SETTLED or (len(inputs) and inputs.max() > _ALIKE):
        return None
    table = _ratios(evidence, entry, ("layer", "recurrent"))
    factor = _factor(table, "rms").dropna()
    slow = evidence.named("slow_statistics")
    # Of what is known to lag behind a smaller difference tells.
    if not len(factor) or factor.max() < (_LAGGING if slow else evidence.thresholds["evaluated_output_error"]):
        return None
    site, norm = str(factor.idxmax()), str(slow[0] if slow else norms.sort_values("order")["site"].iloc[0])
    trained, evaluated = (float(table[name][site]) for name in ("rms", "rms_evaluated"))
    suffers = _suffers(evidence, entry)
    harm = suffers if suffers is not None else factor.max() >= _PLAINLY
    return Finding(
        "evaluation-mismatch",
        "error" if harm else "warning",
        norm,
        f"With the running statistics of its batch normalizations, {norm} the first, the model puts out something else"
        f" than with those of a batch: for inputs of one size {site} has rms {evaluated:.2g} in evaluation mode, and"
        f" {trained:.2g} in training.",
        {"step": int(entry["step"]), "of": "statistics", "trained": trained, "evaluated": evaluated, "output": site},
        "Let the statistics catch up (momentum=0.1, more batches before the first evaluation), make batches alike"
        " (shuffle; no batches of one class, of one sample, or of padding), and keep one batch norm for each kind of"
        " input; or use group or layer normalization, which have none.",
        "Ioffe & Szegedy 2015, section 3.1; Ioffe 2017, 'Batch renormalization'",
    )


def _suffers(evidence: Evidence, entry: dict[str, Any]) -> bool | None:
    """Whether the evaluation's cross-entropy is far above that of the training before it; None where it is unknown."""
    known = guesses(evidence)
    losses = list(entry["losses"].values())
    if known is None or not losses:
        return None
    before = known[0][known[0].index <= entry["step"]]
    return bool(len(before)) and losses[0] > _WORSE * float(before.iloc[-_BEFORE:].median())
