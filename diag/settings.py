"""What a user sets for a project: the table `[tool.diag]` of the nearest pyproject.toml."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

from diag.errors import DiagError, nearest

KEYS = {
    "rules": "a list of module names, imported for the rules they register",
    "thresholds": "a table of numbers by threshold name",
}
"""What `[tool.diag]` may hold. The names of thresholds are checked where thresholds are defined."""


def find_pyproject(folder: Path | None = None) -> Path | None:
    """The nearest pyproject.toml from `folder` (default: the working folder) upwards, or None."""
    start = (folder or Path.cwd()).resolve()
    return next((file for one in (start, *start.parents) if (file := one / "pyproject.toml").is_file()), None)


def load_settings(folder: Path | None = None) -> dict[str, Any]:
    """`{"rules": list of module names, "thresholds": {name: number}}`, empty where nothing is set.

    Raises: DiagError, naming file and key, if the file cannot be read, is no TOML, or holds what diag does not know.
    """
    settings: dict[str, Any] = {"rules": [], "thresholds": {}}
    file = find_pyproject(folder)
    if file is None:
        return settings
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DiagError(f"{file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DiagError(f"{file} is not valid TOML: {error}") from error
    tool = document.get("tool", {})
    table = tool.get("diag", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise DiagError(f"{file}: [tool.diag] must be a table, got {table!r}")
    for key, value in table.items():
        settings[key] = _valid(file, key, value)
    return settings


def _valid(file: Path, key: str, value: Any) -> Any:
    if key not in KEYS:
        raise DiagError(f"{file}: [tool.diag] knows no key '{key}'{nearest(key, KEYS)}; it has {', '.join(KEYS)}")
    if key == "rules":
        if not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            raise DiagError(f"{file}: [tool.diag] rules must be {KEYS[key]}, got {value!r}")
        return value
    if not isinstance(value, dict):
        raise DiagError(f"{file}: [tool.diag] thresholds must be {KEYS[key]}, got {value!r}")
    for name, number in value.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            raise DiagError(f"{file}: [tool.diag.thresholds] {name} must be a number, got {number!r}")
    return value
