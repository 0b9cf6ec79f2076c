"""The coordinate check of a user's own model: over which sizes its signals stay level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pandas as pd

from diag.errors import TargetError
from diag.scaling.intended import intended
from diag.scaling.measure import Build, Progress, measure
from diag.scaling.slopes import LEVEL, Slope, slopes
from diag.train.workload import Workload

SOURCE = "Yang et al. 2022, Tensor Programs V, section 4 and appendix D.1 (coordinate checking)"
Answer = Literal["level", "changes", "cannot tell"]
MEANT = {
    "readout": "At initialization the output shrinks with width, as a readout of muP does; after {steps} steps it does "
    "not, so that this is sound.",
    "adaptive": "Gradients shrink with width, no faster than its root: the optimizer does not step by their size.",
    "branches": "Within residual branches signals shrink with depth, no faster than its root, as where each is scaled "
    "by 1 / sqrt(depth); past them they reach the other end as they are.",
}
"""What is said of slopes that are not level and sound."""
SEEDED = (
    "All seeds gave the very same networks, so that one of them counts: {target} seeds itself, or draws nothing. Leave"
    " torch.manual_seed out of it; every call is under a seed of its own."
)


@dataclass(frozen=True)
class Scaling:
    """axis: width or depth. table: what was measured (`diag.scaling.measure.COLUMNS`). slopes: per site.

    answer: "changes" if any activation or gradient grows or shrinks; "level" if all are level, but for those that are
    meant to shrink. intended: these, by the reason (`diag.scaling.intended`). seeded: the target's name where all seeds
    gave the very same networks, so that one of them counts.
    """

    axis: str
    sizes: list[int]
    seeds: int
    steps: int
    table: pd.DataFrame
    slopes: list[Slope]
    answer: Answer
    intended: dict[str, list[Slope]] = field(default_factory=dict)
    seeded: str = ""

    @property
    def judged(self) -> list[Slope]:
        """Those of activations and gradients that are not meant to be as they are."""
        return _judged(self.slopes, self.intended)

    @property
    def troubles(self) -> list[Slope]:
        """Activations and gradients that grow or shrink, the steepest first."""
        found = [one for one in self.judged if one.verdict in ("grows", "shrinks")]
        return sorted(found, key=lambda one: -abs(one.slope) if math.isfinite(one.slope) else -math.inf)

    def advice(self) -> list[str]:
        """What the troubles mean, in sentences."""
        first = min((one.step for one in self.slopes), default=0)
        at_start = {one.verdict for one in self.troubles if one.step == first and one.quantity == "activation"}
        later = {one.verdict for one in self.troubles if one.step > first and one.quantity == "activation"}
        backward = {one.verdict for one in self.troubles if one.step == first and one.quantity == "gradient"}
        said = [SEEDED.format(target=self.seeded)] if self.seeded else []
        if at_start:
            said.append(
                f"At initialization activations {' or '.join(one[:-1] for one in sorted(at_start))} with {self.axis}: "
                "the variance of the weights must fall as 1 / fan_in (he_normal, lecun_normal)"
                + ("." if self.axis == "width" else ", and sums of residual branches be scaled by 1 / sqrt(depth).")
            )
        if "grows" in later - at_start:
            said.append(
                f"After {self.steps} steps activations grow with {self.axis}: the learning rate that suits the small "
                f"network is too high for the large one. Lower it with {self.axis}, or use muP (for Adam 1 / width in "
                "hidden layers)."
            )
        if "shrinks" in later - at_start:
            said.append(f"After {self.steps} steps activations shrink with {self.axis}: larger networks learn less.")
        if backward:
            said.append(
                f"At initialization gradients change with {self.axis}: no one learning rate suits all sizes of it."
            )
        return said + [MEANT[why].format(steps=self.steps) for why, which in self.intended.items() if _seen(which)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        judged = set(self.judged)
        plain = [
            {
                key: (None if isinstance(value, float) and not math.isfinite(value) else value)
                for key, value in (asdict(one) | {"judged": one in judged}).items()
            }
            for one in self.slopes
        ]
        return {
            "schema": 1, "axis": self.axis, "sizes": self.sizes, "seeds": self.seeds, "steps": self.steps,
            "answer": self.answer, "level": LEVEL, "advice": self.advice(), "slopes": plain, "source": SOURCE,
        }  # fmt: skip


def scale(
    build: Build,
    sizes: Sequence[int],
    *,
    axis: str = "width",
    seeds: int = 5,
    steps: int = 5,
    progress: Progress | None = None,
    target: str = "the target",
) -> Scaling:
    """Build the same network at several sizes, train each for some steps, and fit quantity ~ size^slope per site.

    Args: build(size) -> Workload with an optimizer. sizes: two or more. seeds, steps: of each size. target: what a
        message calls it.
    Raises: TargetError for fewer than two sizes, for networks that share no site, or are all the same.
    """
    chosen = sorted(set(sizes))
    if len(chosen) < 2 or chosen[0] < 1:
        raise TargetError(f"a slope needs at least two sizes from 1 on, got {list(sizes)}")
    if seeds < 1 or steps < 2:
        raise TargetError(f"at least one seed and two steps are needed, got {seeds} and {steps}")
    optimizers: set[str] = set()

    def noted(size: int) -> Workload:
        workload = build(size)
        optimizers.add(type(workload.optimizer).__name__)
        return workload

    table = measure(noted, chosen, seeds, steps, progress)
    if table.empty:
        raise TargetError(
            f"networks of {axis} {chosen} have no site in common: does the target build the same network?"
        )
    if _is_same(table):
        raise TargetError(
            f"the size changes nothing: does {target} use its {axis}? The networks of {axis} {chosen} measure the same"
        )
    alike = seeds > 1 and _is_same(table, "size")
    if alike:
        table, seeds = table[table["seed"] == 0].reset_index(drop=True), 1
    found = slopes(table)
    meant = intended(found, table, axis, optimizers)
    judged = _judged(found, meant)
    answer: Answer = "level"
    if any(one.verdict in ("grows", "shrinks") for one in judged):
        answer = "changes"
    elif any(one.verdict == "cannot tell" for one in judged):
        answer = "cannot tell"
    return Scaling(axis, chosen, seeds, steps, table, found, answer, meant, target if alike else "")


def _judged(found: list[Slope], meant: dict[str, list[Slope]]) -> list[Slope]:
    sound = {one for which in meant.values() for one in which}
    return [one for one in found if one.quantity != "update" and one not in sound]


def _seen(which: list[Slope]) -> bool:
    return any(one.verdict == "shrinks" for one in which)


def _is_same(table: pd.DataFrame, of: str = "seed") -> bool:
    """Whether every network measures the same as the others of its seed, or of its size, to the last digit."""
    return bool((table.groupby([of, "site", "quantity", "step"])["value"].nunique(dropna=False) == 1).all())
