"""A diagnosis in Weights & Biases: the trace as a table, the findings in the summary, errors as alerts.

Needs the extra `wandb`. Nothing of it asks the network: a run of `mode="offline"` is as good.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from diag.errors import DiagError
from diag.integrations.extra import refuse
from diag.integrations.source import diagnosis_of
from diag.report.diagnosis import Diagnosis
from diag.rules.finding import SEVERITIES

LONGEST_TABLE = 10_000
"""Rows that W&B shows of a table; each costs a quarter of a millisecond besides."""
LONGEST_TITLE = 63
"""Characters of an alert's title."""


def log(source: Any, run: Any = None) -> None:
    """Log the trace as the table `diag/trace`, the verdict in the run's summary, and an alert for each error.

    Args: source, a diag.Watch, Trace or Diagnosis. run: a W&B run; None takes the current one. Of a long trace the
    table holds as many steps as fit, evenly spaced from the first to the last; the summary says how many of how many.
    Raises: MissingExtraError without W&B, DiagError where no run is going on, TargetError for another source.
    """
    diagnosis = diagnosis_of(source, "diag.integrations.wandb.log")
    try:
        import wandb
    except ModuleNotFoundError as error:
        refuse(error, "wandb")
    run = wandb.run if run is None else run
    if run is None:
        raise DiagError("diag.integrations.wandb.log found no run: call wandb.init() before it, or give it run=...")
    frame, shown = fitting(diagnosis.trace.frame)
    run.log({"diag/trace": wandb.Table(columns=list(frame.columns), data=_rows(frame))})
    run.summary.update({**summary(diagnosis), "diag/steps_in_table": shown})
    for finding in diagnosis.findings:
        if finding.severity == "error":
            text = "\n\n".join(filter(None, [finding.message, finding.remedy, finding.source]))
            run.alert(title=_title(finding.rule, finding.site), text=text, level="ERROR")


def summary(diagnosis: Diagnosis) -> dict[str, Any]:
    """What the run's summary is told: whether it is healthy, findings by severity, and each of them in full."""
    counts = {f"diag/{one}s": sum(f.severity == one for f in diagnosis.findings) for one in SEVERITIES}
    measured = diagnosis.coverage.get("measured_steps", 0)
    findings = [finding.to_dict() for finding in diagnosis.findings]
    return {"diag/healthy": diagnosis.healthy, **counts, "diag/measured_steps": measured, "diag/findings": findings}


def fitting(frame: pd.DataFrame, longest: int = LONGEST_TABLE) -> tuple[pd.DataFrame, int]:
    """The rows of as many evenly spaced steps as fit into `longest` rows, and how many steps that is; at least one."""
    steps = frame["step"].drop_duplicates().to_numpy()
    kept = steps
    while len(kept) > 1 and (rows := int(frame["step"].isin(kept).sum())) > longest:
        fewer = max(1, min(len(kept) - 1, math.floor(len(kept) * longest / rows)))
        kept = steps[np.unique(np.linspace(0, len(steps) - 1, fewer).round().astype(int))]
    return frame[frame["step"].isin(kept)], len(kept)


def _rows(frame: pd.DataFrame) -> list[list[Any]]:
    """Rows of Python's own values, with None for what was not measured."""
    return [list(row) for row in frame.astype(object).where(frame.notna(), None).itertuples(index=False)]


def _title(rule: str, site: str) -> str:
    title = f"diag: {rule}" + (f" at {site}" if site else "")
    return title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 3] + "..."
