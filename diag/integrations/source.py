"""What a writer may be given: a diagnosis, a watch, or a trace."""

from __future__ import annotations

from typing import Any

from diag.errors import TargetError
from diag.report.diagnosis import Diagnosis, diagnose
from diag.trace import Trace
from diag.watch import Watch


def diagnosis_of(source: Any, taker: str) -> Diagnosis:
    """The diagnosis of whatever was given to `taker`.

    Raises: TargetError for anything else.
    """
    if isinstance(source, Diagnosis):
        return source
    if isinstance(source, Trace):
        return diagnose(source)
    if isinstance(source, Watch):
        return source.diagnose()
    given = type(source).__name__
    raise TargetError(f"{taker} takes a diag.Watch, Trace or Diagnosis, got {given}: give it what diag.watch returns")
