"""How often diag is right: `python -m tests.corpus.accuracy [--part fit|fresh] [--mistakes] [name ...]`.

Judges every case of the corpus after 30 steps of training, counts against the labels proven in `labels.json`, and
writes `reports/accuracy/`. What was measured is kept in `build/accuracy`. With a part or names it only prints.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from tests.corpus import everything
from tests.corpus.accuracy_report import page
from tests.corpus.baselines import BASELINES
from tests.corpus.inject import INJECTORS
from tests.corpus.labels import labels
from tests.corpus.scores import Row, by_family, by_rule, by_strength, of_baseline, row, summary, text
from tests.corpus.split import PARTS, part_of
from tests.corpus.verdicts import ROOT, verdict

REPORT = ROOT / "reports" / "accuracy"


def judged(part: str | None = None, names: list[str] | None = None) -> list[Row]:
    """Every case that has a label, of one part or of all."""
    known, rows, begun = labels(), [], time.perf_counter()
    cases = [one for one in everything() if one.name in known and (part is None or part_of(one.family) == part)]
    cases = [one for one in cases if not names or any(name in one.name for name in names)]
    for number, case in enumerate(cases):
        rows.append(row(case, verdict(case)))
        if time.perf_counter() - begun > 20:
            begun = time.perf_counter()
            print(f"{number + 1} of {len(cases)}", flush=True)
    return rows


def scores(rows: list[Row]) -> dict[str, Any]:
    """All tables of a set of rows."""
    strengths = {name: one.strengths for name, one in INJECTORS.items()}
    return {
        "summary": summary(rows),
        "baselines": {tool: of_baseline(rows, tool) for tool in BASELINES},
        "rules": by_rule(rows),
        "families": by_family(rows),
        "strengths": by_strength(rows, strengths),
    }


def mistakes(rows: list[Row]) -> list[str]:
    """Every false alarm, miss, wrong cause and symptom put first, with what was said."""
    out = []
    for one in rows:
        kind = ""
        if one.verdict.crash:
            kind = "CRASH"
        elif one.state == "healthy" and one.alarms:
            kind = "FALSE ALARM"
        elif one.state == "faulty" and not one.right:
            kind = "WRONG" if one.alarms else "MISS"
        elif one.state == "faulty" and not one.root_first:
            kind = "SYMPTOM FIRST"
        if kind:
            said = one.verdict.crash or "; ".join(one.verdict.messages[:3]) or "nothing"
            proof = {key: value for key, value in labels()[one.case.name].items() if key != "state"}
            wanted = " | ".join(sorted(one.case.roots or one.case.causes))
            hard = " (beyond evidence)" if one.case.hard else ""
            out.append(f"{kind}{hard} {one.case.name} {proof}\n    wanted {wanted or 'nothing'}\n    said {said}")
    return out


def main() -> None:
    """Print the tables, and write the report where all parts were judged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--mistakes", action="store_true")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    torch.set_num_threads(1)
    rows = judged(given.part, given.names)
    if given.mistakes:
        print("\n".join(mistakes(rows)))
    for part in PARTS:
        own = [one for one in rows if one.part == part]
        if own:
            print(f"\n{part}: {len(own)} set-ups of {len({one.case.family for one in own})} families")
            for what, count in summary(own).items():
                print(f"  {what}: {text(count) if isinstance(count, dict) else count}")
            for tool in BASELINES:
                print(f"  {tool}: " + "; ".join(f"{k} {text(v)}" for k, v in of_baseline(own, tool).items()))
    if given.part is None and not given.names:
        write(rows, REPORT)


def write(rows: list[Row], folder: Path) -> None:
    """README.md, accuracy.json and figures."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {part: scores([one for one in rows if one.part == part]) for part in PARTS}
    found["mistakes"] = {part: mistakes([one for one in rows if one.part == part]) for part in PARTS}
    found["corpus"] = {
        part: {s: sum(one.part == part and one.state == s for one in rows) for s in ("healthy", "faulty", "no effect")}
        for part in PARTS
    }
    plain = {key: value for key, value in found.items() if key != "mistakes"}
    (folder / "accuracy.json").write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n")
    page(found, folder)
    print(f"wrote {folder.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
