"""The user's project: its settings, read before the training that they will judge."""

from __future__ import annotations

import sys


def use_settings() -> None:
    """Check the settings, and let the rules they name be imported from the project's folder.

    Raises: DiagError for malformed settings, an unknown threshold or rules that cannot be imported: now, and not after
        hours of training.
    """
    from diag.rules.thresholds import resolve
    from diag.settings import find_pyproject, load_settings

    settings = load_settings()
    resolve(settings["thresholds"])
    file = find_pyproject()
    if not settings["rules"]:
        return
    from diag.rules.registry import import_rules

    if file is not None and str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    import_rules(settings["rules"])
