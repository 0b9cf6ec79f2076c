"""Where the imports of a user's file are looked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def import_path(folder: Path) -> Iterator[None]:
    """First on the import path while the user's code loads; then last, so that what it imports later is still found."""
    entry = str(folder)
    already = entry in sys.path
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
        if not already:
            sys.path.append(entry)
