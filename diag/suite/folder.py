"""A run's folder: what was run, one file per trial, and the verdicts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from diag.atomic import write_text
from diag.recipes.networks.user import digest_of, file_of
from diag.recipes.recipe import Recipe
from diag.suite.errors import RunError
from diag.suite.load import source_hash
from diag.suite.record import Record
from diag.suite.suite import Suite

SCHEMA_VERSION = 1
DEFAULT_HOME = Path("diag-runs")


@dataclass(frozen=True)
class RunFolder:
    """`run.json` (what was asked for), `suite.py` (the file as it was), `trials/*.trial`, `verdicts.json`."""

    path: Path

    @property
    def trials(self) -> Path:
        """Where the records are."""
        return self.path / "trials"

    @property
    def header(self) -> dict[str, Any]:
        """What `run.json` says.

        Raises: RunError if it is missing, damaged, or from a newer version.
        """
        file = self.path / "run.json"
        try:
            header: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            schema = header["schema"]
            _ = header["suite"], header["hash"], header["settings"]
        except FileNotFoundError:
            raise RunError(f"{self.path} holds no run: there is no run.json in it") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file} is damaged: {type(error).__name__}: {error}") from None
        if schema > SCHEMA_VERSION:
            raise RunError(f"{file} was written by a newer diag (schema {schema}): upgrade diag")
        return header

    def begin(self, suite: Suite, settings: Mapping[str, Any]) -> None:
        """Write what is run. Raises: WriteError, or RunError if the folder has other things in it."""
        if self.path.is_file():
            raise RunError(f"{self.path} is a file: --output takes a folder")
        if self.path.is_dir() and any(self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and holds no run: name another folder with --output")
        header = {
            "schema": SCHEMA_VERSION,
            "suite": suite.name,
            "file": str(suite.path),
            "hash": source_hash(suite.source),
            "networks": _networks(suite),
            "settings": dict(settings),
            "diag": sys.modules["diag"].__version__,
            "commit": _commit(suite.path),
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_text(self.path / "suite.py", suite.source)
        write_text(self.path / "run.json", json.dumps(header, indent=2) + "\n")

    def check_same(self, suite: Suite, settings: Mapping[str, Any], accept_change: bool) -> None:
        """Raises: RunError if the folder holds another suite's run, or this one's with other settings or source."""
        header = self.header
        if header["suite"] != suite.name:
            raise RunError(
                f"{self.path} holds a run of the suite '{header['suite']}', not of '{suite.name}': name another folder"
            )
        if header["settings"] != dict(settings):
            raise RunError(
                f"{self.path} was begun with {described(header['settings'])}, not with {described(settings)}: "
                "give the same options, or another --output"
            )
        if accept_change:
            return
        keep = "keep the trials whose recipes are the same with --accept-change"
        if header["hash"] != source_hash(suite.source):
            raise RunError(
                f"{suite.path} has changed since the run in {self.path} began: start anew without --resume, or {keep}"
            )
        networks = _networks(suite)
        for name, digest in (header.get("networks") or {}).items():
            if networks.get(name, digest) != digest:
                raise RunError(
                    f"{name}, which holds a network, has changed since the run in {self.path} began: start anew"
                    f" without --resume, or {keep}"
                )

    def accept(self, suite: Suite) -> None:
        """Take the suite's file as it is now for the run's."""
        write_text(self.path / "suite.py", suite.source)
        self.amend(hash=source_hash(suite.source), networks=_networks(suite))

    def amend(self, **values: Any) -> None:
        """Add to what `run.json` says."""
        write_text(self.path / "run.json", json.dumps(self.header | values, indent=2) + "\n")

    def records(self) -> list[Record]:
        """All trials that ended. Raises: RunError for a damaged one."""
        return [Record.load(file) for file in sorted(self.trials.glob("*.trial"))]

    def lost(self, held: int) -> int:
        """How many trials of the finished run are gone, of which `held` are left; 0 of one that is not finished."""
        header = self.header
        trials = header.get("trials")
        return max(0, trials - held) if header.get("finished") and isinstance(trials, int) else 0


def _networks(suite: Suite) -> dict[str, str]:
    """The files of the user's networks that recipes name, and what tells their versions apart."""
    names = {case.network for case in suite.cases.values() if isinstance(case, Recipe) and ":" in case.network}
    files = {name.rpartition(":")[0]: file_of(name) for name in sorted(names)}
    return {place: digest_of(file) for place, file in files.items() if file is not None}


def described(settings: Mapping[str, Any]) -> str:
    """Settings in one line."""
    return (
        ", ".join(f"{key}={value}" for key, value in settings.items() if value not in (None, False, {})) or "defaults"
    )


def choose_folder(suite: str, output: Path | None, resume: bool) -> RunFolder:
    """The folder of a new run, or of the one to go on with: `output`, or the next, or last, `diag-runs/SUITE-NNN`.

    Raises: RunError if there is nothing to resume, or `output` holds a run and --resume was not asked for.
    """
    if output is not None:
        holds_run = (output / "run.json").is_file()
        if holds_run and not resume:
            raise RunError(f"{output} holds a run already: --resume goes on with it, or name another folder")
        if resume and not holds_run:
            raise RunError(f"--resume: {output} holds no run")
        return RunFolder(output)
    numbers = sorted(
        int(tail)
        for one in (DEFAULT_HOME.glob(f"{suite}-*") if DEFAULT_HOME.is_dir() else [])
        if (tail := one.name.removeprefix(f"{suite}-")).isdigit()
    )
    if resume:
        if not numbers:
            raise RunError(f"--resume: there is no run of '{suite}' in {DEFAULT_HOME}/")
        return RunFolder(DEFAULT_HOME / f"{suite}-{numbers[-1]:03}")
    return RunFolder(DEFAULT_HOME / f"{suite}-{(numbers[-1] if numbers else 0) + 1:03}")


def _commit(path: Path | None) -> str | None:
    """The commit of the working tree that the suite's file is in, with + where it has changes; None outside of one."""
    folder = path.parent if path is not None else Path.cwd()
    try:
        ask = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        found = subprocess.run(ask, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
