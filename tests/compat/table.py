"""`python -m tests.compat.table`: run every cell's test and write docs/compatibility.md from what came out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.compat.registry import COLUMNS, Row
from tests.compat.rows import ROWS
from tests.distributed.setups import ROWS as DISTRIBUTED

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compatibility.md"
ALL: list[Row] = [*ROWS, *DISTRIBUTED]

_HEAD = """# Compatibility

What `diag.watch` does in each of these set-ups. The table is a test suite: each cell is a test in `tests/compat` or
`tests/distributed`, with the versions in `constraints.txt`, and `python -m tests.compat.table` runs them all and writes
this page. A `no` is a test that is expected to fail; when it passes, the suite fails until the page says so. A `-` is
something that torch itself refuses, watched or not.
"""

_TAIL = """## What has no row, or another

- A module that puts out a view, as `Flatten` does, right before an operation in place on it, as `ReLU(inplace=True)`:
  autograd takes the view's node out of the graph, so that its gradient has no row. That of the module before it has the
  same numbers.
- Two backward passes through one graph (`retain_graph=True`): an activation's gradient has the elements of each pass in
  its row, not of their sum; a weight's gradient is the sum.

## What several processes report

Each rank measures its own part and communicates nothing while it trains. When the watch ends, every rank leaves its
tables in the process group's key-value store, and the first rank of the group puts them together; the trace that it has
then is of the whole, and it alone has findings. The others keep the trace of their own part.

- Data parallel (`DistributedDataParallel`, `fully_shard`): outputs are those of the whole batch. Each rank's loss is
  the mean over its part, and the ranks' gradients are averaged, so the loss is the mean of the ranks' losses and the
  gradient of an output is that of this mean: 1 / ranks of what the rank's own backward pass computed. With parts of one
  size, that is what one process finds with the whole batch. Weights, their gradients and updates count once where they
  are copies, and shard by shard where they are divided.
- Tensor parallel (DTensor): shards are put together, copies count once. A plain tensor between two parallel layers
  counts as a copy if all ranks found exactly the same in it.
- Both (`fully_shard` over one dimension of a mesh, tensor parallel over another): ranks with the same part of the batch
  are put together as tensor parallel, and the parts of the batch as data parallel.
- A unit is dead if it is zero on every rank. `sample_var` is the mean of the ranks' variances over their own samples.
  The scores of a loss's pairs (`[pairing]`) are the mean of those of each rank's own pairs, and count as so many.
- A rank that has died, or was not watched, is named in the coverage's notes. One that began to watch is waited for at
  most 60 s (`DIAG_RANKS_TIMEOUT`), and at most 10 s where the training ended with an exception. If it is the first
  rank that is gone, the others report their own parts. One that ended with an exception is named with it; if that is
  the first, the others may be waiting for it in a collective, and then its own part is reported.
- Of ranks that share no model in one of these ways each speaks for itself, and so do those that are tensor parallel
  within `DistributedDataParallel`.
- `diag watch SCRIPT` under torchrun or another launcher: the ranks join at the first pass within the process group, and
  post what they saw when it is destroyed or when the script ends. The first rank prints the report, writes the files,
  and exits with 1 for findings; the others say nothing and exit with the script's own code, since a launcher kills all
  ranks when one exits with anything but 0. A rank that reports for itself writes beside the first: `page.rank1.html`.
"""


def page(rows: Sequence[Row]) -> str:
    """The page, with a footnote for each cell that has a reason."""
    parts = [_HEAD, "\n".join(f"- **{name}**: {meaning}." for name, meaning in COLUMNS.items()), ""]
    notes: dict[str, int] = {}
    for group in dict.fromkeys(row.group for row in rows):
        parts += [f"## {group}", "", "| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
        for row in rows:
            if row.group == group:
                cells = [_cell(*row.claim(column), notes) for column in COLUMNS]
                parts.append("| " + " | ".join([row.name, *cells]) + " |")
        parts.append("")
    parts.append(_TAIL)
    return "\n".join(parts + [f"[^{number}]: {_sentence(reason)}" for reason, number in notes.items()]) + "\n"


def _cell(word: str, reason: str, notes: dict[str, int]) -> str:
    shown = word if word in ("yes", "-") else f"**{word}**"
    return f"{shown} [^{notes.setdefault(reason, len(notes) + 1)}]" if reason else shown


def _sentence(reason: str) -> str:
    return reason[0].upper() + reason[1:] + "."


class _Outcomes:
    """What pytest says of each cell."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note the outcome of a cell's test."""
        cell = dict(report.user_properties).get("cell")
        if report.when == "call" and cell is not None:
            self.found[tuple(cell)] = "expected to fail" if hasattr(report, "wasxfail") else report.outcome


def main() -> int:
    """Run the cells; write the page where each came out as its row claims."""
    outcomes = _Outcomes()
    folders = [str(ROOT / "tests" / name) for name in ("compat", "distributed")]
    pytest.main(
        ["-q", "-p", "no:xdist", "-k", "test_cell", "-m", "nightly or not nightly", *folders], plugins=[outcomes]
    )
    wrong = []
    for row in ALL:
        for column in COLUMNS:
            expected = "expected to fail" if row.claim(column)[0] == "no" else "passed"
            found = outcomes.found.get((row.name, column), "not run")
            wrong += [f"{row.name}, {column}: {found}, {expected} by its claim"] * (found != expected)
    if wrong:
        print("\n".join([*wrong, f"{PAGE.name} was not written"]), file=sys.stderr)
        return 1
    PAGE.write_text(page(ALL), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}: {len(ALL)} set-ups")
    return 0


if __name__ == "__main__":
    sys.exit(main())
