"""How far healthy networks of the part `fit` go toward each threshold: `python -m tests.corpus.null [--write]`.

For each threshold and each healthy set-up: the value of the threshold at which its rule would begin to give an error,
by bisection on a logarithmic scale. `--write` stores the quantiles in `diag/rules/null.py`.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from diag.rules.evidence import Evidence, Trend
from diag.rules.judge import RULES
from diag.rules.thresholds import THRESHOLDS, resolve
from diag.trace import Trace
from tests.corpus import everything
from tests.corpus.labels import labels
from tests.corpus.split import part_of
from tests.corpus.verdicts import ROOT, traced

FILE = ROOT / "diag" / "rules" / "null.py"
QUANTILES = (0.5, 0.9, 0.99, 0.999)
_ROUNDS = 10


@dataclass(frozen=True)
class Null:
    """rule: whose error. low, high: the range searched. above: whether values above the threshold alarm. along: other
    thresholds that are set to the same value, so that only this one decides. off: thresholds put out of reach."""

    rule: str
    low: float
    high: float
    above: bool
    along: tuple[str, ...] = ()
    off: tuple[tuple[str, float], ...] = ()
    of: str = ""


_NOT_GROWN = (("grown_error", math.inf), ("grown_single_error", math.inf))
NULLS = {
    "vanishing_error": Null("vanishing-gradient", 1e-12, 1e3, False, ("vanishing_warning",),
                            (("vanishing_steep_error", 0.0), ("vanishing_crawl_error", 0.0))),
    "vanishing_crawl_error": Null("vanishing-gradient", 1e-12, 1e3, False, ("vanishing_warning",),
                                  (("vanishing_steep_error", 0.0), ("vanishing_error", 0.0))),
    "exploding_gradient_error": Null("exploding-gradient", 1e-3, 1e12, True, ("exploding_gradient_warning",)),
    "exploding_activation_error": Null("exploding-activation", 1e-3, 1e12, True, ("exploding_activation_warning",)),
    "collapsed_scale_error": Null("collapsed-signal", 1e-12, 1e3, False, of="scale"),
    "collapsed_spread_error": Null("collapsed-signal", 1e-12, 1e3, False, ("collapsed_spread_warning",),
                                   (("collapsed_scale_error", 0.0), ("collapsed_spread_crawl_error", 0.0)), "spread"),
    "collapsed_spread_crawl_error": Null("collapsed-signal", 1e-12, 1e3, False, ("collapsed_spread_warning",),
                                         (("collapsed_scale_error", 0.0), ("collapsed_spread_error", 0.0)), "spread"),
    "dropped_share_error": Null("collapsed-signal", 1e-3, 1.0, True, of="dropout"),
    "dropped_inside_error": Null("collapsed-signal", 1e-3, 1.0, True, (), (("dropped_share_error", 2.0),
                                 ("dropped_chain_error", 0.0)), "dropout"),
    "saturated_error": Null("saturated-activation", 1e-3, 1.0, True, ("saturated_warning",),
                            (("saturated_crawl_error", 2.0),)),
    "saturated_crawl_error": Null("saturated-activation", 1e-3, 1.0, True, ("saturated_warning",),
                                  (("saturated_error", 2.0),)),
    "dead_error": Null("dead-units", 1e-3, 1.0, True, ("dead_warning",)),
    "stalled_error": Null("stalled-update", 1e-12, 1.0, False, ("stalled_warning",)),
    "oversized_error": Null("oversized-update", 1e-6, 1e6, True, off=(("oversized_lasting_error", math.inf),
                            ("oversized_single_error", math.inf), *_NOT_GROWN)),
    "oversized_lasting_error": Null("oversized-update", 1e-6, 1e6, True, off=(("oversized_error", math.inf),
                                    ("oversized_single_error", math.inf), *_NOT_GROWN)),
    "oversized_single_error": Null("oversized-update", 1e-6, 1e6, True, off=(("oversized_error", math.inf),
                                   ("oversized_lasting_error", math.inf), *_NOT_GROWN)),
    "grown_error": Null("oversized-update", 1e-3, 1e6, True, off=(("grown_single_error", math.inf),), of="growth"),
    "grown_single_error": Null("oversized-update", 1e-3, 1e6, True, off=(("grown_error", math.inf),), of="growth"),
    "lost_error": Null("collapsed-signal", 1e-15, 1e3, False, off=(("lost_crawl_error", 0.0),), of="lost"),
    "lost_crawl_error": Null("collapsed-signal", 1e-15, 1e3, False, off=(("lost_error", 0.0),), of="lost"),
    "weights_error": Null("collapsed-signal", 1e-9, 1e3, False, of="weights"),
    "recurrent_error": Null("saturated-activation", 1e-3, 1e6, True, off=(("saturated_error", 2.0),
                            ("saturated_crawl_error", 2.0)), of="recurrent"),
    "input_error": Null("exploding-activation", 1e-3, 1e9, True, of="input"),
    "first_loss_error": Null("exploding-activation", 1e-3, 1e9, True, off=(("input_error", math.inf),), of="output"),
    "shrunk_error": Null("oversized-update", 1e-9, 1e3, False, (), (("shrunk_crawl_error", 0.0),), "shrink"),
    "shrunk_crawl_error": Null("oversized-update", 1e-9, 1e3, False, (), (("shrunk_error", 0.0),), "shrink"),
    "guess_error": Null("diverging-loss", 1e-2, 1e3, True, of="guess"),
    "one_sign_error": Null("symmetric-units", 1e-3, 1.0, True, off=(("symmetric_error", math.inf),), of="sign"),
    "symmetric_error": Null("symmetric-units", 1e-3, 1.0, True),
    "diverging_error": Null("diverging-loss", 1e-2, 1e9, True),
    "unrelated_error": Null("unrelated-targets", 1e-2, 1e3, False, ("unrelated_warning",)),
}  # fmt: skip


class Remembered(Evidence):
    """Evidence that is asked again and again, with other thresholds."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(trace, resolve({}))
        self._rows: dict[Any, pd.DataFrame] = {}
        self._trends: dict[Any, Trend | None] = {}

    def rows(self, kind: str, steps: list[int] | None = None, roles: tuple[str, ...] | None = None) -> pd.DataFrame:
        """As before, once."""
        key = (kind, None if steps is None else tuple(steps), roles)
        if key not in self._rows:
            self._rows[key] = super().rows(kind, steps, roles)
        return self._rows[key].copy()

    def trend(self, kind: str, steps: list[int], column: str) -> Trend | None:
        """As before, once."""
        key = (kind, tuple(steps), column)
        if key not in self._trends:
            self._trends[key] = super().trend(kind, steps, column)
        return self._trends[key]


def reach(trace: Trace, known: Evidence, name: str) -> float:
    """The threshold at which this set-up would begin to alarm; beyond the range: its harmless end."""
    null = NULLS[name]

    def fires(value: float) -> bool:
        # What a loss that falls forgives is counted here all the same.
        values = resolve({}) | {"copes_fall": math.inf} | dict(null.off) | dict.fromkeys((name, *null.along), value)
        # Which steps are clean depends on no other threshold than the one of divergence.
        evidence = Evidence(trace, values) if name == "diverging_error" else known
        evidence.thresholds = values
        found = RULES[null.rule](evidence)
        return any(
            one.severity == "error" and one.rule == null.rule and null.of in ("", one.evidence.get("of"))
            for one in found
        )

    safe, grave = (null.low, null.high) if null.above else (null.high, null.low)
    if not fires(safe):
        return safe
    if fires(grave):
        return grave
    for _ in range(_ROUNDS):
        middle = math.sqrt(safe * grave)
        safe, grave = (middle, grave) if fires(middle) else (safe, middle)
    return math.sqrt(safe * grave)


def main(arguments: list[str]) -> None:
    """Print, and write, the quantiles toward the alarming side, and the set-up that goes farthest."""
    torch.set_num_threads(1)
    cases = [
        one
        for one in everything()
        if part_of(one.family) == "fit" and labels().get(one.name, {}).get("state") == "healthy"
    ]
    traces = {one.name: traced(one)[0] for one in cases}
    lines, known = [], {name: Remembered(trace) for name, trace in traces.items()}
    for name, null in NULLS.items():
        values = np.array([reach(trace, known[one], name) for one, trace in traces.items()])
        sign = 1 if null.above else -1
        order = np.argsort(sign * np.log(values))
        quantiles = [float(values[order[math.ceil(q * len(values)) - 1]]) for q in QUANTILES]
        farthest = list(traces)[order[-1]]
        shown = ", ".join(str(float(f"{value:.2g}")) for value in quantiles)
        lines.append(f'    "{name}": Null({len(values)}, ({shown}), "{farthest}"),')
        print(f"{name:28} in force {THRESHOLDS[name].value:8.2g}  {shown}  {farthest}", flush=True)
    if "--write" in arguments:
        head, begin, _ = FILE.read_text().partition("NULL: dict[str, Null] = {\n")
        FILE.write_text(head + begin + "\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
