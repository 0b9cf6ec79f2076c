"""The ingredients there are, by kind and name: a decorated function adds one."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from diag.errors import nearest
from diag.recipes.spec import RecipeError, Spec, parse_spec

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """One ingredient. options: name -> default, the keyword-only parameters of the function that builds it."""

    kind: str
    name: str
    build: Callable[..., Any]
    summary: str
    source: str
    options: dict[str, Any]


class Registry:
    """All ingredients of one kind. As a decorator, `@activation("name", source="...")`, it adds a function.

    The function's keyword-only parameters, which have defaults, are the options a recipe may give. Its first
    docstring line is what `diag list` shows.
    """

    def __init__(self, kind: str, plural: str, home: str) -> None:
        self.kind, self.plural, self._home = kind, plural, home
        self._entries: dict[str, Entry] = {}

    def __call__(self, name: str, *, source: str = "") -> Callable[[F], F]:
        """Add the decorated function under a name.

        Raises: RecipeError if the name is taken by another function, or an option has no default.
        """

        def register(function: F) -> F:
            known = self._entries.get(name)
            if known is not None and _identity(known.build) != _identity(function):
                raise RecipeError(f"the {self.kind} '{name}' exists already, in {known.build.__module__}")
            options = {}
            for one in inspect.signature(function).parameters.values():
                if one.kind is one.KEYWORD_ONLY:
                    if one.default is one.empty:
                        raise RecipeError(f"the option '{one.name}' of the {self.kind} '{name}' needs a default")
                    options[one.name] = one.default
            summary = (inspect.getdoc(function) or "").partition("\n")[0]
            self._entries[name] = Entry(self.kind, name, function, summary, source, options)
            return function

        return register

    def entries(self) -> list[Entry]:
        """All of them, in the order in which they were added."""
        importlib.import_module(self._home)
        return list(self._entries.values())

    def names(self) -> list[str]:
        """Their names."""
        return [one.name for one in self.entries()]

    def check(self, text: str) -> Spec:
        """The spec that `text` writes, its name and options known; `1` for an option that is a float becomes `1.0`.

        Raises: RecipeError naming the nearest valid name or option.
        """
        spec = parse_spec(text)
        entry = self.entry(spec.name)
        options = []
        for option, value in spec.options:
            if option not in entry.options:
                takes = ", ".join(entry.options) or "none"
                raise RecipeError(
                    f"the {self.kind} '{spec.name}' has no option '{option}'{nearest(option, entry.options)}; "
                    f"it takes {takes}"
                )
            what = f"the option '{option}' of the {self.kind} '{spec.name}'"
            options.append((option, _as_default(what, value, entry.options[option])))
        return Spec(spec.name, tuple(options))

    def entry(self, name: str) -> Entry:
        """One ingredient.

        Raises: RecipeError naming the nearest valid name.
        """
        self.entries()
        if name not in self._entries:
            raise RecipeError(
                f"no {self.kind} '{name}'{nearest(name, self._entries)}; there are {', '.join(self._entries)}"
            )
        return self._entries[name]

    def resolve(self, text: str) -> Callable[..., Any]:
        """The function that `text` names, with its options bound.

        Raises: RecipeError as `check` does.
        """
        spec = self.check(text)
        return functools.partial(self._entries[spec.name].build, **dict(spec.options))


def _identity(function: Callable[..., Any]) -> tuple[str, str]:
    """A suite file may be loaded twice in one process: the same place in the same module is the same function."""
    return function.__module__, function.__qualname__


_TYPES = {bool: "True or False", int: "a whole number", float: "a number", str: "a string", tuple: "a tuple"}


def _as_default(what: str, value: Any, default: Any) -> Any:
    """The value, if it is of the default's type; a default of None takes anything."""
    if default is None or type(value) is type(default):
        return value
    if type(default) is float and type(value) is int:
        return float(value)
    kind = _TYPES.get(type(default), f"a {type(default).__name__}")
    raise RecipeError(f"{what} is {kind}, such as {default!r}; got {value!r}")
