"""A gallery of answers: one folder per suite, and a page that links them and shows each one's key picture."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from diag.atomic import write_bytes, write_text
from diag.gate.baseline import make_baseline
from diag.gate.metrics import GateError
from diag.report.run.document import Document, counted, document
from diag.report.run.files import write_markdown
from diag.report.run.markdown import text
from diag.suite.errors import RunError
from diag.suite.run import Run, open_run


def write_gallery(runs: Sequence[Path], folder: Path, *, trust: bool = False) -> Path:
    """Write `SUITE/report.md`, its figures, `verdicts.json` and `baseline.json` for each run, and `README.md`.

    Suites that are in the folder already and in none of the runs stay, and stay linked; a suite that trains nothing has
    no baseline. Returns the README's path. Raises: RunError for a run that cannot be read, or is unfinished; WriteError
    if the folder cannot be written.
    """
    for path in runs:
        run = open_run(path, trust=trust)
        content = document(run)
        if content.unfinished or not (path / "verdicts.json").is_file():
            raise RunError(f"{path} is unfinished: a gallery holds the answers of whole runs; --resume it first")
        _write_one(run, content, folder / run.suite.name)
    return write_text(folder / "README.md", _index(folder))


def _write_one(run: Run, content: Document, folder: Path) -> None:
    write_markdown(content, folder)
    write_bytes(folder / "verdicts.json", (run.folder / "verdicts.json").read_bytes())
    with contextlib.suppress(GateError):
        write_text(folder / "baseline.json", make_baseline(run.folder).to_json())
    link = quote(content.suite)
    lines = [f"## [{text(content.suite)}]({link}/report.md): {text(content.question)}", ""]
    lines += ["From a run with `--quick`: few steps and seeds.", ""] if content.quick else []
    lines += [text(content.answer), "", counted(content.claims), ""]
    for first in content.pictures[:1]:
        lines += [f"![{text(first.caption)}]({link}/figures/{first.name}.svg)", ""]
    write_text(folder / "summary.md", "\n".join(lines))


def _index(folder: Path) -> str:
    summaries = sorted(folder.glob("*/summary.md"))
    found = "What the suites found, each from a full run unless it says otherwise. `make reports` makes them again."
    lines = ["# Reports", "", found, ""]
    return "\n".join([*lines, *(one.read_text(encoding="utf-8") for one in summaries)])
