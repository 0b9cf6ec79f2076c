"""What the loss itself says."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd

from diag.rules.answered import at_a_guess
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.fitted import fits_nothing
from diag.rules.opponents import opponents
from diag.rules.registry import rule
from diag.rules.reversed import reversed_term
from diag.rules.scales import guesses, is_open
from diag.rules.targets import misfit

_FEWEST_STEPS = 12
_FEWEST, _NEARLY_ALL = 3, 0.9
_FASTER, _FARTHER = 10.0, 4.0
"""How much more a loss without a bound falls in the last third of the steps than in the first; how far it is then."""
_RISEN = 1.5
"""Times its start, a loss that has risen all the way: no healthy training of 340 that were looked at does that."""
_EACH = 1.5
"""How much more it then falls in each third of the steps than in the one before."""
_DONE, _CAME_DOWN = 10.0, 1.5
"""How many times its end a loss begins with that is learned, and with that the first steps alone brought down."""
_ONE_TERM = "the sign of one of its terms"
_NEVER_NEGATIVE = (
    "cross_entropy",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
)


@rule("diverging-loss")
def diverging_loss(evidence: Evidence) -> Iterator[Finding]:
    """The loss grows far beyond where it began, or its sign is turned."""
    if not evidence.trains:
        return
    turned = _sign_turned(evidence) or _likelihood_minimized(evidence) or reversed_term(evidence) or opponents(evidence)
    if turned is not None:
        yield turned
        return
    if evidence.diverged_at is None:
        worse = _ever_faster(evidence) or _worse_than_a_guess(evidence) or _steadily_worse(evidence)
        if worse is not None:
            yield worse
        return
    losses = evidence.losses.dropna()
    step = evidence.diverged_at
    if losses.iloc[-1] < losses.loc[step] < min(0.0, losses.iloc[0]) and not evidence.alternates:
        yield _without_bottom(losses)
        return
    back = _comes_back(losses)
    yield Finding(
        "diverging-loss",
        "warning" if back else "error",
        "loss",
        f"The loss goes from {losses.iloc[0]:.3g} to {losses.loc[step]:.3g} in step {step}, and to"
        f" {_farthest(losses.to_numpy()):.3g} at its worst{', but comes back' if back else ''}.",
        {
            "step": step,
            "first": float(losses.iloc[0]),
            "then": float(losses.loc[step]),
            "worst": _farthest(losses.to_numpy()),
        },
        "Lower the learning rate by a factor of ten, clip the gradient's norm, standardize inputs and targets, and"
        " check the loss's sign and zero_grad().",
        "Goodfellow et al. 2016, section 8.2.4; Karpathy 2019",
    )


def _worse_than_a_guess(evidence: Evidence) -> Finding | None:
    """The last cross-entropies are far above that of a guess, and above the first: what is learned is wrong."""
    known = guesses(evidence)
    if known is None or len(known[0]) < _FEWEST_STEPS:
        return None
    values, chance, site = known
    first, last = float(values.iloc[0]), float(values.iloc[-(len(values) // 3) :].median())
    if last < evidence.thresholds["guess_error"] * max(chance, first):
        return None
    return Finding(
        "diverging-loss",
        "error",
        site,
        f"The cross-entropy goes from {first:.3g} to {last:.3g}, where a guess has {chance:.3g}: training makes it"
        " worse.",
        {"step": int(values.index[-1]), "of": "guess", "first": first, "then": last, "chance": chance},
        "Lower the learning rate by a factor of ten, clip the gradient's norm, and check the loss's sign.",
        "Goodfellow et al. 2016, section 8.2.4; Karpathy 2019",
    )


def _steadily_worse(evidence: Evidence) -> Finding | None:
    """A loss above 0 that is higher in each third of the steps than in the one before, and in the first than at the
    start: gradients that lead away from it are none of its own. What acts, or takes turns, meets another task."""
    losses = evidence.clean_losses
    if len(losses) < _FEWEST_STEPS or evidence.alternates or evidence.acts or not (losses > 0).all():
        return None
    start, third = float(losses.iloc[:3].mean()), len(losses) // 3
    parts = [float(losses.iloc[place * third : (place + 1) * third].median()) for place in range(3)]
    if not (start < parts[0] < parts[1] < parts[2] and parts[2] > _RISEN * start):
        return None
    return Finding(
        "diverging-loss",
        "error",
        "loss",
        f"The loss rises, step by step: {start:.3g} in the first three, {parts[0]:.3g}, {parts[1]:.3g} and"
        f" {parts[2]:.3g} in the thirds of {len(losses)}. Training makes it worse: what is differentiated is not what"
        " is to be small.",
        {"step": int(losses.index[0]), "of": "rises", "first": start, "last": parts[2], "steps": len(losses)},
        "Look for a term of the loss without a graph (detach(), .item(), no_grad()), for one whose sign is turned, and"
        " for gradients that are changed before step(); if all is right, lower the learning rate by factors of ten.",
        "Goodfellow et al. 2016, section 8.2; Karpathy 2019",
    )


def _without_bottom(losses: pd.Series) -> Finding:
    """A loss that falls far below 0, or to many times what it was there: it can be made as low as one likes."""
    begins, whose = ("is negative from the start and falls", "its sign") if losses.iloc[0] < 0 else ("falls", _ONE_TERM)
    return _looks_turned(
        losses,
        f"{begins} without end, from {losses.iloc[0]:.3g} to {losses.iloc[-1]:.3g} in {len(losses)} steps. It looks as"
        f" if {whose} were turned: what is to be made large, such as a likelihood or a reward, is made small, or what"
        " is to be made small is subtracted.",
        "Minimize the negative log-likelihood, or minus the reward; add what is to be small; if the signs are right,"
        " give the loss a bound.",
        worst=float(losses.min()),
    )


def _looks_turned(losses: pd.Series, falls: str, remedy: str, **more: float) -> Finding:
    """falls: how the loss does, as the end of a sentence. more: for the evidence."""
    first, last = float(losses.iloc[0]), float(losses.iloc[-1])
    return Finding(
        "diverging-loss",
        "error",
        "loss",
        f"The loss {falls}",
        {"step": int(losses.index[0]), "of": "sign", "first": first, "last": last, **more},
        remedy,
        "torch.optim documentation: optimizers minimize",
    )


def _ever_faster(evidence: Evidence) -> Finding | None:
    """A loss that is negative from the start falls without bound, and ever faster: it is made larger, not smaller."""
    losses = evidence.losses.dropna()
    if len(losses) < _FEWEST_STEPS or not np.isfinite(losses).all():
        return None
    if not (losses < 0).all():
        return _beyond_zero(evidence, losses)
    third = len(losses) // 3
    parts = [losses.iloc[:third], losses.iloc[-third:]]
    before, after = (float(one.iloc[0] - one.iloc[-1]) for one in parts)
    if after < _FASTER * max(before, 0.0) or parts[1].median() > _FARTHER * parts[0].median():
        return None
    return _looks_turned(
        losses,
        f"is negative from the start and falls ever faster: {losses.iloc[0]:.3g} in the first step,"
        f" {losses.iloc[-1]:.3g} in the last of {len(losses)}. It looks as if its sign were turned.",
        "Minimize the loss itself: look for a minus sign; a loss that is a reward needs a bound.",
    )


def _beyond_zero(evidence: Evidence, losses: pd.Series) -> Finding | None:
    """A loss that begins above 0 falls far below it, faster in each third of the steps than in the one before: what
    approaches the end of its way slows down."""
    if evidence.alternates or evidence.acts or not losses.iloc[-1] < -_FARTHER * abs(losses.iloc[0]):
        return None
    ends = [float(losses.iloc[place : place + 3].median()) for place in np.linspace(0, len(losses) - 3, 4).astype(int)]
    falls = [before - after for before, after in pairwise(ends)]
    if not falls[0] > 0 or any(after < _EACH * before for before, after in pairwise(falls)):
        return None
    return _looks_turned(
        losses,
        f"falls ever faster: {losses.iloc[0]:.3g} in the first step, {losses.iloc[-1]:.3g} in the last of"
        f" {len(losses)}. It looks as if {_ONE_TERM} were turned.",
        "Look at the sign of each term: what is to be made large must be subtracted; a term that can fall without end,"
        " such as minus a logarithm of a variance, needs its counterpart.",
    )


def _comes_back(losses: pd.Series) -> bool:
    """Whether a loss that rose ends at most twice as high as it began, and rose less than ten-thousandfold; one that is
    below 0 at times, as a likelihood, lower than it began."""
    if not np.isfinite(losses.to_numpy()).all():
        return False
    start, end = float(losses.iloc[:3].max()), float(losses.iloc[-max(1, len(losses) // 3) :].median())
    farthest, near = _farthest(losses.to_numpy()), 1e4 * abs(float(losses.iloc[0]))
    return (end < start if (losses < 0).any() else end <= 2 * start) and 0 < farthest < near


def _farthest(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[np.argmax(np.abs(finite))])


@rule("loss-not-decreasing")
def loss_not_decreasing(evidence: Evidence) -> Iterator[Finding]:
    """The loss does not fall beyond its noise; an error where what it is given cannot go together."""
    if not evidence.trains:
        return
    wrong = misfit(evidence)
    if wrong is not None:
        yield wrong
        return
    losses = evidence.clean_losses
    if evidence.alternates or not evidence.tells or len(losses) < _FEWEST_STEPS:
        return
    if (losses == 0).all() or _is_done(evidence):
        return
    tested = _tested(evidence)
    if evidence.loss_falls() and not (evidence.stuck and tested):  # by a trifle, say
        return
    yield Finding(
        "loss-not-decreasing",
        "warning",
        "loss",
        _still(evidence, losses),
        {
            "step": int(losses.index[0]),
            "first": float(losses.iloc[:3].mean()),
            "last": float(losses.iloc[-3:].mean()),
            "steps": len(losses),
            "fall": evidence.fall(),
            **tested,
        },
        "See whether it can fit one small batch; if it can, the learning rate or the number of steps is too small, or"
        " labels and inputs do not belong together.",
        "Karpathy 2019, 'overfit a single batch'",
    )


def _tested(evidence: Evidence) -> dict[str, float]:
    """That no more classes are told right than by a guess, or no numbers fit, where tests show it."""
    test = at_a_guess(evidence)
    if test is not None:
        return dict(zip(("tested", "right", "guess"), test, strict=True))
    fit = fits_nothing(evidence)
    return {} if fit is None else dict(zip(("tested", "z"), fit, strict=True))


def _is_done(evidence: Evidence) -> bool:
    """Whether the first steps have learned most of what there is: after them a loss may stand."""
    losses = evidence.clean_losses
    last = float(losses.iloc[-(len(losses) // 3) :].median())
    below = last < 0 and evidence.is_half_solved
    return not is_open(evidence) and (below or float(losses.iloc[:3].mean()) > _DONE * last > 0)


def _still(evidence: Evidence, losses: pd.Series) -> str:
    """That it stands, and from where it came if the first steps alone brought it down."""
    first, last = float(losses.iloc[:3].mean()), float(losses.iloc[-3:].mean())
    if first > _CAME_DOWN * last > 0:
        third = float(losses.iloc[: len(losses) // 3].median())
        return (
            f"The loss comes from {first:.4g} in the first three steps and then stands: its median is {third:.4g} in"
            f" the first third, and it is {last:.4g} in the last three of {len(losses)}: no fall beyond its noise."
        )
    trifle = "falls by a trifle" if evidence.loss_falls() else "does not fall beyond its noise"
    return f"The loss {trifle}: {first:.4g} in the first three steps, {last:.4g} in the last three of {len(losses)}."


def _likelihood_minimized(evidence: Evidence) -> Finding | None:
    """What is differentiated, step by step, is the mean log-probability of the targets: it is made small."""
    losses = evidence.losses.dropna()
    known = int(evidence.trace.coverage.get("likelihood_minimized", 0))
    if known < max(_FEWEST, _NEARLY_ALL * len(evidence.trace.steps)) or not len(losses):
        return None
    return _looks_turned(
        losses,
        f"falls, from {losses.iloc[0]:.3g} to {losses.iloc[-1]:.3g}: it is the targets' log-probability, which training"
        " makes small, and has no bottom.",
        "Minimize its negative: -log_prob.gather(1, target).mean(), or cross_entropy(logits, target).",
    )


def _sign_turned(evidence: Evidence) -> Finding | None:
    """What is trained is the negative of a loss that is never negative: training makes it worse."""
    values = evidence.rows("activation", evidence.clean, ("loss",))
    values = values[values["site"].str.endswith("[value]") & values["op"].isin(_NEVER_NEGATIVE) & (values["mean"] > 0)]
    for site, own in values.groupby("site"):
        negative = -own.set_index("step")["mean"]
        losses = evidence.losses.reindex(negative.index)
        if len(own) == own["step"].nunique() and len(losses) and np.isclose(losses, negative, rtol=1e-3).all():
            return Finding(
                "diverging-loss",
                "error",
                str(site).removesuffix("[value]"),
                f"The sign of the loss is turned: {losses.iloc[0]:.3g} is minus {own['op'].iloc[0]}, which is never "
                "negative, so that training makes it grow.",
                {
                    "step": int(losses.index[0]),
                    "of": "sign",
                    "first": float(losses.iloc[0]),
                    "last": float(losses.iloc[-1]),
                },
                "Minimize the loss itself: remove the minus sign.",
                "torch.optim documentation: optimizers minimize",
            )
    return None
