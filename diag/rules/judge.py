"""From a trace to findings: every rule asked, causes joined with their consequences."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diag.errors import STRICT
from diag.rules.answered import at_a_guess, tells_most
from diag.rules.causes import join
from diag.rules.evidence import Evidence
from diag.rules.finding import SEVERITIES, Finding
from diag.rules.registry import RULES, Rule, import_rules
from diag.rules.thresholds import resolve
from diag.settings import load_settings
from diag.trace import Trace

# A rule registers itself when its file is imported.
for _family in (
    "activations",
    "dead",
    "evaluated",
    "gradients",
    "loss",
    "missing",
    "nonfinite",
    "pairing",
    "saturation",
    "symmetry",
    "updates",
):
    importlib.import_module(f"diag.rules.{_family}")


_HARMLESS = ", so it does no visible harm yet."
_HARM = ("vanishing-gradient", "stalled-update", "dead-units", "saturated-activation", "collapsed-signal")
_UNUSUAL = {("exploding-activation", "input"), ("collapsed-signal", "dropout")}
"""What works well in many a training, by rule and kind."""
_REMADE = 1.0
"""An update over its weight, of half of the matrices, that no learning policy takes."""
_GROWS = ("exploding-activation", "exploding-gradient", "oversized-update", "saturated-activation", "diverging-loss")


def judge(trace: Trace, thresholds: Mapping[str, float] | None = None) -> list[Finding]:
    """The findings on a trace, the gravest first.

    thresholds: instead of those of `[tool.diag.thresholds]` in the nearest pyproject.toml. Modules named in
    `[tool.diag] rules` are imported first, for the rules they register.
    A rule of ours that raises, which is a fault of ours, is left out and noted in the coverage; it is raised where the
    environment sets DIAG_STRICT. One of a user's that does, or yields what is no finding, is a warning that says so:
    a training of hours is not to be judged in vain. Raises: DiagError for an unknown threshold, or a module of rules
    that cannot be imported.
    """
    settings = load_settings()
    import_rules(settings["rules"])
    if not len(trace.frame):
        return []
    values = resolve(settings["thresholds"] if thresholds is None else thresholds)
    models = list(trace.sites.sort_values("order", kind="stable")["model"].unique())
    found: list[Finding] = []
    for model in models if len(models) > 1 else [None]:
        evidence = Evidence(trace, values, model)
        found += [one for one in _ask(evidence) if one not in found]
    orders = trace.sites.drop_duplicates("site").set_index("site")["order"]
    return join(found, {str(site): float(order) for site, order in orders.items()})


def _ask(evidence: Evidence) -> list[Finding]:
    """What every rule says of one model."""
    found: list[Finding] = []
    if not len(evidence.frame):
        return found
    for name, function in RULES.items():
        try:
            said = _said(function, evidence)
        except Exception as error:
            if function.__module__.startswith("diag.rules."):
                if os.environ.get(STRICT):
                    raise
                _note(
                    evidence, f"the rule '{name}' failed and says nothing ({type(error).__name__}: {error}): report it"
                )
                continue
            said = [_failed(name, function, f"raised {type(error).__name__}: {error}")]
        wrong = next((one for one in said if not _is_whole(one)), None)
        if wrong is not None:
            must = f"must yield diag.Finding with severity {', '.join(SEVERITIES)}, text, and evidence that is a dict"
            said = [_failed(name, function, f"{must}, got {wrong!r}")]
        found += [_of_policy(one) for one in said] if evidence.acts else said
    return _told_by_tests(evidence, _harmless_by_tests(evidence, found))


def _harmless_by_tests(evidence: Evidence, found: list[Finding]) -> list[Finding]:
    """Of what is unusual and may well do no harm, inputs on their own scale and strong dropout, only a word remains
    where tests at the end of training tell nearly all."""
    test = tells_most(evidence) if evidence.trains else None
    if test is None:
        return found
    said = f" Of {test[0]} samples that are tested {test[1]} are told right, so it does no visible harm."

    def milder(one: Finding) -> Finding:
        if (one.rule, one.evidence.get("of")) in _UNUSUAL and one.severity != "note":
            return replace(one, severity="warning", message=one.message + said)
        if one.rule == "loss-not-decreasing" and "of" not in one.evidence and one.severity == "warning":
            return replace(one, severity="note")  # what is to be learned has been, as by the first batches
        return one

    return [milder(one) for one in found]


def _told_by_tests(evidence: Evidence, found: list[Finding]) -> list[Finding]:
    """What was only worth a word, since the loss falls, is an error where tests at the end of training tell no more
    than a guess, and nothing else is one."""
    test = at_a_guess(evidence) if evidence.trains else None
    errors = {one.rule for one in found if one.severity == "error"}
    if test is None or errors - {"unrelated-targets"}:
        return found
    samples, right, guess = test
    said = f" Of {samples} samples that are tested {right} are told right, where a guess has {guess:.1%}."
    harm = [] if errors else [one for one in found if one.severity == "warning" and one.rule in _HARM]
    # A module that was forgotten is an answer where there is no other, and a table, as of positions, before labels that
    # do not belong to their inputs.
    forgotten = [one for one in found if one.evidence.get("of") == "never ran"]
    harm = harm or [one for one in forgotten if not errors or evidence.sites.loc[one.site, "module"] == "Embedding"]
    return [
        replace(one, severity="error", message=one.message.replace(_HARMLESS, ".") + said) if one in harm else one
        for one in found
    ]


def _said(function: Rule, evidence: Evidence) -> list[Finding]:
    """What a rule yields, or returns: a list of findings, or a single one."""
    said: Any = function(evidence)
    if said is None:
        raise TypeError("it returned None: a rule yields its findings")
    return [said] if isinstance(said, Finding) else list(said)


def _is_whole(one: Any) -> bool:
    """Whether it is a finding of which all parts are what they are to be."""
    if not isinstance(one, Finding) or one.severity not in SEVERITIES:
        return False
    texts = (one.rule, one.site, one.message, one.remedy, one.source)
    nested = one.consequences
    whole = isinstance(nested, tuple) and all(_is_whole(two) for two in nested)
    return whole and all(isinstance(text, str) for text in texts) and isinstance(one.evidence, dict)


def _failed(name: str, function: Rule, how: str) -> Finding:
    """A rule of the user's that says nothing, for this."""
    module = getattr(function, "__module__", "?")
    message = f"The rule '{name}' of {module} {how}. It says nothing of this training."
    return Finding(name, "warning", module, message, {"of": "failed"}, "Mend the rule.", module)


def _note(evidence: Evidence, text: str) -> None:
    notes = evidence.trace.coverage.setdefault("notes", [])
    if text not in notes:
        notes.append(text)


def _of_policy(finding: Finding) -> Finding:
    """Returns, values and weights grow with what a policy learns: their growth is no error."""
    meant = finding.rule in _GROWS and finding.evidence.get("of") in (None, "growth", "first")
    if finding.rule == "oversized-update" and finding.evidence.get("median_ratio", 0.0) >= _REMADE:
        return finding  # half of the weights are replaced by a step
    known = (one for name, one in finding.evidence.items() if name != "input_rms")  # NaN where there was none
    finite = all(math.isfinite(one) for one in known if isinstance(one, float))
    return replace(finding, severity="warning") if meant and finite and finding.severity == "error" else finding
