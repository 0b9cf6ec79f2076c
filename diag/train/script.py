"""A training script run as it is, and watched."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diag.errors import TargetError, nearest
from diag.probe.probe import Probe
from diag.trace import Trace
from diag.train.keep import Keeper


@dataclass(frozen=True)
class ScriptOutcome:
    """How a watched script ended. exit_code: what the shell would have got. error: what it raised, in one line."""

    trace: Trace
    exit_code: int
    error: str | None
    interrupted: bool


def watch_script(
    script: Path, argv: list[str], *, steps: int | None = None, every: int = 1, trace: Path | None = None
) -> ScriptOutcome:
    """Run a script as `python script argv...` would, with every model that it trains watched.

    Its output, arguments, exceptions and exit code stay its own. steps: stop measuring, not the script, after so many.
    trace: where to write what was seen until then now and then, for a script that is killed.
    Raises: TargetError if the script is missing or cannot be read.
    """
    code = _compile(script)
    probe = Probe(discover=True, every=every, max_steps=steps)
    if trace is not None:
        Keeper(probe, trace)
    with _as_main(script, argv) as module, _terminated_as_exit():
        probe.start()
        failed = True
        try:
            exit_code, error, interrupted = _run(code, module)
            failed = error is not None or interrupted
            if error is not None and not interrupted:
                probe.break_off(error)
        finally:
            probe.stop(failed=failed)
    return ScriptOutcome(probe.trace(), exit_code, error, interrupted)


def _compile(script: Path) -> types.CodeType | None:
    if not script.is_file():
        near = sorted(p.name for p in script.parent.glob("*.py")) if script.parent.is_dir() else []
        raise TargetError(f"no script at {script}{nearest(script.name, near)}")
    try:
        return compile(script.read_bytes(), str(script), "exec")
    except OSError as error:
        raise TargetError(f"cannot read {script}: {error.strerror}") from None
    except (SyntaxError, ValueError):
        traceback.print_exc(limit=0)
        return None


def _run(code: types.CodeType | None, module: types.ModuleType) -> tuple[int, str | None, bool]:
    if code is None:
        return 1, "SyntaxError", False
    try:
        exec(code, module.__dict__)
    except SystemExit as stop:
        return _exit_code(stop), None, False
    except KeyboardInterrupt:
        return 130, "KeyboardInterrupt", True
    except BaseException as error:
        _print_theirs(error)
        return 1, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}", False
    return 0, None, False


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code
    sys.stderr.write(f"{stop.code}\n")
    return 1


def _print_theirs(error: BaseException) -> None:
    """Their traceback as Python prints it: without the frames that ran the script."""
    own = os.path.abspath(__file__)
    frames = error.__traceback__
    while frames is not None and os.path.abspath(frames.tb_frame.f_code.co_filename) == own:
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)


@contextlib.contextmanager
def _as_main(script: Path, argv: list[str]) -> Iterator[types.ModuleType]:
    """The surroundings a script expects: `__main__`, `sys.argv`, and its own folder first on the path."""
    module = types.ModuleType("__main__")
    module.__file__ = str(script)
    module.__dict__["__builtins__"] = __builtins__
    saved = sys.modules["__main__"], sys.argv, list(sys.path)
    sys.modules["__main__"] = module
    sys.argv = [str(script), *argv]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        yield module
    finally:
        sys.modules["__main__"], sys.argv, sys.path[:] = saved


@contextlib.contextmanager
def _terminated_as_exit() -> Iterator[None]:
    """A terminated script still reports: SIGTERM becomes an exit, unless the script handles it itself."""

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    try:
        before = signal.getsignal(signal.SIGTERM)
        if before is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, leave)
    except ValueError:
        # Only the main thread may handle signals.
        yield
        return
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is leave:
            signal.signal(signal.SIGTERM, before)
