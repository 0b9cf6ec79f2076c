"""The user's project: its settings, read before the training that they will judge."""

from __future__ import annotations


def use_settings() -> None:
    """Check the settings, and let the rules they name be imported from the project's folder.

    Raises: DiagError for malformed settings, an unknown threshold or rules that cannot be imported: now, and not after
        hours of training.
    """
    from diag.rules.thresholds import resolve
    from diag.settings import load_settings

    settings = load_settings()
    resolve(settings["thresholds"])
    if settings["rules"]:
        from diag.rules.registry import import_rules

        import_rules(settings["rules"])
