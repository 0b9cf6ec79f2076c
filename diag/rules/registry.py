"""The rules there are: a decorated function adds one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from diag.errors import DiagError
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding

Rule = Callable[[Evidence], Iterable[Finding]]

RULES: dict[str, Rule] = {}


def rule(name: str) -> Callable[[Rule], Rule]:
    """Register a rule: `@rule("my-rule") def my_rule(evidence): yield Finding("my-rule", ...)`.

    Raises: DiagError if another rule has the name.
    """

    def register(function: Rule) -> Rule:
        known = RULES.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
            raise DiagError(f"a rule named '{name}' exists already, in {known.__module__}: choose another name")
        RULES[name] = function
        return function

    return register
