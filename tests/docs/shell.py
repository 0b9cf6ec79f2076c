"""Command lines run in a folder as a person's shell would run them."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import shlex
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

LONGEST = 600
"""Seconds until a command counts as hanging; the machines that run tests are busy."""
LOADED = ["torch._dynamo", "sklearn.datasets", "diag.cli.app", "diag.check", "diag.report.page", "diag.suite.run"]
BIN = Path(sys.executable).parent


@dataclass
class Shell:
    """Remembers the exit code for `$?`; of what else a shell remembers it keeps nothing from line to line.

    fresh: every `diag` is the command on PATH, a new process. Else it is `diag.cli.app.main`, and `python FILE` is the
    file run as `__main__`, in a process forked from one that has loaded torch already: most of a command's seconds are
    imports, and a document has dozens of commands.
    """

    folder: Path
    fresh: bool
    code: int = 0

    def run(self, line: str) -> str:
        """Run a line; returns what it wrote to stdout and stderr, in the order in which it was written."""
        log = self.folder.parent / f"{self.folder.name}.log"
        words = _words(line)
        if (
            words
            and not self.fresh
            and (words[0] == "diag" or (words[0] == "python" and words[1:2] and words[1].endswith(".py")))
        ):
            child = multiprocessing.get_context("forkserver").Process(
                target=_forked, args=(words, self.folder, log, self._environment())
            )
            child.start()
            child.join(LONGEST)
            child.kill()
            child.join()
            self.code = child.exitcode if child.exitcode is not None else -1
        else:
            with log.open("wb") as stream:
                self.code = subprocess.run(
                    ["sh", "-c", f"(exit {self.code}); {line}"],
                    cwd=self.folder, env=self._environment(), timeout=LONGEST,
                    stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
                ).returncode  # fmt: skip
        return log.read_text(encoding="utf-8")

    def _environment(self) -> dict[str, str]:
        """As on a plain machine of a user's; unbuffered, so that both streams mix as in a terminal."""
        own = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "PYTEST_", "COV_"))
        }
        return {**kept, **own}


def load() -> None:
    """Start the process that others are forked from, and let it import what the commands need."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(LOADED)


def _words(line: str) -> list[str] | None:
    """The words of one simple command, or None for what needs a shell: pipes, redirections, variables."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    return None if "$" in line or any(set(word) <= set("();<>|&") for word in words) else words


def _forked(words: list[str], folder: Path, log: Path, environment: dict[str, str]) -> None:
    """The body of a forked process: `diag ...` or `python FILE ...` in the folder, its output in the log."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    sys.stdout, sys.stderr = (os.fdopen(one, "w", buffering=1, encoding="utf-8", closefd=False) for one in (1, 2))
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)  # as Python itself does
    if words[0] == "diag":
        from diag.cli.app import main

        sys.argv = words
        main(words[1:])
    else:
        sys.argv = words[1:]
        sys.path.insert(0, str(folder))
        runpy.run_path(words[1], run_name="__main__")
