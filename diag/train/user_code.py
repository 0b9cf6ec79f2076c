"""Running what the user wrote: whatever it raises becomes one line, with their part of the traceback."""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from diag.errors import DiagError, TargetError

_OURS = str(Path(__file__).resolve().parents[1]) + os.sep
_MODULE = os.path.join("torch", "nn", "modules", "module.py")
_CALLERS = ("_wrapped_call_impl", "_call_impl", "inner")
"""Functions of torch by which a module is called, hooks included."""


class UserCodeError(TargetError):
    """The user's own code failed: `user_traceback` is their part of the traceback, to be shown before the message."""

    def __init__(self, message: str, user_traceback: str) -> None:
        super().__init__(message)
        self.user_traceback = user_traceback


@contextmanager
def user_code(doing: str, file: str | None = None) -> Iterator[None]:
    """Run the user's code. doing: what is being done, for the message; file: where their part of the traceback starts.

    Raises: UserCodeError for whatever the code raises, TargetError if it ends the program.
    """
    try:
        yield
    except (DiagError, StopIteration):
        raise
    except SystemExit as error:
        raise TargetError(
            f"{doing} ended the program (sys.exit({error.code!r})): put what a script does under "
            "`if __name__ == '__main__':`, or use `diag watch` for the script as it is"
        ) from error
    except Exception as error:
        last = "".join(traceback.format_exception_only(error)[-1:]).strip()
        raise UserCodeError(f"{doing} failed: {last.splitlines()[0]}", their_traceback(error, file)) from error


def their_traceback(error: BaseException, file: str | None = None) -> str:
    """The traceback of `error` without the frames above the user's code: ours and the import machinery's."""
    entry = error.__traceback__
    while entry is not None:
        frame = entry.tb_frame.f_code.co_filename
        if frame == file or not (frame.startswith(("<frozen importlib", _OURS)) or frame == importlib.__file__):
            break
        entry = entry.tb_next
    return shown(error, entry)


def shown(error: BaseException, entry: TracebackType | None) -> str:
    """A traceback from `entry` on as it would be unwatched: without our hooks and what calls them."""
    told = traceback.TracebackException(type(error), error, entry)
    _leave_out(told, set())
    return "".join(told.format())


def _leave_out(told: traceback.TracebackException, seen: set[int]) -> None:
    if id(told) in seen:
        return
    seen.add(id(told))
    theirs = [one for one in told.stack if not _is_ours(one)]
    told.stack = traceback.StackSummary.from_list(theirs)
    for other in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())):
        if other is not None:
            _leave_out(other, seen)


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(_OURS) or (frame.filename.endswith(_MODULE) and frame.name in _CALLERS)
