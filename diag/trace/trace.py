"""What was seen: one tidy table, with what is needed to read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from diag.trace import schema


def empty(columns: tuple[schema.Column, ...]) -> pd.DataFrame:
    """A table with these columns and no row."""
    return pd.DataFrame({c.name: pd.Series([], dtype=c.dtype) for c in columns})


@dataclass
class Trace:
    """Statistics of one watched training.

    frame: one row per step, site, call and kind (`schema.FRAME`). steps: one row per step (`schema.STEPS`).
    sites: one row per site (`schema.SITES`). units: unit death over a window (`schema.UNITS`).
    coverage: what was observed and what was not. meta: where and how it was measured.
    """

    frame: pd.DataFrame = field(default_factory=lambda: empty(schema.FRAME))
    steps: pd.DataFrame = field(default_factory=lambda: empty(schema.STEPS))
    sites: pd.DataFrame = field(default_factory=lambda: empty(schema.SITES))
    units: pd.DataFrame = field(default_factory=lambda: empty(schema.UNITS))
    coverage: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    def kind(self, kind: str) -> pd.DataFrame:
        """The rows of one kind, in step and forward order."""
        rows = self.frame[self.frame["kind"] == kind]
        return rows.sort_values(["step", "order", "call"], kind="stable")

    @property
    def parameters(self) -> pd.DataFrame:
        """Per step and parameter: norm, gradient_norm, update_norm (L2) and update_ratio = update_norm / norm.

        A large parameter's update is measured on a sample of its elements; its norm is scaled to the whole.
        """
        wide: dict[str, pd.Series] = {}
        sizes: pd.Series | None = None
        for kind, column in (("weight", "norm"), ("weight_gradient", "gradient_norm"), ("update", "update_norm")):
            rows = self.frame[self.frame["kind"] == kind].set_index(["step", "site"])
            if kind == "weight":
                sizes = rows["count"]
            wide[column] = rows["rms"]
        table = pd.DataFrame(wide)
        size = sizes.reindex(table.index) if sizes is not None else pd.Series(float("nan"), index=table.index)
        for column in wide:
            table[column] = table[column] * size**0.5
        table["update_ratio"] = (table["update_norm"] / table["norm"]).where(table["norm"] > 0)
        return table.reset_index()
