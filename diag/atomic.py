"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from diag.errors import DiagError


class WriteError(DiagError):
    """A file cannot be written where it was asked for."""


def write_text(path: str | Path, text: str) -> Path:
    """`write_bytes` of UTF-8 text.

    Raises: WriteError if the path is a folder or cannot be written.
    """
    return write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a file by way of a temporary one in the same folder, which is made if need be; return the path.

    A reader meets the old file or the new one, never half of one. A pipe or device is written as it is.

    Raises: WriteError if the path is a folder or cannot be written.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder; name a file in it")
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return path
        _replace(Path(os.path.realpath(path)), data)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise WriteError(f"cannot write {path}: {reason}") from None
    return path


def _replace(target: Path, data: bytes) -> None:
    """Fill a temporary file beside the target, then move it there with the mode a plain `open` would have given."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError("the file is read-only")
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:64]}.", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
