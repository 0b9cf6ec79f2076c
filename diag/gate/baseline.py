"""A baseline: what a run measured, small enough to commit, in lines that a diff can show."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diag.gate.metrics import METRICS, GateError, gated
from diag.suite.errors import RunError
from diag.suite.folder import RunFolder
from diag.suite.record import Record, encoded

SCHEMA_VERSION = 2
"""2: the decays have a sign."""
FILE = "baseline.json"
UNMEASURED = "not measured"
"""What is said of a claim whose values are missing."""
ENVIRONMENT = ("diag", "python", "torch", "platform", "device", "threads")


@dataclass(frozen=True)
class CaseValues:
    """One case: its recipe, and per metric a value for each seed; nan where a trial did not measure it."""

    content: dict[str, Any]
    seeds: list[int]
    metrics: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Baseline:
    """What a gate needs of a run: recipes, seeds, metrics, verdicts, and where it was measured."""

    suite: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    cases: dict[str, CaseValues]
    claims: dict[str, str]
    commit: str | None = None
    origin: str = ""

    def to_json(self) -> str:
        """A line per case's metric: 6 digits are more than seeds ever agree on."""
        head = {
            "schema": SCHEMA_VERSION, "suite": self.suite, "settings": self.settings, "environment": self.environment,
            "commit": self.commit,
        }  # fmt: skip
        lines = [f'  "{key}": {json.dumps(value, sort_keys=True)},' for key, value in head.items()]
        cases = [_case_lines(name, case) for name, case in self.cases.items()]
        claims = [f"    {json.dumps(what)}: {json.dumps(verdict)}" for what, verdict in self.claims.items()]
        lines += ['  "claims": {', ",\n".join(claims), "  },"] if claims else ['  "claims": {},']
        return "\n".join(["{", *lines, '  "cases": {', ",\n".join(cases), "  }", "}", ""])


def _case_lines(name: str, case: CaseValues) -> str:
    lines = [f'      "content": {json.dumps(case.content, sort_keys=True)}', f'      "seeds": {json.dumps(case.seeds)}']
    lines += [
        f'      "{metric}": {json.dumps([encoded(float(f"{value:.6g}")) for value in values])}'
        for metric, values in case.metrics.items()
    ]
    return f"    {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n    }"


def make_baseline(path: str | Path) -> Baseline:
    """The baseline of a finished run. Nothing in its folder is executed.

    Raises: RunError for a folder that holds no run, a damaged or an unfinished one; GateError if it trained nothing.
    """
    folder = RunFolder(Path(path))
    header = folder.header
    if not header.get("finished"):
        raise RunError(
            f"{path} is unfinished, and a gate on half a run would pass what it never saw: --resume it first"
        )
    records = folder.records()
    trials = header.get("trials", len(records))
    if len(records) < trials:
        raise RunError(f"{path} lacks {trials - len(records)} of {trials} trials: --resume it first")
    if len(records) > trials:
        raise RunError(
            f"{path} holds {len(records) - trials} trials of an earlier version of its suite: run it anew elsewhere"
        )
    trained = [one for one in records if "recipe" in one.content or METRICS.keys() & one.metrics.keys()]
    if not trained:
        raise GateError(
            f"{path} trained no recipe, and no experiment of it measured any of {', '.join(METRICS)}: there is nothing"
            " that a gate could compare"
        )
    return Baseline(
        suite=header["suite"],
        settings=header["settings"],
        environment={key: _environment(trained, key) for key in ENVIRONMENT},
        cases=_cases(trained, path),
        claims=_verdicts(folder.path / "verdicts.json"),
        commit=header.get("commit"),
        origin=str(path),
    )


def _verdicts(file: Path) -> dict[str, str]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {str(one["statement"]): _told(one) for one in content["claims"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} is missing or damaged ({type(error).__name__}: {error}): --resume the run") from None


def _told(claim: dict[str, Any]) -> str:
    """A claim's verdict; of one that nobody can judge, since its values are missing, that."""
    missing = claim["verdict"] == "undecided" and any(one.get("estimate") == "nan" for one in claim.get("parts", ()))
    return UNMEASURED if missing else str(claim["verdict"])


def _environment(trained: list[Record], key: str) -> Any:
    """What the trials agree on; where they do not, all that they say, as text."""
    found = list({str(value): value for one in trained if (value := one.environment.get(key)) is not None}.values())
    return found[0] if len(found) == 1 else " and ".join(sorted(map(str, found))) or None


def _cases(records: list[Record], path: str | Path) -> dict[str, CaseValues]:
    groups: dict[str, list[Record]] = {}
    for one in sorted(records, key=lambda one: one.seed):
        groups.setdefault(one.case, []).append(one)
    found = {}
    for name, group in sorted(groups.items()):
        if any(one.content != group[0].content for one in group):
            raise RunError(f"{path} holds trials of '{name}' with two recipes: run it anew elsewhere")
        try:
            rows = [gated(one) for one in group]
        except (KeyError, ValueError, TypeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise RunError(f"{path} holds a damaged trial of '{name}' ({what}): remove it and --resume") from None
        metrics = {
            metric: [row.get(metric, math.nan) for row in rows]
            for metric in METRICS
            if any(metric in row for row in rows)
        }
        content = group[0].content
        found[name] = CaseValues(content.get("recipe", content), [one.seed for one in group], metrics)
    return found


def load_baseline(path: str | Path) -> Baseline:
    """A baseline from a run's folder, from its file, or from a folder that holds `baseline.json`.

    A run's trials come first: a `baseline.json` beside them may be older than they are.
    Raises: GateError or RunError, in one line, for anything else, a damaged file, or a newer version.
    """
    path = Path(path)
    if (path / "run.json").is_file():
        return make_baseline(path)
    if path.is_dir() and not (path / FILE).is_file():
        raise GateError(f"{path} holds neither {FILE} nor a run: make one with 'diag baseline RUN --output {path}'")
    file = path / FILE if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["schema"] > SCHEMA_VERSION:
            raise GateError(f"{file} was written by a newer diag (schema {content['schema']}): upgrade diag")
        if content["schema"] < SCHEMA_VERSION:
            raise GateError(
                f"{file} was written by an older diag (schema {content['schema']}): make it anew from its run"
            )
        cases = {str(name): _case(value) for name, value in content["cases"].items()}
        if not cases:
            raise ValueError("it has no case")
        return Baseline(
            str(content["suite"]), {**content["settings"]}, {**content["environment"]}, cases,
            {str(key): str(value) for key, value in content["claims"].items()}, content.get("commit"), str(file),
        )  # fmt: skip
    except FileNotFoundError:
        raise GateError(f"no baseline at {path}: make one with 'diag baseline RUN --output {path}'") from None
    except GateError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GateError(f"{file} is no baseline that can be read ({type(error).__name__}: {error})") from None


def _case(value: dict[str, Any]) -> CaseValues:
    seeds = [int(one) for one in value["seeds"]]
    metrics = {name: [float(one) for one in value[name]] for name in value if name not in ("content", "seeds")}
    for name, values in metrics.items():
        if name not in METRICS:
            # Left out, a metric that was renamed would never be held to anything again.
            raise ValueError(f"'{name}' is no metric of this version of diag")
        if len(values) != len(seeds):
            raise ValueError(f"{name} has {len(values)} values for {len(seeds)} seeds")
    if not seeds or not metrics:
        raise ValueError("a case without seeds or metrics")
    if len(set(seeds)) < len(seeds):
        raise ValueError("a case that has a seed twice")
    return CaseValues(dict(value["content"]), seeds, metrics)
