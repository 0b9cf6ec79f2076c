"""The table of remedies on injected faults, for people: `reports/prescribe/README.md`."""

from __future__ import annotations

from collections.abc import Sequence

from tests.corpus.prescribe_drawn import COUNT, OF_A_FAMILY, OF_FRESH, REPORT, SEED, Row
from tests.corpus.scores import share, text

ENOUGH = 0.9
PARTS = ("fresh", "scored", "mended")
FIRST = (
    "`fresh` is of families written after all remedies. A first run of it ended at its seventh case, in a traceback of"
    " the search: a loss that refuses what has diverged; with that mended it was run, once. `scored` and `mended` are"
    " drawn from the families of the first two rounds of reports/accuracy, by another draw than the first one, when"
    " there were fewer: of that one the first remedy restored 22 of 32 of `mended` before anything was mended, and 27"
    " of 32 of `scored` after it. 7 of the 24 families of `scored` were in that draw's `mended`, so that only `fresh`"
    " is of families on which nothing was mended."
)
"""What was measured before, once."""


def page(rows: Sequence[Row], first: str = FIRST) -> str:
    """What was restored, by half and fault, and every case."""
    halves = {half: [one for one in rows if one.half == half] for half in PARTS}
    scored = halves[PARTS[0]]
    out = [
        "# Does the first remedy bring back what a fault took?",
        "",
        f"On {len(scored)} injected faults in {len({one.family for one in scored})} model families on which no remedy"
        f" was developed, the first remedy of `diag prescribe` reaches at least 90 % of the healthy twin's progress in"
        f" {text(share(scored, _enough))}; the bar is 80 %. Without a remedy, {text(share(scored, _untouched))} do.",
        "",
        "| | families | restored | restored, strictly | without a remedy | a remedy found |",
        "|---|---|---|---|---|---|",
    ]
    for half, of in halves.items():
        cells = [text(share(of, holds)) for holds in (_enough, _strictly, _untouched, _found)]
        out.append(f"| {half} | {len({one.family for one in of})} | {' | '.join(cells)} |")
    out += ["", first, "", "## By fault", "", f"| fault | {' | '.join(PARTS)} |", "|---|---|---|---|"]
    for fault in sorted({one.fault for one in rows}):
        cells = []
        for of in halves.values():
            own = [one for one in of if one.fault == fault]
            cells.append(f"{sum(map(_enough, own))} of {len(own)}" if own else "")
        out.append(f"| {fault} | {' | '.join(cells)} |")
    out += ["", "## Every case", "", "| case | half | share | without | first remedy |", "|---|---|---|---|---|"]
    for one in sorted(rows, key=lambda one: (PARTS.index(one.half), one.share)):
        out.append(
            f"| {one.name} | {one.half} | {_percent(one.share)} | {_percent(one.untreated)} |"
            f" {one.remedy or 'nothing helped'} |"
        )
    return "\n".join([*out, "", *_method()]) + "\n"


def _method() -> list[str]:
    return [
        "## How it was measured",
        "",
        f"`python -m tests.corpus.prescribe --drawn` draws {COUNT} faulty set-ups by seed {SEED}, at most"
        f" {OF_A_FAMILY} of a family, from those of the drawn families whose fault a change from outside can mend"
        " and whose label is proven (tests/corpus/labels.json); the slowest families are left out. They are parted by"
        f" family into `scored` and `mended`; {OF_FRESH} more, `fresh`, are of families written for the fourth round of"
        " reports/accuracy. The"
        " healthy twin, the case with the first remedy, and the case as it is are trained for 60 steps with 3"
        " seeds, and measured by the twin's loss. The share is the remedied fall of the loss over the twin's;"
        " strictly, over the twin's fall from where the faulty network begins, if that is lower.",
    ]


def write(rows: Sequence[Row]) -> None:
    """The page, beside the other reports."""
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "README.md").write_text(page(rows))


def _enough(one: Row) -> bool:
    return one.share >= ENOUGH


def _strictly(one: Row) -> bool:
    return one.strict >= ENOUGH


def _found(one: Row) -> bool:
    return bool(one.remedy)


def _untouched(one: Row) -> bool:
    return one.untreated >= ENOUGH


def _percent(value: float) -> str:
    return f"{value:.0%}" if -10 < value < 10 else "far off"
