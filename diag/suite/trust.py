"""Which suite files may be executed to show a run: those the user has run, and those that come with diag.

A run's folder holds its suite's file, and to judge and draw the run that file is executed. A folder from a stranger
must not get that for the asking, so `diag run` notes what it ran, and only that is executed without `--trust`.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from diag.atomic import WriteError, write_text
from diag.suite.load import source_hash, suite_folders

MOST = 500
"""Files that are remembered."""


def notebook() -> Path:
    """Where it is noted: `$XDG_STATE_HOME/diag/suites.json`, by default in `~/.local/state`."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "diag" / "suites.json"


def remember(source: str, path: Path) -> None:
    """Note that the user ran this suite file. Where the note cannot be written, `--trust` will be asked for."""
    known = _known()
    if known.get(source_hash(source)) == str(path):
        return
    known[source_hash(source)] = str(path)
    with contextlib.suppress(WriteError):
        write_text(notebook(), json.dumps(dict(list(known.items())[-MOST:]), indent=1) + "\n")


def trusted_path(name: str, source: str) -> Path | None:
    """diag's own file of this suite, or where it lay when it was run; None for one that was never run here."""
    package = Path(__file__).resolve().parents[1]
    for folder in suite_folders():
        # Not the working folder's `suites/`: it may have come with the run.
        with contextlib.suppress(OSError, UnicodeDecodeError):
            own = folder / f"{name}.py"
            if folder.resolve().parent in (package, package.parent) and own.read_text(encoding="utf-8") == source:
                return own
    found = _known().get(source_hash(source))
    return Path(found) if found else None


def _known() -> dict[str, str]:
    try:
        content = json.loads(notebook().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else {}
