"""What one tensor says: moments, zeros, saturation, dead units; and how two measurements merge."""

from __future__ import annotations

from diag.stats.backend import backend_name, measure, measure_into
from diag.stats.fields import FIELDS, WIDTH
from diag.stats.merge import merge_rows
from diag.stats.saturation import Bounds, bounds_for
from diag.stats.tensor_stats import TensorStats
from diag.stats.twins import twin_rows

__all__ = [
    "FIELDS",
    "WIDTH",
    "Bounds",
    "TensorStats",
    "backend_name",
    "bounds_for",
    "measure",
    "measure_into",
    "merge_rows",
    "twin_rows",
]
