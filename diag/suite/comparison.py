"""Two runs side by side: what differs, by how much, and whether the seeds can tell."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from diag.suite.claim import CONFIDENCE, interval
from diag.suite.errors import RunError
from diag.suite.folder import RunFolder
from diag.suite.ranking import holm
from diag.suite.record import Record

COLUMNS = ["case", "metric", "first", "second", "difference", "low", "high", "p", "told apart", "pairs"]


@dataclass(frozen=True)
class Side:
    """One of the two runs, read without executing anything: its header, trials and verdicts."""

    path: Path
    header: dict[str, Any]
    records: list[Record]
    verdicts: dict[str, str]

    @classmethod
    def read(cls, path: str | Path) -> Side:
        """Raises: RunError for a folder that holds no run, a damaged one, or one without a trial."""
        folder = RunFolder(Path(path))
        header = folder.header
        records = folder.records()
        if not records:
            raise RunError(f"{path} holds no trial yet: nothing to compare")
        return cls(folder.path, header, records, _verdicts(folder.path / "verdicts.json"))


@dataclass(frozen=True)
class Comparison:
    """second - first. table: `COLUMNS`, a row per case and metric; pairs: of seeds that both have, 0 where unpaired.

    changed: cases of the same name whose recipes differ, with the fields. alone: cases that one run lacks.
    verdicts: claims whose verdicts differ: statement, first, second. identical: metrics equal in every shared trial.
    """

    first: Side
    second: Side
    table: pd.DataFrame
    changed: dict[str, list[str]]
    alone: dict[str, list[str]]
    verdicts: list[tuple[str, str, str]]

    @property
    def differing(self) -> pd.DataFrame:
        """The rows that the seeds tell apart, the largest difference over its interval first."""
        rows = self.table[self.table["told apart"]]
        size = (rows["difference"] / (rows["high"] - rows["low"])).abs()
        return rows.loc[size.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compare two runs' folders, case by case and metric by metric.

    Paired by seed where the case has the same seeds in both (an interval of Student's t on the differences), else by
    Welch's t. Rows are told apart at 5 % after Holm's correction over all rows.
    Raises: RunError if a folder cannot be read, or the two share no case.
    """
    sides = Side.read(first), Side.read(second)
    groups = [_by_case(one.records) for one in sides]
    shared = [case for case in groups[0] if case in groups[1]]
    if not shared:
        raise RunError(
            f"{first} (suite '{sides[0].header['suite']}') and {second} (suite '{sides[1].header['suite']}') have no "
            "case in common: compare two runs of the same suite"
        )
    rows = [row for case in shared for row in _rows(case, groups[0][case], groups[1][case])]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["p"] = holm(table["p"].tolist())
    table["told apart"] = table["p"] < 1 - CONFIDENCE
    return Comparison(
        *sides,
        table=table,
        changed={case: found for case in shared if (found := _changes(groups[0][case][0], groups[1][case][0]))},
        alone={
            "first": [case for case in groups[0] if case not in groups[1]],
            "second": [case for case in groups[1] if case not in groups[0]],
        },
        verdicts=[
            (statement, verdict, other)
            for statement, verdict in sides[0].verdicts.items()
            if (other := sides[1].verdicts.get(statement, verdict)) != verdict
        ],
    )


def _by_case(records: list[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for one in sorted(records, key=lambda one: one.seed):
        groups.setdefault(one.case, []).append(one)
    return groups


def _rows(case: str, first: list[Record], second: list[Record]) -> list[list[Any]]:
    names = [name for name in first[0].metrics if name in second[0].metrics]
    return [[case, name, *_difference(_series(first, name), _series(second, name))] for name in names]


def _series(records: list[Record], metric: str) -> pd.Series:
    return pd.Series({one.seed: one.metrics.get(metric, math.nan) for one in records}, dtype=float).dropna()


def _difference(one: pd.Series, other: pd.Series) -> list[Any]:
    """Both means, second - first with its interval, p, False (told apart, decided later), and the number of pairs."""
    means = [float(series.mean()) if len(series) else math.nan for series in (one, other)]
    shared = one.index.intersection(other.index)
    paired = len(shared) > 0 and len(shared) == len(one) == len(other)
    if not all(map(math.isfinite, means)):
        same = means[0] == means[1]
        return [*means, 0.0 if same else means[1] - means[0], math.nan, math.nan, math.nan, False, len(shared)]
    if paired:
        values = (other.loc[shared] - one.loc[shared]).to_numpy()
        mean, low, high = interval(values)
        if np.ptp(values) == 0:
            # The same difference for every seed is no chance, unless it is none, or there is one seed only.
            p = 1.0 if values[0] == 0 else 0.0 if len(values) > 1 else math.nan
            return [*means, mean, mean, mean, p, False, len(shared)]
        from scipy import stats

        p = float(stats.ttest_1samp(values, 0.0).pvalue) if len(values) > 1 else math.nan
        return [*means, mean, low, high, p, False, len(shared)]
    return [*means, *_welch(one.to_numpy(), other.to_numpy()), False, 0]


def _welch(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float, float]:
    from scipy import stats

    mean = float(other.mean() - one.mean())
    if min(len(one), len(other)) < 2:
        return mean, -math.inf, math.inf, math.nan
    if np.ptp(one) == 0 and np.ptp(other) == 0:
        return mean, mean, mean, 1.0 if mean == 0 else 0.0
    found: Any = stats.ttest_ind(other, one, equal_var=False)
    ends = found.confidence_interval(CONFIDENCE)
    return mean, float(ends.low), float(ends.high), float(found.pvalue)


def _changes(one: Record, other: Record) -> list[str]:
    return [
        f"{name}: {one.fields.get(name, 'absent')} -> {other.fields.get(name, 'absent')}"
        for name in {**one.fields, **other.fields}
        if one.fields.get(name) != other.fields.get(name)
    ]


def _verdicts(file: Path) -> dict[str, str]:
    """By statement; empty for a run that has not been judged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {str(one["statement"]): str(one["verdict"]) for one in content["claims"]}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} is damaged: {type(error).__name__}: {error}") from None
