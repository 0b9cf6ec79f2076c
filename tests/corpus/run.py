"""What diag says of every case: `python -m tests.corpus.run [name ...]`."""

from __future__ import annotations

import sys
import time
import traceback

import torch

from tests.corpus import FAULTY, HEALTHY
from tests.corpus.case import Case

STEPS = 30


def judge(case: Case) -> tuple[str, str]:
    """ok, MISS, WRONG (an error, but no right cause), FALSE-ALARM or CRASH; and what was found."""
    from diag.check import check

    begun = time.perf_counter()
    try:
        diagnosis = check(case.build(), steps=STEPS)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return "CRASH", f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - begun
    errors = [one for one in diagnosis.findings if one.severity == "error"]
    warnings = [one for one in diagnosis.findings if one.severity == "warning"]
    found = " ".join(f"{one.rule}@{one.site}" for one in errors) or "-"
    milder = " ".join(f"{one.rule}@{one.site}" for one in warnings) or "-"
    return _state(case, {one.rule for one in errors}), f"errors {found}  warnings {milder}  {seconds:.1f} s"


def _state(case: Case, rules: set[str]) -> str:
    if not case.causes:
        return "FALSE-ALARM" if rules else "ok"
    if rules & case.causes:
        return "ok"
    return "WRONG" if rules else "MISS"


def main(parts: list[str]) -> int:
    """Print every case and the totals; return the number that went wrong, hard cases apart."""
    torch.set_num_threads(1)
    wrong = 0
    totals: dict[str, list[int]] = {}
    for state, cases in (("healthy", HEALTHY), ("faulty", FAULTY)):
        for case in cases:
            if parts and not any(part in f"{state}:{case.name}" for part in parts):
                continue
            verdict, found = judge(case)
            group = f"{state}, hard" if case.hard else state
            right, all_of = totals.setdefault(group, [0, 0])
            totals[group] = [right + (verdict == "ok"), all_of + 1]
            wrong += verdict != "ok" and not case.hard
            print(f"{verdict:12}{state:8}{case.name:32}{found}", flush=True)
            if verdict in ("MISS", "WRONG"):
                print(f"{'':12}wanted {' | '.join(sorted(case.causes))}: {case.why}", flush=True)
    for group, (right, all_of) in totals.items():
        print(f"{group}: {right} of {all_of} right")
    return wrong


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
