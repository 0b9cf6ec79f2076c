"""The rules there are: a decorated function adds one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence

from diag.errors import DiagError
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.settings import find_pyproject

Rule = Callable[[Evidence], Iterable[Finding]]

RULES: dict[str, Rule] = {}


def rule(name: str) -> Callable[[Rule], Rule]:
    """Register a rule: `@rule("my-rule") def my_rule(evidence): yield Finding("my-rule", ...)`.

    Raises: DiagError if another rule has the name, or what it is given is no name, or no function.
    """
    if not isinstance(name, str):
        raise DiagError(f"a rule is registered by its name, @diag.rule('my-rule'), got {name!r}")

    def register(function: Rule) -> Rule:
        if not callable(function):
            raise DiagError(f"the rule '{name}' is a function of the evidence, got {function!r}")
        known = RULES.get(name)
        if known is not None and _place(known) != _place(function):
            raise DiagError(f"a rule named '{name}' exists already, in {_place(known)[0]}: choose another name")
        RULES[name] = function
        return function

    return register


def import_rules(names: Sequence[str]) -> None:
    """Import the modules that `[tool.diag] rules` names, for the rules that they register; they may lie beside the
    pyproject.toml that names them.

    Raises: DiagError for one that cannot be imported, in one line.
    """
    file = find_pyproject() if names else None
    if file is not None and str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    for name in names:
        try:
            importlib.import_module(name)
        except DiagError:
            raise
        except (Exception, SystemExit) as error:
            what = f"{type(error).__name__}: {error}"
            raise DiagError(f"[tool.diag] rules names '{name}', which cannot be imported: {what}") from error


def _place(function: Rule) -> tuple[str, str]:
    """Where a rule is defined, and as what; of an object that is called its class's."""
    owner = function if hasattr(function, "__qualname__") else type(function)
    return str(owner.__module__), str(owner.__qualname__)
