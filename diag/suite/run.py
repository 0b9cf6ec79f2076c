"""A suite run from its first trial to its verdicts."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from diag.atomic import write_text
from diag.suite.claim import ClaimVerdict, judge_claim
from diag.suite.engine import Engine, Event, Failures, record_file
from diag.suite.errors import InterruptedRunError, RunError, SuiteError
from diag.suite.folder import RunFolder, choose_folder
from diag.suite.load import load_suite, suite_from_source
from diag.suite.local import LocalEngine
from diag.suite.record import Record
from diag.suite.results import Results
from diag.suite.suite import Suite
from diag.suite.task import Task, tasks_of
from diag.suite.trust import remember, trusted_path

Watcher = Callable[[Event, int, int], None]
"""Called with what happened, the trials done, and the trials in all that are known of."""


@dataclass
class Run:
    """A suite's results: where they are, what was measured, and the verdicts."""

    suite: Suite
    folder: Path
    results: Results
    verdicts: list[ClaimVerdict] = field(default_factory=list)
    failures: Failures = field(default_factory=Failures)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether no claim fails."""
        return not any(one.verdict == "does not hold" for one in self.verdicts)


def run_suite(
    suite: Suite | str | Path,
    *,
    quick: bool = False,
    seeds: int | None = None,
    changes: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    accept_change: bool = False,
    engine: Literal["local", "ray"] | Engine = "local",
    jobs: int | None = None,
    address: str | None = None,
    watcher: Watcher | None = None,
) -> Run:
    """Run every trial of a suite, and judge its claims.

    Args: suite: loaded, or its file, or its name. quick, seeds, changes: as `Suite.variant`. output: a folder; the next
        `diag-runs/SUITE-NNN` by default. resume: run only what is missing there. accept_change: resume although the
        suite's file has changed. engine: `local` processes (`jobs` of them), a `ray` cluster (`address`), or your own.
    Raises: DiagError, in one line, for whatever the user can mend. A trial that fails is in `.failures`.
    """
    began = time.perf_counter()
    loaded = suite if isinstance(suite, Suite) else load_suite(suite)
    if loaded.path is None:
        raise SuiteError("a suite is run from its file, so that workers can load it: give its path or name")
    chosen = loaded.variant(quick=quick, seeds=seeds, changes=changes)
    settings = {"quick": quick, "seeds": seeds, "set": dict(changes or {})}
    folder = choose_folder(chosen.name, Path(output) if output is not None else None, resume)
    if resume:
        folder.check_same(chosen, settings, accept_change)
        folder.accept(chosen)
    worker = _engine(engine, jobs, address)
    if not resume:
        folder.begin(chosen, settings)
    remember(chosen.source, loaded.path)
    run = Run(chosen, folder.path, Results([]))
    try:
        trials = _run_all(run, folder, worker, watcher)
    except KeyboardInterrupt:
        kept = len(list(folder.trials.glob("*.trial")))
        raise InterruptedRunError(
            f"interrupted: {kept} trials are kept in {folder.path}; the same command with --resume"
            f"{'' if output is None else f' --output {output}'} goes on from there"
        ) from None
    finally:
        # Of all sessions together: a run that is resumed took what it took before, too.
        run.seconds = float(folder.header.get("seconds", 0.0)) + time.perf_counter() - began
        folder.amend(seconds=round(run.seconds, 1))
    finish(run, folder, trials)
    return run


def _run_all(run: Run, folder: RunFolder, engine: Engine, watcher: Watcher | None) -> int:
    """Run the cases, and then those that their results decide; returns how many trials these are."""
    suite = run.suite
    tasks = tasks_of(dict(suite.cases), suite.seeds)
    _complete(run, folder, engine, tasks, watcher)
    if suite.follow_up is not None and not run.failures.errors:
        more = suite.follow_up_cases(run.results)
        tasks += tasks_of(more, suite.follow_up_seeds or suite.seeds)
        _complete(run, folder, engine, tasks, watcher)
    if not run.failures.errors:
        _set_aside(folder, {record_file(folder.trials, task) for task in tasks})
    return len(tasks)


def _set_aside(folder: RunFolder, wanted: set[Path]) -> None:
    """Move the trials of a suite's file as it was before a change to `replaced/`, where no reader of the run is."""
    for one in set(folder.trials.glob("*.trial")) - wanted:
        (folder.path / "replaced").mkdir(exist_ok=True)
        one.replace(folder.path / "replaced" / one.name)


def open_run(path: str | Path, *, trust: bool = False) -> Run:
    """A run from its folder, judged anew by the suite's file as it was then.

    That file is executed if you have run it on this machine, or it comes with diag; trust: execute it anyway.
    Raises: RunError for a folder that holds no run or a damaged one, or whose suite is not trusted.
    """
    folder = RunFolder(Path(path))
    header = folder.header
    suite = _suite_of(folder, header, trust)
    try:
        settings = header["settings"]
        chosen = suite.variant(quick=settings["quick"], seeds=settings["seeds"], changes=settings["set"])
        seconds = float(header.get("seconds", "nan"))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder.path / 'run.json'} is damaged: {type(error).__name__}: {error}") from None
    records = folder.records()
    lost = folder.lost(len(records))
    if lost and not records:
        raise RunError(
            f"none of the {lost} trials of this run is left in {folder.trials}: bring them back, or run "
            f"them again: diag run with its options, --resume and --output {folder.path}"
        )
    whole = bool(header.get("finished")) and not lost
    run = Run(chosen, folder.path, Results(_in_order(chosen, records)), seconds=seconds)
    run.verdicts = _judged(run, whole)
    return run


def _judged(run: Run, whole: bool) -> list[ClaimVerdict]:
    """The verdicts. In a run that is not whole, a measure that fails may fail for want of trials: undecided."""
    found = []
    for claim in run.suite.claims:
        try:
            found.append(judge_claim(claim, run.results))
        except SuiteError as error:
            if whole:
                raise
            bounds = (claim.above, claim.below, claim.unit)
            found.append(ClaimVerdict(claim.statement, claim.source, "undecided", *bounds, why=str(error)))
    return found


def _in_order(suite: Suite, records: list[Record]) -> list[Record]:
    """The records as `run_suite` has them: seed by seed, cases in the suite's order, those of the follow-up last."""
    names = list(suite.cases)
    first = set(suite.cases)
    with contextlib.suppress(Exception):
        # Asked of the first cases alone, as when it ran; of a run that is unfinished it may not be able to say.
        names += list(suite.follow_up_cases(Results([one for one in records if one.case in first])))
    place = {name: i for i, name in enumerate(names)}
    return sorted(records, key=lambda one: (one.case not in first, one.seed, place.get(one.case, len(place)), one.case))


def _suite_of(folder: RunFolder, header: Mapping[str, Any], trust: bool) -> Suite:
    name = header["suite"]
    # A report is written to a folder of this name.
    if not isinstance(name, str) or name in ("", ".", "..") or not name.isprintable() or set("/\\") & set(name):
        raise RunError(f"{folder.path / 'run.json'} is damaged: a suite is not named {name!r}")
    file = folder.path / "suite.py"
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{file} cannot be read: {error}") from None
    path = trusted_path(name, source)
    if path is None and not trust:
        raise RunError(
            f"{file} was never run on this machine, and showing the run would execute it: read it, then add --trust"
        )
    suite = suite_from_source(source, path or _origin(folder, header))
    suite.name = name
    return suite


def _origin(folder: RunFolder, header: Mapping[str, Any]) -> Path:
    """Where the suite's file lay when it was run: its imports are looked up there, never in a folder of results."""
    path = Path(str(header.get("file")))
    if path.is_absolute() and not path.resolve().is_relative_to(folder.path.resolve()):
        return path
    # What is below a file is no folder, and so nothing is found in it.
    return folder.path / "suite.py" / f"{header['suite']}.py"


def finish(run: Run, folder: RunFolder, trials: int) -> None:
    """Judge the claims and write what was found."""
    run.verdicts = _judged(run, not run.failures.errors)
    content = {
        "schema": 1,
        "suite": run.suite.name,
        "question": run.suite.question,
        "trials": trials,
        "failed": run.failures.errors,
        "claims": [one.to_dict() for one in run.verdicts],
    }
    write_text(folder.path / "verdicts.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    folder.amend(trials=trials, finished=not run.failures.errors)


def _complete(run: Run, folder: RunFolder, engine: Engine, tasks: list[Task], watcher: Watcher | None) -> None:
    """Run those tasks that have no record yet, and read all records."""
    missing = [task for task in tasks if not record_file(folder.trials, task).is_file()]
    done = len(tasks) - len(missing)

    def report(event: Event) -> None:
        nonlocal done
        if event.state == "failed":
            run.failures.errors[f"{event.task.case} seed {event.task.seed}"] = event.error
            run.failures.tracebacks[f"{event.task.case} seed {event.task.seed}"] = event.traceback
        done += event.state in ("done", "failed")
        if watcher is not None:
            watcher(event, done, len(tasks))

    if missing:
        engine.run(run.suite, missing, folder.trials, report)
    files = (record_file(folder.trials, task) for task in tasks)
    run.results = Results([Record.load(file) for file in files if file.is_file()])


def _engine(engine: str | Engine, jobs: int | None, address: str | None) -> Engine:
    if engine == "ray":
        from diag.suite.ray_engine import RayEngine

        return RayEngine(address, jobs)
    if address is not None:
        raise SuiteError("--address is a Ray cluster's: add --engine ray")
    if engine == "local":
        return LocalEngine(jobs)
    if isinstance(engine, str):
        raise SuiteError(f"no engine '{engine}': local or ray")
    return engine
