"""stdout that fails: one line and exit code 2; a reader that has gone is no failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import sys
import torch

sys.stderr.write(f"{sys.stdout is None or type(sys.stdout).__module__}\\n")
print("epoch 1")
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    model(torch.ones(2, 3)).mean().backward()
    optimizer.step()
"""
full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
posix = pytest.mark.skipif(os.name != "posix", reason="needs a shell")


def shell(line: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A line of sh in which "$@" is the command diag with these arguments."""
    command = [sys.executable, "-m", "diag", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment.pop("PYTHONUNBUFFERED", None)
    return subprocess.run(["sh", "-c", line, "sh", *command], capture_output=True, text=True, env=environment)


@full
@pytest.mark.parametrize("arguments", [["list", "norms"], ["list", "--format", "json"], ["--version"], ["--help"]])
def test_a_full_disk(arguments: list[str]) -> None:
    result = shell('"$@" > /dev/full', *arguments)
    assert (result.returncode, result.stderr) == (2, "diag: error: cannot write to stdout: No space left on device\n")


@posix
@pytest.mark.parametrize("arguments", [["list", "norms"], ["list", "--format", "json"]])
def test_closed(arguments: list[str]) -> None:
    result = shell('"$@" >&-', *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("diag: error: stdout is closed: ") and len(result.stderr.splitlines()) == 1


@posix
@pytest.mark.parametrize("arguments", [["list"], ["--version"]])
def test_a_reader_that_has_gone(arguments: list[str]) -> None:
    result = shell('(sleep 0.1; "$@"; echo $? >&2) | true', *arguments)
    assert result.stderr == "1\n"


@posix
@pytest.mark.parametrize("redirected", [">&-", "> /dev/full"])
def test_a_watched_script_meets_stdout_as_it_is(redirected: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    result = shell(f'"$@" {redirected}', "watch", "--fail-on", "never", tmp_path / "train.py")
    first, *rest = result.stderr.splitlines()
    assert first == ("True" if redirected == ">&-" else "_io")
    assert "Traceback" not in result.stderr
    # Closed, stdout is None, to which print says nothing; of a full disk the script's own line was lost.
    assert (result.returncode, rest[-1].startswith("diag: error")) == ((0, False) if redirected == ">&-" else (2, True))


def test_stdout_is_afterwards_what_it_was(run: Any) -> None:
    before = sys.stdout
    run("list", "norms")
    assert sys.stdout is before
