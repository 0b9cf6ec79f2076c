"""What a prescription says: the answer in a sentence, the rows of its table, and how they were measured."""

from __future__ import annotations

import math

from diag.prescribe.arm import LAST
from diag.prescribe.effect import MARGIN, Effect
from diag.prescribe.prescribe import Prescription
from diag.prescribe.remedy import Remedy
from diag.prescribe.trial import Trial
from diag.report.text import number, plural

VERDICTS = {
    "helped": "healthy",
    "cannot tell": "unknown",
    "did not help": "warning",
    "diverged": "error",
    "could not be tried": "unknown",
}
"""The verdicts of trials in the colors of findings."""
_MEANINGS = {"loss": " (a function of model and batch)", "batches": " (what you train on)"}
COLUMNS = ("change", "loss, untreated -> treated", "effect (95 % interval)", "findings gone", "verdict")


def headline(found: Prescription) -> str:
    """The answer in a sentence."""
    if found.best is not None:
        return f"{found.best.remedy.name} helped most: {effect_text(found.best)}"
    if not found.trials:
        return "healthy: nothing was tried" if found.watched.clean else "nothing could be tried"
    none = f"none of {plural(len(found.trials), 'remedy').replace('remedys', 'remedies')} helped"
    undecided = sum(one.verdict == "cannot tell" for one in found.trials)
    which = plural(undecided, "remedy").replace("remedys", "remedies")
    more = f" beyond doubt; more seeds may decide for {which} (--seeds {found.seeds + 2})" if undecided else ""
    return f"{'healthy, and ' if found.watched.healthy else ''}{none}{more}"


def effect_text(trial: Trial) -> str:
    """What it brought, with its interval: `loss 82% lower [75% to 88%]`."""
    effect = trial.effect
    if effect is None:
        return f"{plural(len(trial.gone or []), 'finding')} gone at initialization"
    if trial.verdict == "diverged":
        return "diverged"
    lower = effect.value < 0
    change = f"loss {_amount(effect.measure, effect.value, lower)} {'lower' if lower else 'higher'}"
    if not math.isfinite(effect.low):
        return f"{change} (one seed)" if lower else "no fall with the first seed"
    if _is_one_run(trial):
        return f"{change} (one and the same with each seed)"
    ends = (effect.high, effect.low) if lower else (effect.low, effect.high)
    low, high = (_amount(effect.measure, end, lower) for end in ends)
    return f"{change} [{low} to {high}]{_too_little(effect) if trial.verdict == 'did not help' else ''}"


def _is_one_run(trial: Trial) -> bool:
    """Whether all seeds gave the same."""
    effect = trial.effect
    return effect is not None and effect.seeds > 1 and math.isclose(effect.low, effect.high, abs_tol=1e-9)


def _too_little(effect: Effect) -> str:
    """Why a loss that ends a good deal lower is no help: what it began with is larger by far."""
    fall = effect.base - effect.end
    if effect.matters or not fall >= MARGIN * abs(effect.base) or not effect.start > 0:
        return ""
    return f", only {100 * fall / effect.start:.2g}% of the {number(effect.start)} before training"


def _amount(measure: str, value: float, lower: bool) -> str:
    """By how much the loss is lower, or higher."""
    sign = -1 if lower else 1
    if measure != "log ratio":
        return number(sign * value)
    return f"{100 * sign * math.expm1(min(value, 50.0)):.0f}%"


def cells(trial: Trial, seeds: int | None = None) -> tuple[str, ...]:
    """A row of the table, in the order of `COLUMNS`. seeds: of the others; another number is told."""
    gone = "-" if trial.gone is None else ", ".join(trial.gone) or "none"
    if trial.new:
        gone += f"; new: {', '.join(trial.new)}"
    return trial.remedy.name, _losses(trial, seeds), effect_text(trial), gone, trial.verdict


def _losses(trial: Trial, seeds: int | None) -> str:
    """The two losses, and what they count as where that is less: the effect is the ratio of these."""
    effect = trial.effect
    if effect is None:
        return "-"
    one, other = number(effect.control), number(effect.remedy)
    if trial.verdict != "diverged" and (effect.value < 0 or math.isfinite(effect.low)):
        one, other = _as(one, number(effect.base)), _as(other, number(effect.end))
    one, other = (shown.replace("inf", "diverged") for shown in (one, other))
    told = f" ({plural(effect.seeds, 'seed')})" if seeds not in (None, effect.seeds) else ""
    return f"{one} -> {other}{told}"


def _as(loss: str, counted: str) -> str:
    return loss if loss == counted else f"{loss} (as {counted})"


def method(found: Prescription) -> str:
    """How it was measured."""
    parts = [
        f"{found.steps} steps and {plural(found.seeds, 'seed')} each, where no other number is told, on copies, with "
        "the same batches in the same order as the untreated training, and all from the same initial weights: seeds "
        "differ in the order of the batches and in what a remedy itself draws, and the interval is over these. The "
        f"loss is measured without dropout, and is a mean over the last {LAST:.0%} of the steps, and a geometric mean "
        "over the seeds (a mean where one is not positive); the effect is the change from untreated to treated, with "
        "Student's interval."
    ]
    if any(_is_one_run(one) for one in found.trials):
        parts += [
            "One and the same with each seed: with one batch, and nothing that is drawn, seeds change nothing, and tell"
            " nothing of chance."
        ]
    if any("(as " in _losses(one, None) for one in found.trials):
        parts += [
            "(as ...): where a seed's loss ends above the one before training, untreated or treated, whichever is "
            "less, it counts as that."
        ]
    parts += [
        f"Helped: the interval excludes no effect, and the loss ends lower by {MARGIN:.0%} of what it began with, "
        "untreated or treated, whichever is less."
    ]
    if any(one.helped and one.effect is not None and not one.effect.high < 0 for one in found.trials):
        parts += ["Or, whatever the interval: each untreated training ends higher by that, and each treated one lower."]
    if any(one.verdict == "cannot tell" for one in found.trials):
        more = f"--seeds {found.seeds + 2}"
        parts += [f"Cannot tell: it ends lower by as much, but not beyond doubt; more seeds may decide ({more})."]
    return " ".join([*parts, "Findings: by the rules, after the change."])


def simpler_text(found: Prescription) -> str:
    """What introduces the code of one change that mends what was seen to be wrong, beside a best that is more."""
    one = found.simpler
    if one is None:
        return ""
    return f"Simpler, one change that mends what was seen to be wrong: {one.remedy.name}, {effect_text(one)}."


def pasting(remedy: Remedy) -> list[tuple[str, str]]:
    """What is to be done with the code of a remedy, in sentences, each with its lines; "" for none."""
    parts = remedy.snippet
    names = [f"{name}{_MEANINGS.get(name, '')}" for name in parts.names]
    own = f", with your own names for {', '.join(names[:-1])}{' and ' if names[1:] else ''}{names[-1]}" if names else ""
    told = [("Paste at the top of the file:", parts.imports)] if parts.imports else []
    told += [(f"Paste after the model and the optimizer are made{own}:", parts.lines)]
    return [*told, *([(f"Then train with {remedy.loss} in place of your loss.", "")] if remedy.loss != "loss" else [])]
