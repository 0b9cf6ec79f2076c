"""A trace and its findings in TensorBoard. Needs the extra `tensorboard`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from diag.errors import TargetError
from diag.integrations.extra import refuse
from diag.integrations.source import diagnosis_of
from diag.report import measured
from diag.report.markdown import render
from diag.trace import Trace

SCALARS: dict[str, Callable[[Trace], pd.DataFrame]] = {
    "gradient_rms": lambda trace: measured.matrix(trace, "gradient", "rms"),
    "activation_rms": lambda trace: measured.matrix(trace, "activation", "rms"),
    "saturated": measured.saturation,
    "dead": measured.dead,
}
"""A row per site and a column per step; saturated: share of elements, dead: share of units, of nonlinearities."""


def write(source: Any, writer: Any, prefix: str = "diag/") -> None:
    """Write one scalar per measure, site and measured step, `diag/gradient_rms/encoder.0`, and the findings as text.

    Args: source, a diag.Watch, Trace or Diagnosis. writer: a SummaryWriter of torch, or a log folder. What was not
    measured is not written. Calls of a shared site are merged.
    Raises: MissingExtraError without TensorBoard, TargetError for anything else.
    """
    diagnosis = diagnosis_of(source, "diag.integrations.tensorboard.write")
    own = isinstance(writer, (str, Path))
    if own:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            refuse(error, "tensorboard")
        writer = SummaryWriter(str(writer))
    if not (hasattr(writer, "add_scalar") and hasattr(writer, "add_text")):
        raise TargetError(
            "diag.integrations.tensorboard.write takes a SummaryWriter or a log folder, got "
            f"{type(writer).__name__}: give it the folder's name"
        )
    try:
        trace = diagnosis.trace
        for name, table in SCALARS.items():
            _write_table(writer, prefix + name, table(trace))
        steps = trace.steps["step"]
        writer.add_text(prefix + "findings", render(diagnosis), int(steps.max()) if len(steps) else 0)
        writer.flush()
    finally:
        if own:
            writer.close()


def _write_table(writer: Any, name: str, table: pd.DataFrame) -> None:
    for site, values in zip(table.index, table.to_numpy(dtype="float64"), strict=True):
        for step, value in zip(table.columns, values, strict=True):
            if math.isfinite(value):
                writer.add_scalar(f"{name}/{site}", value, int(step))
