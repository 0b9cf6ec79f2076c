"""The trials of a run as tables that claims, tables and figures read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from diag.suite.errors import MissingTrialsError
from diag.suite.record import Record

if TYPE_CHECKING:
    from diag.suite.ranking import Better


@dataclass
class Results:
    """Everything that was measured, by case and seed."""

    records: list[Record]
    _frame: pd.DataFrame | None = field(default=None, init=False, repr=False)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per trial: case, seed, the recipe's fields or the experiment's parameters, and every metric."""
        if self._frame is None:
            rows = [{"case": one.case, "seed": one.seed, **one.fields, **one.metrics} for one in self.records]
            self._frame = pd.DataFrame(rows if rows else [], columns=None if rows else ["case", "seed"])
        return self._frame

    def select(self, **fields: Any) -> pd.DataFrame:
        """The rows of `frame` in which each field has the value, or one of the values of a list."""
        frame = self.frame
        for name, value in fields.items():
            if name not in frame:
                raise MissingTrialsError(f"no trial has '{name}' yet")
            wanted = list(value) if isinstance(value, (list, set)) else [value]
            frame = frame[frame[name].isin(wanted)]
        return frame

    def values(self, metric: str, **fields: Any) -> pd.Series:
        """One value of a metric per seed, for the one case that the fields pick out.

        Raises: MissingTrialsError if no trial does; ValueError if several cases do.
        """
        rows = self.select(**fields)
        if rows.empty or metric not in rows:
            raise MissingTrialsError(f"no trial with {_described(fields)} has measured {metric} yet")
        if rows["case"].nunique() > 1:
            raise ValueError(f"{_described(fields)} picks out several cases: {sorted(rows['case'].unique())}")
        return rows.set_index("seed")[metric].sort_index()

    def difference(self, metric: str, first: dict[str, Any], second: dict[str, Any]) -> pd.Series:
        """first - second of a metric, paired by seed.

        Raises: as `values`; MissingTrialsError if no seed is in both.
        """
        one, other = self.values(metric, **first), self.values(metric, **second)
        # A seed that one of the two lacks has no pair; a value that is missing in a pair stays missing.
        shared = one.index.intersection(other.index)
        if not len(shared):
            raise MissingTrialsError(f"no seed has both {_described(first)} and {_described(second)} yet")
        return one.loc[shared] - other.loc[shared]

    def table(self, name: str, **fields: Any) -> pd.DataFrame:
        """A table of all trials that the fields pick out, one below the other, with case and seed in front.

        Raises: MissingTrialsError if there is none.
        """
        keys = set(map(tuple, self.select(**fields)[["case", "seed"]].itertuples(index=False))) if fields else None
        parts = [
            table.assign(case=one.case, seed=one.seed)
            for one in self.records
            if (keys is None or (one.case, one.seed) in keys) and (table := one.table(name)) is not None
        ]
        if not parts:
            raise MissingTrialsError(f"no trial with {_described(fields)} has the table '{name}' yet")
        whole = pd.concat(parts, ignore_index=True)
        return whole[["case", "seed", *(one for one in whole if one not in ("case", "seed"))]]

    def ranking(self, cases: Iterable[str], **metrics: Better) -> pd.DataFrame:
        """Cases with means, intervals, and marks of the best and those not told from it: `diag.suite.ranking.rank`."""
        from diag.suite.ranking import rank

        return rank(self, cases, **metrics)

    def summary(self, metrics: Iterable[str]) -> pd.DataFrame:
        """Per case: mean and 95 % half-width over seeds of each metric, and the number of seeds."""
        from diag.suite.claim import interval

        rows = []
        for case, group in self.frame.groupby("case", sort=False):
            row: dict[str, Any] = {"case": case, "seeds": len(group)}
            for metric in metrics:
                if metric not in group:
                    continue
                values = group[metric].dropna().to_numpy(float)
                if len(values):
                    mean, low, high = interval(values)
                    row |= {metric: mean, f"{metric} ±": (high - low) / 2 if len(values) > 1 else float("nan")}
            rows.append(row)
        return pd.DataFrame(rows)


def _described(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in fields.items()) or "anything"
