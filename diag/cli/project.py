"""The user's project: its settings, read before the training that they will judge."""

from __future__ import annotations

import sys


def use_settings() -> None:
    """Check the settings, and let the rules they name be imported from the project's folder.

    Raises: DiagError for malformed settings or an unknown threshold: now, and not after hours of training.
    """
    from diag.rules.thresholds import resolve
    from diag.settings import find_pyproject, load_settings

    settings = load_settings()
    resolve(settings["thresholds"])
    file = find_pyproject()
    if settings["rules"] and file is not None and str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
