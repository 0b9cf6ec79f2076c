"""Start some ranks, each a process of its own, and gather what they wrote."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def launch(module: str, world: int, folder: Path, *arguments: str, seconds: float = 90) -> list[dict[str, Any] | None]:
    """Run `python -m module FOLDER ...` as every rank; what each wrote to `FOLDER/RANK.json`, None for nothing."""
    port = str(free_port())
    # Several at once on few cores: without numba each starts seconds earlier, and its torch path is tested too.
    settings = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    settings |= {"DIAG_BACKEND": "torch"} if world > 2 else {}
    ranks = []
    for rank in range(world):
        command = [sys.executable, "-m", module, str(folder), *arguments]
        environment = {**os.environ, **settings, "RANK": str(rank)}
        with (folder / f"{rank}.txt").open("w") as output:
            ranks.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT))
    try:
        for one in ranks:
            one.wait(seconds)
    finally:
        for one in ranks:
            one.kill()
            one.wait()
    files = [folder / f"{rank}.json" for rank in range(world)]
    return [json.loads(one.read_text()) if one.exists() else None for one in files]


def launch_once(temporary: pytest.TempPathFactory, module: str, world: int) -> list[dict[str, Any]]:
    """The same for all tests of a run, also where pytest itself runs in several processes; one group at a time."""
    base = temporary.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / f"{module}-{world}"
    with FileLock(shared / "ranks.lock"):
        if folder.exists():
            files = [folder / f"{rank}.json" for rank in range(world)]
            found = [json.loads(one.read_text()) if one.exists() else None for one in files]
        else:
            folder.mkdir()
            found = launch(module, world, folder)
    for rank, one in enumerate(found):
        assert one is not None, (folder / f"{rank}.txt").read_text()
    return [one for one in found if one is not None]
