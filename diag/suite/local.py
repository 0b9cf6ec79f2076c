"""The local engine: worker processes of one thread each, as many as cores.

Two threads in a small step wait for each other longer than they compute; two processes of one thread do twice the work.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diag.errors import DiagError
from diag.suite.engine import Event, record_file
from diag.suite.errors import SuiteError
from diag.suite.load import source_hash
from diag.suite.suite import Suite
from diag.suite.task import Task

ATTEMPTS = 3
"""How often a trial is begun whose worker dies; then it has failed: it may be what kills them."""


def default_jobs() -> int:
    """As many as this process may use cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalEngine:
    """Runs trials in `jobs` worker processes of this machine."""

    def __init__(self, jobs: int | None = None) -> None:
        if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1):
            raise SuiteError(f"jobs is a whole number from 1, got {jobs!r}")
        self.jobs = jobs or default_jobs()

    def run(self, suite: Suite, tasks: Sequence[Task], folder: Path, report: Callable[[Event], None]) -> None:
        """Run all tasks; as `Engine.run`. An interrupt ends the workers and is passed on."""
        todo: queue.SimpleQueue[tuple[Task, int]] = queue.SimpleQueue()
        events: queue.SimpleQueue[Event | BaseException | None] = queue.SimpleQueue()
        for task in tasks:
            todo.put((task, 1))
        header = {"source": suite.source, "path": str(suite.path), "hash": source_hash(suite.source)}
        workers = [_Worker(header, folder, todo, events) for _ in range(min(self.jobs, len(tasks)))]
        for worker in workers:
            worker.start()
        running = len(workers)
        try:
            while running:
                event = events.get()
                if event is None:
                    running -= 1
                elif isinstance(event, BaseException):
                    raise event
                else:
                    report(event)
        finally:
            for worker in workers:
                worker.stop()


class _Worker(threading.Thread):
    """A thread that feeds one worker process, and starts another in its place when it dies."""

    def __init__(self, header: dict[str, str], folder: Path, todo: Any, events: Any) -> None:
        super().__init__(daemon=True)
        self._header, self._folder, self._todo, self._events = header, folder, todo, events
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def run(self) -> None:
        try:
            while not self._stopped:
                try:
                    task, attempt = self._todo.get_nowait()
                except queue.Empty:
                    break
                self._events.put(Event("running", task))
                self._take(task, attempt)
        except BaseException as error:
            self._events.put(error)
        finally:
            self.stop()
            self._events.put(None)

    def _take(self, task: Task, attempt: int) -> None:
        answer = self._ask({**task.to_dict(), "file": str(record_file(self._folder, task))})
        if self._stopped:
            return
        if answer is None:
            code = self._discard()
            if attempt < ATTEMPTS:
                self._todo.put((task, attempt + 1))
                self._events.put(Event("lost", task))
            else:
                self._events.put(Event("failed", task, f"its worker process died {ATTEMPTS} times (exit code {code})"))
        elif answer["state"] == "unwritten":
            self._events.put(DiagError(f"{answer['error']}; what was done before is kept: --resume goes on from there"))
        else:
            self._events.put(Event(answer["state"], task, answer.get("error", ""), answer.get("traceback", "")))

    def _ask(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Send a task and wait for the answer; None if the worker dies over it."""
        try:
            if self._process is None:
                self._spawn()
            process = self._process
            if process is None or process.stdin is None or process.stdout is None:
                return None
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            return json.loads(line) if line.endswith("\n") else None
        except (OSError, ValueError):
            return None

    def _spawn(self) -> None:
        # Before torch is loaded: later its pools of threads have their sizes.
        threads = dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
        )
        with self._lock:
            if self._stopped:
                return
            self._process = subprocess.Popen(
                [sys.executable, "-m", "diag.suite.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(self._header) + "\n")

    def stop(self) -> None:
        """End the process, in the middle of a trial if need be: records are whole or not at all."""
        self._stopped = True
        self._discard()

    def _discard(self) -> int | None:
        """End the process and close its pipes; returns its exit code."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return process.wait()
