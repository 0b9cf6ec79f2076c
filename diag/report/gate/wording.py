"""A gate's verdict in words, the same in every format."""

from __future__ import annotations

from diag.gate.gate import Verdict
from diag.gate.judge import Check
from diag.report.text import number, plain, plural


def headline(verdict: Verdict) -> str:
    """The answer in one line."""
    checks = [*verdict.pooled, *verdict.checks]
    if verdict.answer == "regression":
        failed, broken, name = len(verdict.regressions), len(verdict.claims), plain(verdict.baseline)
        worse = f"{plural(failed, 'comparison')} of {len(checks)} worse than {name}"
        of = "" if failed else f" of {name}"
        claims = f"{plural(broken, 'claim')}{of} no longer {'holds' if broken == 1 else 'hold'}"
        return "regression: " + ", ".join([worse] * (failed > 0) + [claims] * (broken > 0))
    if verdict.answer == "cannot tell":
        need = needed(verdict)
        return f"cannot tell: too few seeds for the margins{f'; about {need} would do' if need else ''}"
    better = sum(one.answer == "improvement" for one in checks)
    open_ = sum(one.answer == "cannot tell" for one in verdict.checks)
    text = f"{verdict.answer}: {len(checks)} comparisons, none worse"
    text += f", {better} better" if better else ""
    return text + (f"; {open_} single cases have too few seeds to tell by themselves" if open_ else "")


def needed(verdict: Verdict) -> int | None:
    """The most seeds that any comparison needs which left the gate without an answer; None if one needs too many."""
    found = [one.needed for one in verdict.undecided]
    return max((one for one in found if one is not None), default=None) if None not in found else None


def where(check: Check) -> str:
    """Of what a check speaks."""
    return check.case or "all cases together"


def sentence(check: Check) -> str:
    """One check: what was, what is, how much worse with its interval, and what would not have mattered."""
    direction = "worse" if check.harm >= 0 else "better"
    pairs = "paired by seed" if check.paired else "unpaired"
    need = f"; about {check.needed} seeds would settle it" if check.needed else ""
    need += "; it is its worst trials' distance from the others that leaves it open" if check.hidden else ""
    return (
        f"{check.metric}: {number(check.baseline)} -> {number(check.new)}, {number(abs(check.harm))} {direction} "
        f"(90 % interval {number(check.low)} to {number(check.high)}, margin {number(check.margin)}, "
        f"{plural(check.seeds, 'seed')}, {pairs}){need}"
    )


def lines(verdict: Verdict) -> list[str]:
    """Everything that a person has to know: regressions, broken claims, what left it without an answer, remarks."""
    told = verdict.undecided if verdict.answer == "cannot tell" else verdict.regressions
    found = [f"{plain(where(one))}: {sentence(one)}" for one in told]
    found += [f"claim no longer holds: {plain(one)}" for one in verdict.claims]
    return found + [plain(one) for one in verdict.remarks]
