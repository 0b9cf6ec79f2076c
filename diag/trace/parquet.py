"""A trace on disk: one parquet file, the tidy table as its data, everything else in its metadata as JSON."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from diag.errors import TraceError
from diag.trace import schema
from diag.trace.trace import Trace

_KEY = b"diag"
_TABLES = {"steps": schema.STEPS, "sites": schema.SITES, "units": schema.UNITS}


def save(trace: Trace, path: str | Path) -> Path:
    """Write a trace atomically and return its path; a pipe or device is written as it is.

    Raises: TraceError if the place cannot be written to.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    tables = {name: _columns(getattr(trace, name)) for name in _TABLES}
    header = {"version": schema.SCHEMA_VERSION, "coverage": trace.coverage, "meta": trace.meta, **tables}
    table = pa.Table.from_pandas(trace.frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: json.dumps(header).encode()})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            content = io.BytesIO()  # neither can be sought in, and a file moved there would take its place
            pq.write_table(table, content)
            path.write_bytes(content.getvalue())
            return path
        try:
            pq.write_table(table, temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise TraceError(f"cannot write the trace to {path}: {error.strerror or error}") from None
    return path


def load(path: str | Path) -> Trace:
    """Read a trace. Nothing in the file is executed.

    Raises: TraceError if it is missing, is no trace, or was written by a newer version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not Path(path).is_file():
        raise TraceError(f"{path} is a folder, not a trace" if Path(path).is_dir() else f"no trace at {path}")
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise TraceError(f"{path} is not a trace that can be read: {_first_line(error)}") from None
    header = (table.schema.metadata or {}).get(_KEY)
    if header is None:
        raise TraceError(f"{path} is a parquet file, but not a trace of diag")
    try:
        content = json.loads(header)
        if content["version"] > schema.SCHEMA_VERSION:
            raise TraceError(
                f"{path} has trace version {content['version']}; "
                f"this diag reads up to {schema.SCHEMA_VERSION}: upgrade diag"
            )
        tables = {name: _table(content[name], columns) for name, columns in _TABLES.items()}
        frame = table.to_pandas()[schema.names(schema.FRAME)].astype(schema.dtypes(schema.FRAME))
        return Trace(frame=frame, coverage=dict(content["coverage"]), meta=dict(content["meta"]), **tables)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TraceError(f"{path} is damaged: {type(error).__name__}: {_first_line(error)}") from None


def _columns(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Values by column; None for what is missing. Floats read back bit for bit, infinities too."""
    return {str(name): table[name].astype(object).where(table[name].notna(), None).tolist() for name in table}


def _table(values: dict[str, list[Any]], columns: tuple[schema.Column, ...]) -> pd.DataFrame:
    return pd.DataFrame({one.name: pd.Series(values[one.name], dtype=one.dtype) for one in columns})


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
