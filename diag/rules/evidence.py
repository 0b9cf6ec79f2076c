"""A trace as rules read it: profiles over depth, windows of steps, the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from diag.rules.ranks import kendall, theil_sen
from diag.rules.stages import stage_of
from diag.trace import Trace

EARLY, LATE = 3, 10
CRAWL = 0.05
"""The relative fall from which a loss may be falling, be it beneath its noise."""
_ENOUGH = 12
_AGREES = 0.02
"""The log10 by which factors differ that are one in two digits, or nearly so."""
_ACTS = 0.5
"""Passes of few samples a measured step that are a policy's actions."""
_RECURS = 4
"""Calls of a layer within one pass, on average, that are a recurrence."""
_ODD = 0.1
"""The share of losses of the other sign that need mean nothing."""
_KNOWN = 0.5
"""The share of the steps whose loss is known, below which it says nothing of the rest: a CUDA graph takes those."""
_IDLE, _NEARLY_ALL = 3, 0.9
"""Steps that reach nothing, and the share of them with a backward pass, for a last step that is never ended."""
SIGNAL_ROLES = ("layer", "recurrent")
"""The sites that carry the signal from input to loss; what stands between them follows from them."""


@dataclass(frozen=True)
class Trend:
    """How a positive quantity changes over depth. values: its log10 per site, in forward order; at least three."""

    sites: list[str]
    values: np.ndarray

    @cached_property
    def total(self) -> float:
        """Change from the first site to the last, log10: what two measures agree on, or one step if that is more.

        One is the Theil-Sen slope over the sites. The other compares the largest value in the bottom third with that in
        the top third: in a residual network the stream carries the signal, and the branches, which are far below it, do
        not count. The last layer is left out of it, since the loss alone sets its scale.
        """
        count = len(self.values)
        slope = theil_sen(self.values) * (count - 1)
        inner = self.values[:-1] if count > 4 else self.values
        third = max(1, len(inner) // 3)
        ends = float(inner[-third:].max() - inner[:third].max()) * (count - 1) / (len(inner) - third)
        reach = float(np.ptp(self.values))
        agreed = 0.0 if slope * ends < 0 else float(np.clip(min(slope, ends, key=abs), -reach, reach))
        return max(agreed, self.step, key=abs)

    @cached_property
    def step(self) -> float:
        """The largest gap that parts all sites below from all above, log10: a single bottleneck; 0 for none."""
        below, above = np.maximum.accumulate(self.values)[:-1], np.minimum.accumulate(self.values[::-1])[::-1][1:]
        rise = float((above - below).max())
        below, above = np.minimum.accumulate(self.values)[:-1], np.maximum.accumulate(self.values[::-1])[::-1][1:]
        fall = float((below - above).max())
        return max(rise, 0.0) if rise >= fall else -max(fall, 0.0)

    @property
    def factor(self) -> float:
        """Factor per layer, were the change even."""
        return float(10 ** (self.total / (len(self.sites) - 1)))

    def told(self, *, upward: bool = True) -> str:
        """The factor as text, against the signal's direction if not upward. Where its two ends, which stand beside it,
        give another one, it says what it is."""
        sign = 1 if upward else -1
        ends = sign * float(self.values[-1] - self.values[0]) / (len(self.sites) - 1)
        factor = self.factor**sign
        fitted = "" if abs(ends - np.log10(factor)) < _AGREES else " by a fit to all of them,"
        if self.recurs:
            return f"x{factor:.2g} a call{fitted} over {len(self.sites)} calls of {len(set(self.sites))} layers"
        return f"x{factor:.2g} a layer{fitted} over {len(self.sites)} layers"

    @property
    def recurs(self) -> bool:
        """Whether most of its layers are calls of the same ones, as the time steps of a recurrence are."""
        return len(self.sites) >= _RECURS * len(set(self.sites))


class Evidence:
    """What rules may ask of a trace, or of one of several models in it. thresholds: name to value.

    Steps after the run broke down are left out of windows; those that a GradScaler skipped are forgiven.
    """

    def __init__(self, trace: Trace, thresholds: Mapping[str, float], model: str | None = None) -> None:
        self.trace = trace
        self.thresholds = thresholds
        sites = trace.sites.set_index("site")
        if model is not None:
            sites = sites[sites["model"] == model]
        frame = trace.frame[trace.frame["site"].isin(sites.index)].copy()
        for column in ("role", "module", "trainable", "optimized", "owner", "shape"):
            frame[column] = frame["site"].map(sites[column])
        frame["norm"] = frame["rms"] * np.sqrt(frame["count"] - frame["nonfinite"])
        self.frame = frame
        self.sites = sites
        self.memo: dict[tuple[Any, ...], Any] = {}

    @cached_property
    def measured(self) -> list[int]:
        """The measured steps."""
        return sorted(int(step) for step in self.frame["step"].unique())

    @cached_property
    def steps(self) -> pd.DataFrame:
        """The trace's steps; of training in stages, only those that train this model."""
        trained = self.frame.loc[self.frame["kind"].isin(["gradient", "weight_gradient"]), "step"]
        return stage_of(self.trace.steps, trained.unique())

    @cached_property
    def _known_losses(self) -> pd.Series:
        steps = self.steps[self.steps["loss_known"].astype(bool)]
        return steps[steps["step"] != self.unended].set_index("step")["loss"]

    @cached_property
    def unended(self) -> int | None:
        """The last step, where backward passes pile up in it because what steps beside them holds none of what they
        reach: its loss is a sum over all of them."""
        if not self.idle_steps or not len(self.trace.steps):
            return None
        last = self.trace.steps.iloc[-1]
        piled = last["backward_passes"] >= max(_IDLE, _NEARLY_ALL * self.idle_steps)
        return int(last["step"]) if last["optimizer"] < 0 and piled else None

    @property
    def idle_steps(self) -> int:
        """How many steps were taken on what no gradient comes to and no model holds; 0 where they are hardly any."""
        idle = int(self.trace.coverage.get("idle_steps", 0))
        return idle if idle >= _IDLE else 0

    @cached_property
    def optimizers(self) -> int:
        """How many optimizers ended its steps."""
        return int(self.steps.loc[self.steps["optimizer"] >= 0, "optimizer"].nunique())

    @cached_property
    def losses(self) -> pd.Series:
        """The known losses by step, NaN where they were; where optimizers take turns, those of the busiest."""
        steps = self.steps
        if self.optimizers < 2:
            return self._known_losses
        busiest = steps.loc[steps["optimizer"] >= 0, "optimizer"].value_counts().sort_index().idxmax()
        return self._known_losses[self._known_losses.index.isin(steps.loc[steps["optimizer"] == busiest, "step"])]

    @cached_property
    def first_bad_step(self) -> int | None:
        """The first step in which a non-finite value reaches the loss or a weight, or, with no loss known, is anywhere.

        A mask of -inf that reaches neither is none.
        """
        losses = self._known_losses
        bad = self.frame[self.frame["nonfinite"] > 0]
        if len(losses):
            bad = bad[bad["kind"].isin(["weight", "weight_gradient", "update"])]
        steps = set(bad["step"]) | set(losses[~np.isfinite(losses)].index)
        forgiven = set(self.trace.coverage.get("skipped_steps", ()))
        return min((int(step) for step in steps - forgiven), default=None)

    def loss_at(self, step: int) -> float | None:
        """The loss of a step; None if it is not known."""
        return float(self._known_losses.loc[step]) if step in self._known_losses.index else None

    @cached_property
    def diverged_at(self) -> int | None:
        """The first step whose loss is far beyond the first ones', in the direction that is worse."""
        return divergence_step(self.losses, self.thresholds["diverging_error"])

    @cached_property
    def clean(self) -> list[int]:
        """Measured steps before the run broke down; the first one in any case."""
        ends = [step for step in (self.first_bad_step, self.diverged_at) if step is not None]
        end = min(ends) if ends else None
        return [step for step in self.measured if end is None or step < end] or self.measured[:1]

    @property
    def early(self) -> list[int]:
        """The first clean steps."""
        return self.clean[:EARLY]

    @property
    def late(self) -> list[int]:
        """The last clean steps."""
        return self.clean[-LATE:]

    @cached_property
    def _by_kind(self) -> dict[str, pd.DataFrame]:
        filled = self.frame[self.frame["count"] > 0]
        return {str(kind): rows for kind, rows in filled.groupby("kind", sort=False)}

    def rows(self, kind: str, steps: list[int] | None = None, roles: tuple[str, ...] | None = None) -> pd.DataFrame:
        """Rows of one kind, of some steps and roles, of tensors that are not empty; a copy of one's own."""
        key = ("rows", kind, None if steps is None else tuple(steps), roles)
        if key not in self.memo:
            rows = self._by_kind.get(kind, self.frame.iloc[:0])
            if steps is not None:
                rows = rows[rows["step"].isin(steps)]
            self.memo[key] = rows if roles is None else rows[rows["role"].isin(roles)]
        known: pd.DataFrame = self.memo[key]
        return known.copy()

    def profile(self, kind: str, steps: list[int], column: str, roles: tuple[str, ...] = SIGNAL_ROLES) -> pd.Series:
        """The median over steps of a column, per (site, call) in forward order."""
        return _profile(self.rows(kind, steps, roles), column)

    def trend(self, kind: str, steps: list[int], column: str) -> Trend | None:
        """The trend of a positive quantity over the depth of the signal-carrying sites; None for fewer than three."""
        return _trend(self.profile(kind, steps, column))

    def onset(self, kind: str, column: str, steps: list[int], reached: Callable[[Trend], bool]) -> int:
        """The first of these steps whose own trend has reached what the whole window's has."""
        for step, rows in self.rows(kind, steps, SIGNAL_ROLES).groupby("step"):
            trend = _trend(_profile(rows, column))
            if trend is not None and reached(trend):
                return int(str(step))
        return steps[0]

    @cached_property
    def layers(self) -> list[str]:
        """Signal-carrying sites that ran, in forward order: for rules of users."""
        chosen = self.sites[self.sites["role"].isin(SIGNAL_ROLES) & (self.sites["order"] >= 0)]
        return list(chosen.sort_values("order").index)

    @cached_property
    def parameters(self) -> pd.DataFrame:
        """Per step and weight matrix: update_ratio and norms, in forward order of their modules."""
        table = self.trace.parameters
        table = table[table["site"].isin(self.sites.index)]
        for column in ("shape", "trainable", "optimized", "owner", "order"):
            table[column] = table["site"].map(self.sites[column])
        return table[table["shape"].str.contains("x", regex=False).fillna(False).astype(bool)]

    @cached_property
    def trains(self) -> bool:
        """Whether an optimizer took steps."""
        return bool((self.steps["optimizer"] >= 0).any()) if len(self.steps) else False

    @cached_property
    def alternates(self) -> bool:
        """Whether several optimizers take turns, as in a GAN: then no loss need fall."""
        return self.optimizers > 1

    @cached_property
    def clean_losses(self) -> pd.Series:
        """The losses that are numbers, up to the last clean step."""
        losses = self.losses.dropna()
        return losses[losses.index <= self.clean[-1]] if self.clean else losses

    def fall(self) -> float:
        """Relative fall of the loss from the first third of the steps to the last, by medians: positive if it fell."""
        values = self.clean_losses
        if len(values) < 6:
            return float("nan")
        third = len(values) // 3
        before, after = float(values.iloc[:third].median()), float(values.iloc[-third:].median())
        # A loss that falls at once has spread in its first third that is no noise.
        noise = 0.0 if self.is_half_solved else float(values.iloc[:third].std())
        return (before - after) / max(abs(before), noise, 1e-30)

    @cached_property
    def is_half_solved(self) -> bool:
        """Whether a loss that is never negative ends, by the median of the last third, below half of the first one; one
        that ends below 0, as a negative similarity does, lower than it began by half of that at the least."""
        values = self.losses.dropna()
        if len(values) < 6:
            return False
        end = float(values.iloc[-(len(values) // 3) :].median())
        if (values >= 0).all():
            return bool(end < 0.5 * values.iloc[0])
        return end < 0 and self.tells and bool(values.iloc[0] - end >= 0.5 * -end)

    @cached_property
    def tells(self) -> bool:
        """Whether the loss's height says how much is learned: not where it is now above 0 and now below, as that of a
        policy gradient is, nor where the network makes its own data, nor where it is known of a few steps alone."""
        if self.acts or 0 < len(self._known_losses) < _KNOWN * len(self.steps):
            return False
        values = self.clean_losses
        share = float((values < 0).mean()) if len(values) else 0.0
        return not _ODD < share < 1 - _ODD

    @cached_property
    def acts(self) -> bool:
        """Whether the network acts in an environment between its steps: what it is trained on changes with it."""
        passes = int(self.trace.coverage.get("acting_passes", 0))
        return passes >= _ACTS * max(1, len(self.trace.frame["step"].unique()))

    def named(self, key: str) -> list[str]:
        """This model's sites among those that the coverage names under a key."""
        return [site for site in self.trace.coverage.get(key) or [] if site in self.sites.index]

    def of_models(self, key: str) -> Iterator[tuple[str, Any]]:
        """What the coverage knows under a key of each model that this is about, where it knows anything."""
        known = self.trace.coverage.get(key) or {}
        for model in self.sites["model"].drop_duplicates():
            if known.get(model):
                yield str(model), known[model]

    def in_order(self, sites: Iterable[str]) -> list[str]:
        """Sites in forward order, by name where that is one."""
        return sorted(sites, key=lambda site: (self.sites.loc[site, "order"], site))

    def loss_falls(self) -> bool:
        """Whether the loss falls beyond its noise: Kendall's tau against the step at 1 %, and by more than a trifle."""
        values = self.clean_losses
        return len(values) >= 6 and chance_of_fall(values) < 0.01 and self.fall() > self.thresholds["loss_fall"]

    def may_fall(self) -> bool:
        """Whether the loss falls by 5 % or more, be it by chance."""
        return self.fall() >= CRAWL

    def crawls(self) -> bool:
        """Whether the loss does not fall, or by less than 5 %."""
        return not self.loss_falls() or not self.may_fall()

    @cached_property
    def stuck(self) -> bool:
        """Whether it is trained, and a loss that is known for long enough falls by less than 5 %.

        A larger fall that noise may explain is neither this nor coping.
        """
        told = self.tells and not self.alternates and len(self.clean_losses) >= _ENOUGH
        return self.trains and told and not self.may_fall()

    def copes(self, fall: float) -> bool:
        """Whether the loss falls beyond its noise, and by more than `fall`: what was seen does no visible harm yet."""
        return self.trains and self.loss_falls() and self.fall() > fall

    def usual_nonlinearity(self) -> str:
        """The most frequent activation function of the network, for remedies that depend on it."""
        ops = self.sites.loc[
            (self.sites["role"] == "nonlinearity") & ~self.sites["op"].isin(["softmax", "log_softmax"]), "op"
        ]
        return str(ops.mode().iloc[0]) if len(ops) else ""

    def input_rms(self) -> float:
        """The largest rms of an input in the first steps; NaN if none was seen."""
        rows = self.rows("activation", self.early, ("input",))
        rows = rows[rows["shape"] != "scalar"]  # which is a number given beside the batch
        return float(rows.groupby("site")["rms"].median().max()) if len(rows) else float("nan")


def chance_of_fall(losses: pd.Series) -> float:
    """With which a loss that has no trend would follow its steps so closely either way; 1 where it does not fall."""
    tau, p = kendall(losses.to_numpy(dtype=float))
    return p if tau < 0 else 1.0


def _profile(rows: pd.DataFrame, column: str) -> pd.Series:
    grouped = rows.groupby(["site", "call"], sort=False)[[column, "order"]].median()
    return grouped.sort_values("order", kind="stable")[column].dropna()


def _trend(profile: pd.Series) -> Trend | None:
    profile = profile[profile > 0]
    if len(profile) < 3:
        return None
    return Trend([site for site, _ in profile.index], np.log10(profile.to_numpy(dtype=float)))


def divergence_step(losses: pd.Series, factor: float) -> int | None:
    """The first step whose loss exceeds `factor` times what it was at the start; None if none does.

    The start is the first loss or, if larger, the median of the first three; a loss that is still unsteady in the first
    third of the steps raises it to that third's median, at most tenfold. A loss below zero may fall for good reasons (a
    likelihood); it counts only when it falls a thousand times further.
    """
    known = losses.dropna()
    if len(known) < 2:
        return None
    head = known.iloc[:3]
    scale = max(float(head.abs().iloc[0]), float(head.abs().median()) if np.isfinite(head).all() else 0.0, 1e-12)
    if not np.isfinite(scale):
        return None
    spread = float((known.iloc[: max(3, len(known) // 3)]).abs().median())
    worse = known > factor * max(scale, min(spread, scale * 10))
    worse |= known < -1000 * factor * scale
    return int(known.index[int(np.argmax(worse.to_numpy()))]) if worse.any() else None
