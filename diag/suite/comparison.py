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
from diag.suite.ranking import holm, p_of_no_difference
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
        if folder.path.is_file():
            raise RunError(f"{path} is a file: expected a run's folder, such as diag-runs/quick-001")
        header = folder.header
        records = folder.records()
        if not records:
            raise RunError(f"{path} holds no trial yet: nothing to compare")
        return cls(folder.path, header, records, _verdicts(folder.path / "verdicts.json"))


@dataclass(frozen=True)
class Comparison:
    """second - first. table: `COLUMNS`, a row per case and metric; pairs: of seeds that both have, 0 where unpaired.

    changed: cases of the same name whose recipes differ, with the fields. alone: cases that one run lacks.
    verdicts: claims whose verdicts differ: statement, first, second. identical: every row's values are, seed by seed.
    """

    first: Side
    second: Side
    table: pd.DataFrame
    changed: dict[str, list[str]]
    alone: dict[str, list[str]]
    verdicts: list[tuple[str, str, str]]
    identical: bool

    @property
    def differing(self) -> pd.DataFrame:
        """The rows that the seeds tell apart, the largest difference over its interval first."""
        rows = self.table[self.table["told apart"]]
        # Where one run diverged there is no interval: nothing is larger.
        size = (rows["difference"] / (rows["high"] - rows["low"])).abs().fillna(math.inf)
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
    pairs = {
        (case, name): (_series(groups[0][case], name), _series(groups[1][case], name))
        for case in shared
        for name in _metrics(groups[0][case], groups[1][case])
    }
    measured = [one for one in COLUMNS if one != "told apart"]
    table = pd.DataFrame([[*key, *_difference(*pair)] for key, pair in pairs.items()], columns=measured)
    table["p"] = holm(table["p"].tolist())
    table["told apart"] = table["p"] < 1 - CONFIDENCE
    table = table[COLUMNS]
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
        identical=all(one.equals(other) for one, other in pairs.values()),
    )


def _by_case(records: list[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for one in sorted(records, key=lambda one: one.seed):
        groups.setdefault(one.case, []).append(one)
    return groups


def _metrics(*sides: list[Record]) -> list[str]:
    """What both sides measured, be it in one trial only."""
    first, second = ({name: None for one in side for name in one.metrics} for side in sides)
    return [name for name in first if name in second]


def _series(records: list[Record], metric: str) -> pd.Series:
    return pd.Series({one.seed: one.metrics.get(metric, math.nan) for one in records}, dtype=float).dropna()


def _difference(one: pd.Series, other: pd.Series) -> list[Any]:
    """Both means, second - first with its interval, p, and the number of pairs."""
    means = [float(series.mean()) if len(series) else math.nan for series in (one, other)]
    shared = one.index.intersection(other.index)
    paired = len(shared) > 0 and len(shared) == len(one) == len(other)
    pairs = len(shared) if paired else 0
    if not all(map(math.isfinite, means)):
        difference = 0.0 if means[0] == means[1] else means[1] - means[0]
        return [*means, difference, math.nan, math.nan, _p_of_divergence(one, other), pairs]
    if not paired:
        return [*means, *_welch(one.to_numpy(), other.to_numpy()), pairs]
    values = (other.loc[shared] - one.loc[shared]).to_numpy()
    mean, low, high = interval(values) if np.ptp(values) or len(values) < 2 else (values[0],) * 3
    return [*means, float(mean), float(low), float(high), p_of_no_difference(values), pairs]


def _p_of_divergence(one: pd.Series, other: pd.Series) -> float:
    """0 where one run has an infinite loss at every seed and the other at none, which is no chance; else unknown."""
    least = min(len(one), len(other))
    apart = least > 1 and bool(np.isinf(one).all() and np.isfinite(other).all())
    turned = least > 1 and bool(np.isinf(other).all() and np.isfinite(one).all())
    return 0.0 if apart or turned else math.nan


def _welch(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float, float]:
    """other - one with its interval and p, by Welch's t: s^2 / n of each side, with degrees of freedom of their own.

    Source: Welch 1947, Biometrika 34.
    """
    from scipy import stats

    mean = float(other.mean() - one.mean())
    if min(len(one), len(other)) < 2:
        return mean, -math.inf, math.inf, math.nan
    # By hand: scipy's test warns of values that are nearly the same, which seeds often are.
    parts = [float(np.var(side, ddof=1) / len(side)) if np.ptp(side) else 0.0 for side in (one, other)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return mean, mean, mean, 1.0 if mean == 0 else 0.0
    shares = [part / sum(parts) for part in parts]
    freedom = 1 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, (one, other), strict=True))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, freedom))


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
