"""`diag demo`: two networks on handwritten digits, one whose gradients vanish and one whose gradients hold."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder for the page.")] = Path("diag-demo"),
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Training steps of each network.")] = 100,
) -> None:
    """Diagnose a network that cannot learn, and its cure.

    Needs the extra `suites` (scikit-learn for its digits).
    """
    from rich.console import Console

    from diag.cli.progress import progress_bar
    from diag.demo import run_demo

    console = Console(width=None if sys.stdout.isatty() else 120)
    with progress_bar("demo") as progress:
        result = run_demo(output, steps, progress=progress)
    for diagnosis in result.diagnoses:
        verdict = "[green]healthy[/]" if diagnosis.healthy else "[red]not healthy[/]"
        console.print(f"[bold]{diagnosis.title}[/]: {verdict}", highlight=False)
        for finding in diagnosis.at_least("warning"):
            console.print(
                f"  {finding.severity}: {finding.rule} at {finding.site}: {finding.message}",
                markup=False,
                highlight=False,
            )
    console.print(result.table())
    console.print("The page with the pictures: ", end="")
    # Alone and unwrapped, so that it can be clicked and copied.
    console.print(str(result.page), style="bold", soft_wrap=True, markup=False, highlight=False)
    command = _command()
    console.print(
        f"For your own model:         {command} check path/to/model.py:build --html report.html\n"
        f"For your training script:   {command} watch --html report.html train.py",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


def _command() -> str:
    """How this program was called, so that the line that is shown works when it is copied."""
    called, found = Path(sys.argv[0]), shutil.which("diag")
    if called.name == "__main__.py":
        return "python -m diag"
    if found is not None and Path(found).resolve() == called.resolve():
        return "diag"
    return str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called)
