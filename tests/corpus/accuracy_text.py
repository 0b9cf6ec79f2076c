"""The parts of the accuracy report that no run changes: what was scored when, how, and the reasons for mistakes."""

from __future__ import annotations

FIRST_SCORES = """## What was scored when

Rules and thresholds are fitted on one part; families that they have not seen are scored once. These first scores
count; whatever is changed afterwards is told, and the families are of the part `fit` from then on.

| round | part | error on healthy | right cause | beyond evidence apart | root first |
|---|---|---|---|---|---|
| first | test | 1 of 106 | 132 of 168 | 128 of 147 | 131 of 168 |
| first | held-out | 2 of 43 | 64 of 79 | 62 of 71 | 62 of 79 |
| second | fresh | FRESH |

In the first round an extension of the dropout rule, the last thing added, gave both false alarms of `held-out`, in the
family `layer-norm-lstm`; it was taken back. In the second round both parts became `fit`, and the families of `fresh`
were written, and their faults drawn, before any rule was changed.
"""

WORST = """## The ten worst mistakes, and why
"""

METHOD = """## How it was measured

Each set-up is trained for 30 steps under `diag.check`. A fault counts where plain training for 80 steps, without diag,
reaches less than half of its twin's progress, raises, or ends in what is no number (`tests/corpus/labels.json`, by
`python -m tests.corpus.verify_labels --write`); weaker ones are reported apart as early warnings. Intervals are
Wilson's, 95 %. Set-ups of one family resemble each other, so the intervals are, if anything, too narrow. A right cause
is one of the rules listed with the fault in `tests/corpus/inject*.py`; a root is one of those fit to stand first.
Beyond evidence: labels that belong to other samples, and layers that are frozen, which may be meant.
Thresholds were fitted on the part `fit` alone; `tests/corpus/split.py` lists the families of each.

The other tools' published thresholds are re-implemented in `tests/corpus/baselines.py`, with what had to be left out.

`make accuracy` runs it again."""
