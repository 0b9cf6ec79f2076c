"""The Ray engine: the same trials on a Ray cluster, of one machine or of many. Needs the extra `ray`."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diag.atomic import WriteError, write_bytes
from diag.errors import DiagError, MissingExtraError
from diag.suite.engine import Event, record_file
from diag.suite.errors import SuiteError
from diag.suite.load import source_hash
from diag.suite.local import default_jobs
from diag.suite.suite import Suite
from diag.suite.task import Task, execute
from diag.suite.worker import described

RETRIES = 3
"""How often a trial is begun again whose worker, or its machine, is lost."""


class RayEngine:
    """Runs trials as Ray tasks of one core each.

    address: of a cluster, `host:6379` or `ray://host:10001`; None takes RAY_ADDRESS, or starts Ray on this machine.
    The suite's file travels as text; diag must be installed on every machine, in the same version.

    Raises: MissingExtraError without Ray; DiagError if the cluster cannot be reached.
    """

    def __init__(self, address: str | None = None, jobs: int | None = None) -> None:
        self._address = address or os.environ.get("RAY_ADDRESS") or None
        if self._address is not None:
            _require_listener(self._address)
            _use_token()
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("ray", "ray", "--engine ray") from error
        self._ray: Any = ray
        self._jobs = jobs
        self._started = False

    def _connect(self) -> None:
        if self._ray.is_initialized():
            return
        # What Ray would report of its use, to whomever, is not ours to send.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray 2.60 warns of a change to come in how it hides GPUs; there is nothing for a user to do.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if self._address is None:
            options |= {"num_cpus": self._jobs or default_jobs(), "include_dashboard": False}
        try:
            self._ray.init(address=self._address, **options)
        except Exception as error:
            raise _unreachable(self._address, described(error)) from None
        self._started = True

    def run(self, suite: Suite, tasks: Sequence[Task], folder: Path, report: Callable[[Event], None]) -> None:
        """Run all tasks; as `Engine.run`. Ray begins a trial again whose worker was lost."""
        self._connect()
        try:
            self._run(suite, tasks, folder, report)
        finally:
            if self._started:
                self._ray.shutdown()
                self._started = False

    def _run(self, suite: Suite, tasks: Sequence[Task], folder: Path, report: Callable[[Event], None]) -> None:
        ray = self._ray
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(_remote)
        text = ray.put((suite.source, str(suite.path), source_hash(suite.source)))
        waiting: dict[Any, Task] = {}
        for task in tasks:
            waiting[remote.remote(task.to_dict(), text)] = task
            report(Event("running", task))
        try:
            while waiting:
                done, _ = ray.wait(list(waiting), num_returns=1)
                for reference in done:
                    task = waiting.pop(reference)
                    report(self._fetched(reference, task, folder))
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)

    def _fetched(self, reference: Any, task: Task, folder: Path) -> Event:
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Event("failed", task, f"its worker was lost {RETRIES + 1} times: {described(error)}")
        if answer["state"] == "failed":
            if answer["kind"] == "SuiteError":
                raise SuiteError(answer["error"])
            return Event("failed", task, answer["error"], answer["traceback"])
        try:
            write_bytes(record_file(folder, task), answer["data"])
        except WriteError as error:
            raise DiagError(f"{error}; what was done before is kept: --resume goes on from there") from None
        return Event("done", task)


def _use_token() -> None:
    """Recent Rays protect a cluster by a token, but send one only where this is said before Ray is loaded."""
    places = (os.environ.get("RAY_AUTH_TOKEN_PATH", ""), Path.home() / ".ray" / "auth_token")
    if "RAY_AUTH_TOKEN" in os.environ or any(Path(one).is_file() for one in places):
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _require_listener(address: str) -> None:
    """Ray tries for minutes to reach a cluster that is not there: whether anything listens is known at once.

    Raises: DiagError if nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address in ("auto", "local"):
        return
    if not host or not port.isdigit():
        raise DiagError(f"--address is `host:6379`, `ray://host:10001` or `auto`, got '{address}'")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from None


def _unreachable(address: str | None, why: str) -> DiagError:
    where = f"the Ray cluster at '{address}'" if address else "Ray on this machine"
    return DiagError(
        f"{where} cannot be reached: {why}; start one with `ray start --head`, and give its address with --address or "
        "RAY_ADDRESS"
    )


def _remote(task: dict[str, Any], suite: tuple[str, str, str]) -> dict[str, Any]:
    """Runs on the cluster. What fails is returned and not raised: an exception of the user's may not travel."""
    import traceback

    try:
        return {"state": "done", "data": execute(Task(**task), *suite)}
    except Exception as error:
        kind = type(error).__name__
        return {"state": "failed", "kind": kind, "error": described(error), "traceback": traceback.format_exc()}
