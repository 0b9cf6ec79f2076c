"""What was seen: the tidy table, its schema, and parquet in and out."""

from diag.trace.parquet import load, save
from diag.trace.trace import Trace

__all__ = ["Trace", "load", "save"]
