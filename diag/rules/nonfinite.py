"""Where the first NaN or infinity was born, as opposed to passed on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.registry import rule

_SOURCE = (
    "pytorch/pytorch#182156; Goldberg 1991, 'What every computer scientist should know about floating-point arithmetic'"
)

_NEVER_INFINITE = ("softmax", "log_softmax", "attention", "linear", "layer_norm", "batch_norm", "sigmoid", "tanh")
"""What puts out no infinity on purpose, as a mask or a log behind `where` may: there it is an accident."""


@dataclass(frozen=True)
class _Birth:
    """Where and in which phase it was born; rows: what was non-finite there."""

    site: str
    phase: str
    message: str
    remedy: str
    rows: pd.DataFrame


@rule("non-finite")
def non_finite(evidence: Evidence) -> Iterator[Finding]:
    """A NaN or infinity that reaches the loss or a weight: the site and the phase in which it was born."""
    step = evidence.first_bad_step
    skipped = evidence.trace.coverage.get("skipped_steps", ())
    bad = evidence.frame[(evidence.frame["nonfinite"] > 0) & ~evidence.frame["step"].isin(skipped)]
    harmful = step is not None
    if step is None:
        if not len(bad):
            return
        step = int(bad["step"].min())
    rows = bad[bad["step"] == step]
    # What was non-finite before and did no harm, such as a mask of -inf, is not what does it now.
    usual = set(map(tuple, bad.loc[bad["step"] < step, ["site", "kind"]].to_numpy()))
    news = [(site, kind) not in usual for site, kind in rows[["site", "kind"]].to_numpy()]
    rows = rows[news] if any(news) else rows
    born = _birth(evidence, rows, step)
    batch = evidence.trace.steps.set_index("step")["batch"].get(step, -1)
    count = int(born.rows["nonfinite"].iloc[0]) if len(born.rows) else 1
    yield Finding(
        "non-finite",
        "error" if harmful else "note",
        born.site,
        born.message + ("" if harmful else " It reached neither the loss nor a weight."),
        {"step": step, "phase": born.phase, "nonfinite": count, **({"batch": int(batch)} if batch >= 0 else {})},
        born.remedy if harmful else f"If it is no mask, and no branch that where() leaves out: {_lower(born.remedy)}",
        _SOURCE,
    )


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _birth(evidence: Evidence, rows: pd.DataFrame, step: int) -> _Birth:
    """The first phase of the step that explains what is non-finite in it: weights, forward, loss, backward, step."""
    known = evidence.loss_at(step)
    broken = known is not None and not np.isfinite(known)
    weight, forward, backward, gradient, update = (
        rows[rows["kind"] == kind].sort_values("order")
        for kind in ("weight", "activation", "gradient", "weight_gradient", "update")
    )
    if len(weight):
        return _in_weight(weight, step)
    if len(forward) and (broken or not len(rows) > len(forward)):
        return _in_forward(forward, step)
    if broken:
        return _in_loss(rows, step, known)
    if len(forward) and forward["role"].iloc[0] == "input" and (len(backward) or len(gradient)):
        return _in_forward(forward, step)  # a finite loss leaves out what these values make
    left_out = forward[forward["op"].isin(_NEVER_INFINITE)]
    if len(left_out) and len(backward):
        return _in_forward(forward[forward["order"] >= left_out["order"].iloc[0]], step, left_out=True)
    if len(backward):
        return _in_backward(evidence, backward, step)
    return _in_weight_gradient(gradient, step) if len(gradient) else _in_step(update, step)


def _in_weight(rows: pd.DataFrame, step: int) -> _Birth:
    site = str(rows["site"].iloc[0])
    return _Birth(
        site,
        "weight",
        f"{site} holds {int(rows['nonfinite'].iloc[0])} non-finite values before step {step} uses it.",
        "Look at what wrote the weight: a damaged checkpoint, an initialization, or a hand-made update.",
        rows,
    )


def _in_forward(rows: pd.DataFrame, step: int, *, left_out: bool = False) -> _Birth:
    """left_out: the loss is finite, since it does not look at these values; their gradient is NaN all the same."""
    site, op = str(rows["site"].iloc[0]), rows["op"].iloc[0]
    many = f"{int(rows['nonfinite'].iloc[0])} non-finite values of {int(rows['count'].iloc[0])} in step {step}"
    if rows["role"].iloc[0] == "input":
        fix = "Clean the data, or mask what is missing, before it reaches the network."
        return _Birth(site, "data", f"The input itself holds {many}.", fix, rows)
    here = "this is where it was born"
    if left_out:
        here += ". The loss leaves them out and is finite, but their gradient is NaN"
    if rows["role"].iloc[0] == "loss" and not site.endswith("]"):
        fix = "Look at what computes what the loss is given: a mask of -inf, a division, log, or sqrt."
        return _Birth(site, "forward", f"{site} is given {many}; every layer before it is finite.", fix, rows)
    if op in ("softmax", "log_softmax", "attention"):
        fix = (
            "Where all of a row is masked with -inf, its softmax is 0 / 0: leave each row something to attend to, or"
            " mask with a large finite number; else lower what goes into it."
        )
        return _Birth(site, "forward", f"{site} ({op}) returns {many}: {here}.", fix, rows)
    return _Birth(
        site,
        "forward",
        f"{site} ({op}) returns {many} from finite inputs: {here}.",
        "Guard it: clamp what goes into log, sqrt, exp or a division, add an epsilon, or lower its scale; in half "
        "precision, look for overflow.",
        rows,
    )


def _in_loss(rows: pd.DataFrame, step: int, loss: float | None) -> _Birth:
    return _Birth(
        "loss",
        "forward",
        f"The loss is {loss} in step {step} although every measured activation is finite: it was born in the loss "
        "function.",
        "Compute the loss in log space (log_softmax, BCEWithLogitsLoss), and guard log, sqrt and divisions with an "
        "epsilon.",
        rows,
    )


def _in_backward(evidence: Evidence, bad: pd.DataFrame, step: int) -> _Birth:
    """Gradients come from above: the culprit is what stands right after the highest site whose gradient is bad."""
    highest = bad.iloc[-1]
    rows = evidence.rows("gradient", [step])
    after = rows[(rows["nonfinite"] == 0) & (rows["order"] > highest["order"])].sort_values("order")
    site = str((after if len(after) else bad.tail(1))["site"].iloc[0])
    if len(after):
        text = (
            f"The gradient is finite at {site} and non-finite at {highest['site']} below it in step {step}: it was "
            f"born in the backward pass of {site}."
        )
    else:
        text = (
            f"The gradient that reaches {site} from the loss is already non-finite in step {step}: it was born in "
            "the loss's backward pass."
        )
    fix = (
        "Its slope is infinite there (sqrt or norm at 0, a division, where() around an invalid branch): add an "
        "epsilon inside, and mask the input, not the output."
    )
    return _Birth(site, "backward", text, fix, bad.tail(1))


def _in_weight_gradient(rows: pd.DataFrame, step: int) -> _Birth:
    site = str(rows["site"].iloc[-1])
    return _Birth(
        site,
        "backward",
        f"The gradient of {site} is non-finite in step {step} although those of the activations around it are finite.",
        "Look at how this parameter enters the computation: a square root or norm at zero, or an overflow in half "
        "precision.",
        rows,
    )


def _in_step(rows: pd.DataFrame, step: int) -> _Birth:
    site = str(rows["site"].iloc[0])
    return _Birth(
        site,
        "step",
        f"The optimizer's step {step} makes {site} non-finite although its gradient is finite.",
        "Give the optimizer an epsilon above 0: 1e-8 in float32. In float16 that is 0 too: keep the weights in float32"
        " under autocast, or take 1e-4. Else lower the learning rate, and check the weight decay.",
        rows,
    )
