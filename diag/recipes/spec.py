"""An ingredient as it is written in a recipe: a name, and options in parentheses: `leaky_relu(negative_slope=0.2)`."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from diag.errors import DiagError


class RecipeError(DiagError):
    """A recipe names what does not exist, or gives it what it does not take."""


@dataclass(frozen=True)
class Spec:
    """A name and its options. `str` gives the one way to write it: options sorted, by keyword."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        if not self.options:
            return self.name
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.options)})"


def parse_spec(text: str) -> Spec:
    """`name` or `name(option=literal, ...)`.

    Raises: RecipeError if it is written otherwise, or a number is infinite, which could not be written again.
    """
    wrong = RecipeError(
        f"{text!r} is not written as `name` or `name(option=value, ...)` with finite numbers, strings or tuples"
    )
    if not isinstance(text, str):
        raise wrong
    name, parenthesis, rest = text.partition("(")
    name = name.strip()
    if not name:
        raise wrong
    if not parenthesis:
        return Spec(name)
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
            raise wrong
        options = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords if one.arg}
        for value in options.values():
            ast.literal_eval(repr(value))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise wrong from None
    if len(options) != len(call.keywords):
        raise wrong
    return Spec(name, tuple(sorted(options.items(), key=lambda one: one[0])))
