"""A worker process: `python -m diag.suite.worker` reads tasks as lines of JSON and answers each with one.

What the user's code prints goes to stderr; the answers have a descriptor of their own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any


def main() -> None:
    """First line: the suite's source, path and hash. Then a task a line; the record goes to the file it names."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    # Ctrl-C in a terminal reaches every process of it: when to end is the parent's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    header = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line), header)) + "\n")
        answers.flush()


def _end_with(parent: int) -> None:
    """A parent that was killed cannot end its workers: they notice that they have another one."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _answer(message: dict[str, Any], header: dict[str, str]) -> dict[str, Any]:
    from diag.atomic import WriteError, write_bytes
    from diag.suite.task import Task, execute

    file = Path(message.pop("file"))
    try:
        data = execute(Task(**message), header["source"], header["path"], header["hash"])
    except Exception as error:
        return {"state": "failed", "error": described(error), "traceback": traceback.format_exc()}
    try:
        write_bytes(file, data)
    except WriteError as error:
        return {"state": "unwritten", "error": str(error)}
    return {"state": "done"}


def described(error: BaseException) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


if __name__ == "__main__":
    main()
