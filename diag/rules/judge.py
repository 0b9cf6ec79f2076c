"""From a trace to findings: every rule asked, causes joined with their consequences."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Mapping
from dataclasses import replace

from diag.errors import DiagError
from diag.rules.causes import join
from diag.rules.evidence import Evidence
from diag.rules.finding import SEVERITIES, Finding
from diag.rules.registry import RULES
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


STRICT = "DIAG_STRICT"
_REMADE = 1.0
"""An update over its weight, of half of the matrices, that no learning policy takes."""
_GROWS = ("exploding-activation", "exploding-gradient", "oversized-update", "saturated-activation", "diverging-loss")


def judge(trace: Trace, thresholds: Mapping[str, float] | None = None) -> list[Finding]:
    """The findings on a trace, the gravest first.

    thresholds: instead of those of `[tool.diag.thresholds]` in the nearest pyproject.toml. Modules named in
    `[tool.diag] rules` are imported first, for the rules they register.
    A rule of ours that raises, which is a fault of ours, is left out and noted in the coverage; it is raised where the
    environment sets DIAG_STRICT. Raises: DiagError for an unknown threshold, a module of rules that cannot be imported,
    or a user's rule that raises.
    """
    settings = load_settings()
    for name in settings["rules"]:
        try:
            importlib.import_module(name)
        except DiagError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise DiagError(f"[tool.diag] rules names '{name}', which cannot be imported: {what}") from error
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
            said = list(function(evidence))
        except Exception as error:
            if function.__module__.startswith("diag.rules."):
                if os.environ.get(STRICT):
                    raise
                _note(
                    evidence, f"the rule '{name}' failed and says nothing ({type(error).__name__}: {error}): report it"
                )
                continue
            raise DiagError(
                f"the rule '{name}' of {function.__module__} raised {type(error).__name__}: {error}"
            ) from error
        for one in said:
            if not isinstance(one, Finding) or one.severity not in SEVERITIES:
                raise DiagError(
                    f"the rule '{name}' of {function.__module__} must yield diag.Finding with severity "
                    f"{', '.join(SEVERITIES)}, got {one!r}"
                )
        found += [_of_policy(one) for one in said] if evidence.acts else said
    return found


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
