"""The table of sites: one row per output in forward order, the numbers of the last step, and which rows to show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from diag.report import measured
from diag.report.diagnosis import Diagnosis
from diag.rules.finding import SEVERITIES, Finding
from diag.trace import Trace
from diag.trace.schema import BESIDE

NAN = float("nan")
SIGNAL = ("input", "layer", "nonlinearity", "normalization", "attention", "embedding", "recurrent")


@dataclass(frozen=True)
class SiteRow:
    """What was measured at one site; NaN where nothing was. Values are of the last step, series run over the steps.

    saturated: only where saturation means something (not for relu). dead, units: counts. nonfinite: over all steps.
    severity: of the gravest finding that names this site or a parameter of it; empty if none does.
    """

    site: str
    op: str
    role: str
    shape: str
    activation_rms: float
    activation_series: tuple[float, ...]
    gradient_rms: float
    gradient_series: tuple[float, ...]
    saturated: float
    zero: float
    dead: float
    units: float
    nonfinite: float
    severity: str = ""


def site_rows(diagnosis: Diagnosis) -> list[SiteRow]:
    """Every output site in forward order, but for what stands beside a loss: that is no signal."""
    trace = diagnosis.trace
    activation, gradient = measured.matrix(trace, "activation", "rms"), measured.matrix(trace, "gradient", "rms")
    sites = list(activation.index) + [site for site in gradient.index if site not in set(activation.index)]
    role, op = measured.roles(trace), measured.ops(trace)
    sites = [site for site in sites if role.get(site) not in BESIDE and not _is_value(site, role)]
    saturated, zero = measured.last(measured.saturation(trace)), measured.last(measured.zeros(trace))
    nonfinite = measured.matrix(trace, "activation", "nonfinite").sum(axis=1, min_count=1)
    nonfinite = nonfinite.add(measured.matrix(trace, "gradient", "nonfinite").sum(axis=1, min_count=1), fill_value=0)
    units, dead = _unit_counts(trace)
    shape = {str(site): str(text) for site, text in zip(trace.sites["site"], trace.sites["shape"], strict=True)}
    marks = _severities(diagnosis)
    return [
        SiteRow(
            site=site,
            op=op.get(site, ""),
            role=role.get(site, "other"),
            shape=shape.get(site, ""),
            activation_rms=_end(activation, site),
            activation_series=_series(activation, site),
            gradient_rms=_end(gradient, site),
            gradient_series=_series(gradient, site),
            saturated=float(saturated.get(site, NAN)),
            zero=float(zero.get(site, NAN)),
            dead=dead.get(site, NAN),
            units=units.get(site, NAN),
            nonfinite=float(nonfinite.get(site, NAN)),
            severity=marks.get(site, ""),
        )
        for site in sites
    ]


def selected(rows: list[SiteRow], limit: int = 24) -> list[SiteRow]:
    """At most `limit` rows: those that a finding names, the first and the last, and evenly spaced ones between.

    Where there are plenty, those that make no signal of their own (dropout, pooling, ...) go first.
    """
    if len(rows) <= limit:
        return rows
    everything, rows = rows, [row for row in rows if row.severity or row.role in SIGNAL]
    if len(rows) < limit:
        rows = everything
    named = [i for i, row in enumerate(rows) if row.severity]
    keep = set(sorted(named, key=lambda i: SEVERITIES.index(rows[i].severity))[:limit])
    wanted = limit - len(keep)
    spaced = [round(k * (len(rows) - 1) / max(wanted - 1, 1)) for k in range(wanted)]
    keep.update(spaced)
    return [rows[i] for i in sorted(keep)]


def log_share(value: float, values: Iterable[float]) -> float:
    """Where `value` lies between the extremes of `values` on a log scale, in [0.05, 1]; 0 at zero, NaN if nowhere."""
    positive = [v for v in values if math.isfinite(v) and v > 0]
    if not positive or not math.isfinite(value):
        return NAN
    if value <= 0:
        return 0.0
    low, high = math.log10(min(positive)), math.log10(max(positive))
    # At least two decades, lest a factor of 1.1 look like a cliff.
    low = min(low, high - 2)
    return 0.05 + 0.95 * (math.log10(value) - low) / (high - low)


def _severities(diagnosis: Diagnosis) -> dict[str, str]:
    owners = measured.owners(diagnosis.trace)
    marks: dict[str, str] = {}
    for finding in sorted(_walk(diagnosis.findings), key=lambda one: SEVERITIES.index(one.severity)):
        for site in (finding.site, owners.get(finding.site, "")):
            if site:
                marks.setdefault(site, finding.severity)
    return marks


def _walk(findings: Iterable[Finding]) -> Iterator[Finding]:
    for finding in findings:
        yield finding
        yield from _walk(finding.consequences)


def _is_value(site: str, role: dict[str, str]) -> bool:
    """Whether this is the value of a loss, beside what it judges."""
    return role.get(site) == "loss" and site.endswith("[value]")


def _unit_counts(trace: Trace) -> tuple[dict[str, float], dict[str, float]]:
    """Units and dead units per site at the last step: of several calls, those of the one with the fewest dead.

    A unit is dead where all calls leave it so, and there are no more of these.
    """
    units = trace.units
    if not units.empty:
        at_end = units[units["step"] == units.groupby("site")["step"].transform("max")]
        at_end = at_end.assign(share=at_end["dead"] / at_end["units"].where(at_end["units"] > 0))
        least = at_end.sort_values("share").drop_duplicates("site").set_index("site")
        counts = least[["units", "dead"]].astype("float64")
        return dict(counts["units"]), dict(counts["dead"])
    tables = [measured.last(measured.matrix(trace, "activation", column)) for column in ("units", "dead_units")]
    return dict(tables[0]), dict(tables[1])


def _series(table: pd.DataFrame, site: str) -> tuple[float, ...]:
    return tuple(table.loc[[site]].to_numpy(dtype="float64")[0].tolist()) if site in table.index else ()


def _end(table: pd.DataFrame, site: str) -> float:
    return next((v for v in reversed(_series(table, site)) if not math.isnan(v)), NAN)
