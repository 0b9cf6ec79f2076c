"""A training script run as it is, and watched."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from diag.errors import TargetError, nearest
from diag.probe.probe import Probe
from diag.trace import Trace
from diag.train.joined import Joined
from diag.train.keep import Keeper
from diag.train.leaving import Leaving
from diag.train.termination import Termination
from diag.train.user_code import shown


@dataclass(frozen=True)
class ScriptOutcome:
    """How a watched script ended. exit_code: what the shell would have got. error: what it raised, in one line.

    rank: which of several processes this is. silent: another one reports, and has been sent what was seen here.
    """

    trace: Trace
    exit_code: int
    error: str | None
    interrupted: bool
    rank: int = 0
    silent: bool = False


def watch_script(
    script: Path, argv: list[str], *, steps: int | None = None, every: int = 1, trace: Path | None = None
) -> ScriptOutcome:
    """Run a script as `python script argv...` would, with every model that it trains watched.

    Its output, arguments, exceptions and exit code stay its own. Where several ranks run it, as torchrun starts them,
    the trace of the first is of the whole. steps: stop measuring, not the script, after so many.
    trace: where to write what was seen until then now and then, for a script that is killed.
    Raises: TargetError if the script is missing or cannot be read.
    """
    code = _compile(script)
    probe = Probe(discover=True, every=every, max_steps=steps)
    keeper = None if trace is None else Keeper(probe, trace)
    leaving = Leaving(script, lambda: keeper is not None and keeper.keep())
    joined = Joined(probe)
    with _as_main(script, argv) as module, Termination(joined) as termination, joined, leaving:
        probe.start()
        failed = True
        try:
            exit_code, error, interrupted = _run(code, module, termination)
            if leaving.is_child:
                raise SystemExit(exit_code)
            failed = error is not None or interrupted
            if error is not None and not interrupted:
                probe.break_off(error)
        finally:
            probe.stop(failed=failed)
        joined.end(error or (f"exit code {exit_code}" if exit_code else None))
    return ScriptOutcome(probe.trace(), exit_code, error, interrupted, joined.rank, joined.silent)


def _compile(script: Path) -> types.CodeType | None:
    if not script.is_file():
        near = sorted(p.name for p in script.parent.glob("*.py")) if script.parent.is_dir() else []
        raise TargetError(f"no script at {script}{nearest(script.name, near)}")
    if script.suffix == ".ipynb":
        raise TargetError(
            f"{script} is a notebook, which diag watch does not run: make a script of it with 'jupyter nbconvert --to"
            " script', or use `with diag.watch(model)` in its cells"
        )
    try:
        return compile(script.read_bytes(), str(script), "exec", dont_inherit=True)
    except OSError as error:
        raise TargetError(f"cannot read {script}: {error.strerror}") from None
    except (SyntaxError, ValueError):
        traceback.print_exc(limit=0)
        return None


def _run(
    code: types.CodeType | None, module: types.ModuleType, termination: Termination
) -> tuple[int, str | None, bool]:
    if code is None:
        return 1, "SyntaxError", False
    try:
        with termination.script_runs():
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
    """Their traceback as Python prints it: without the frames that ran the script, and those of what watches it."""
    own = os.path.abspath(__file__)
    frames = error.__traceback__
    while frames is not None and os.path.abspath(frames.tb_frame.f_code.co_filename) == own:
        frames = frames.tb_next
    sys.stderr.write(shown(error, frames))


@contextlib.contextmanager
def _as_main(script: Path, argv: list[str]) -> Iterator[types.ModuleType]:
    """The surroundings a script expects: `__main__`, `sys.argv`, and its own folder first on the path."""
    module = types.ModuleType("__main__")
    module.__file__ = str(script)
    module.__dict__["__builtins__"] = __builtins__
    saved, folder = (sys.modules["__main__"], sys.argv, list(sys.path)), os.getcwd()
    sys.modules["__main__"] = module
    sys.argv = [str(script), *argv]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        yield module
    finally:
        sys.modules["__main__"], sys.argv, sys.path[:] = saved
        with contextlib.suppress(OSError):  # where reports are written is not for the script to say
            os.chdir(folder)
