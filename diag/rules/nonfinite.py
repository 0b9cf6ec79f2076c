"""Where the first NaN or infinity was born, as opposed to passed on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.registry import rule

_SOURCE = (
    "pytorch/pytorch#182156; Goldberg 1991, 'What every computer scientist should know about floating-point arithmetic'"
)


@rule("non-finite")
def non_finite(evidence: Evidence) -> Iterator[Finding]:
    """A NaN or infinity that reaches the loss, a gradient or a weight: the first site, and the phase in which it
    was born.
    """
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
    site, phase, message, remedy, born = _birth(evidence, rows, step)
    batch = evidence.trace.steps.set_index("step")["batch"].get(step, -1)
    count = int(born["nonfinite"].iloc[0]) if len(born) else 1
    yield Finding(
        "non-finite",
        "error" if harmful else "note",
        site,
        message + ("" if harmful else " It reached neither the loss nor a weight."),
        {"step": step, "phase": phase, "nonfinite": count, **({"batch": int(batch)} if batch >= 0 else {})},
        remedy,
        _SOURCE,
    )


def _birth(evidence: Evidence, rows: pd.DataFrame, step: int) -> tuple[str, str, str, str, pd.DataFrame]:
    known = evidence.loss_at(step)
    loss = 0.0 if known is None else known
    forward = rows[rows["kind"] == "activation"].sort_values("order")
    weight = rows[rows["kind"] == "weight"].sort_values("order")
    if len(weight):
        site = str(weight["site"].iloc[0])
        text = f"{site} holds {int(weight['nonfinite'].iloc[0])} non-finite values before step {step} uses it."
        return (
            site,
            "weight",
            text,
            "Look at what wrote the weight: a damaged checkpoint, an initialization, or a hand-made update.",
            weight,
        )
    if len(forward) and not np.isfinite(loss):
        return _forward(evidence, forward, step)
    if not np.isfinite(loss) and not len(forward):
        text = (
            f"The loss is {loss} in step {step} although every measured activation is finite: it was born in the loss"
            " function."
        )
        return (
            "loss",
            "forward",
            text,
            (
                "Compute the loss in log space (log_softmax, BCEWithLogitsLoss), and guard log, sqrt and divisions with"
                " an epsilon."
            ),
            rows,
        )
    backward = rows[rows["kind"] == "gradient"].sort_values("order")
    if len(backward):
        return _backward(evidence, backward, step)
    if len(forward) and not (rows["kind"] != "activation").any():
        return _forward(evidence, forward, step)
    gradient = rows[rows["kind"] == "weight_gradient"].sort_values("order")
    if len(gradient):
        site = str(gradient["site"].iloc[-1])
        text = (
            f"The gradient of {site} is non-finite in step {step} although the gradients of the activations around it"
            " are finite."
        )
        return (
            site,
            "backward",
            text,
            (
                "Look at how this parameter enters the computation: a square root or norm at zero, or an overflow in"
                " half precision."
            ),
            gradient,
        )
    update = rows[rows["kind"] == "update"].sort_values("order")
    if len(update):
        site = str(update["site"].iloc[0])
        text = f"The optimizer's step {step} makes {site} non-finite although its gradient is finite."
        return (
            site,
            "step",
            text,
            "Give the optimizer an epsilon above 0 (1e-8), lower the learning rate, and check the weight decay.",
            update,
        )
    return "loss", "forward", f"The loss is {loss} in step {step}.", "Look at the loss function.", rows


def _forward(evidence: Evidence, forward: pd.DataFrame, step: int) -> tuple[str, str, str, str, pd.DataFrame]:
    site = str(forward["site"].iloc[0])
    count, total = int(forward["nonfinite"].iloc[0]), int(forward["count"].iloc[0])
    if forward["role"].iloc[0] == "input":
        text = f"The input itself holds {count} non-finite values of {total} in step {step}."
        return site, "data", text, "Clean the data, or mask what is missing, before it reaches the network.", forward
    op = forward["op"].iloc[0]
    text = (
        f"{site} ({op}) returns {count} non-finite values of {total} in step {step} from finite inputs: this is where"
        " it was born."
    )
    return (
        site,
        "forward",
        text,
        (
            "Guard it: clamp what goes into log, sqrt, exp or a division, add an epsilon, or lower its scale; in half"
            " precision, look for overflow."
        ),
        forward,
    )


def _backward(evidence: Evidence, backward: pd.DataFrame, step: int) -> tuple[str, str, str, str, pd.DataFrame]:
    """Gradients come from above: the culprit is what stands right after the highest site whose gradient is bad."""
    highest = backward.iloc[-1]
    rows = evidence.frame[
        (evidence.frame["step"] == step) & (evidence.frame["kind"] == "gradient") & (evidence.frame["nonfinite"] == 0)
    ]
    after = rows[rows["order"] > highest["order"]].sort_values("order")
    if len(after):
        site = str(after["site"].iloc[0])
        text = (
            f"The gradient is finite at {site} and non-finite at {highest['site']} below it in step {step}: it was born"
            f" in the backward pass of {site}."
        )
    else:
        site = str(highest["site"])
        text = (
            f"The gradient that reaches {site} from the loss is already non-finite in step {step}: it was born in the"
            " loss's backward pass."
        )
    fix = (
        "Its slope is infinite there (sqrt or norm at 0, a division, where() around an invalid branch): add an epsilon"
        " inside, and mask the input, not the output."
    )
    return site, "backward", text, fix, backward.tail(1)
