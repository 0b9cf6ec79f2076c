"""What one tensor says, as a value: the fields of a row by name, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np

from diag.stats.fields import WIDTH
from diag.stats.merge import Rows, merge_rows


@dataclass(frozen=True)
class TensorStats:
    """Statistics of one tensor; NaN means not measured. `fields.FIELDS` says what each number is."""

    count: float
    mean: float = math.nan
    m2: float = math.nan
    min: float = math.nan
    max: float = math.nan
    zeros: float = math.nan
    saturated: float = math.nan
    nonfinite: float = math.nan
    units: float = math.nan
    dead_units: float = math.nan
    sample_var: float = math.nan
    twin_units: float = math.nan

    @property
    def finite(self) -> float:
        """Number of finite elements: count - nonfinite."""
        return self.count - self.nonfinite

    @property
    def var(self) -> float:
        """Biased variance of the finite elements: m2 / finite; NaN when there are none."""
        return self.m2 / self.finite if self.finite > 0 else math.nan

    @property
    def rms(self) -> float:
        """Root mean square of the finite elements: sqrt(mean^2 + var)."""
        return math.hypot(self.mean, math.sqrt(self.var))

    @property
    def zero_fraction(self) -> float:
        """Share of exact zeros among the finite elements, 0 to 1."""
        return self.zeros / self.finite if self.finite > 0 else math.nan

    @property
    def saturated_fraction(self) -> float:
        """Share of saturated elements among the finite elements, 0 to 1."""
        return self.saturated / self.finite if self.finite > 0 else math.nan

    @classmethod
    def from_row(cls, row: Iterable[float]) -> TensorStats:
        """The stats in one measurement row (WIDTH numbers in the order of FIELDS).

        Raises:
            ValueError: the row has another length than WIDTH.
        """
        values = [float(value) for value in row]
        if len(values) != WIDTH:
            raise ValueError(f"a measurement row has {WIDTH} numbers, got {len(values)}")
        return cls(*values)

    def to_row(self) -> Rows:
        """The measurement row: float64, shape [WIDTH]."""
        return np.array(astuple(self), dtype=np.float64)

    def merge(self, other: TensorStats) -> TensorStats:
        """The stats of both tensors taken as one (Chan et al. 1983); see `merge_rows` for what is bounded only."""
        rows = np.stack([self.to_row(), other.to_row()])
        return TensorStats.from_row(merge_rows(rows, np.zeros(2, dtype=np.intp), 1)[0])
