"""What a user's file meets while it loads: where its imports are looked for, and no arguments of ours."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def import_path(folder: Path) -> Iterator[None]:
    """First on the import path while the user's code loads; then last, so that what it imports later is still found.

    Arguments that the file reads as it is imported are its defaults: those of the command line are not meant for it.
    """
    entry, argv = str(folder), sys.argv
    already = entry in sys.path
    sys.path.insert(0, entry)
    sys.argv = argv[:1]
    try:
        yield
    finally:
        sys.argv = argv
        sys.path.remove(entry)
        if not already:
            sys.path.append(entry)
