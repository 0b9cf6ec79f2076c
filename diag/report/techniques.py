"""What the techniques of a recipe are, and what suites measure of them: a formula, one paragraph and a source each."""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from diag.errors import DiagError, nearest
from diag.recipes.recipe import Recipe
from diag.recipes.spec import parse_spec

FILES = {
    "init": "inits",
    "activation": "activations",
    "norm": "norms",
    "optimizer": "optimizers",
    "schedule": "schedules",
    "clipping": "clipping",
    "regularizers": "regularizers",
    "start": "starts",
    "prediction": "predictions",
    "data": "data",
    "network": "networks",
}
"""A recipe's field -> the file in `canon/` that explains its ingredients, in the order in which reports do."""

_CONCEPT = "concept"
_ALIGNED = r'columnalign="(left|right)"'


@dataclass(frozen=True)
class Technique:
    """One technique. kind: the recipe's field, or "concept". latex: its formula, without dollars; "" for none."""

    kind: str
    name: str
    title: str
    text: str
    latex: str
    source: str

    @property
    def mathml(self) -> str:
        """The formula as a MathML element of its own line; "" for none."""
        if not self.latex:
            return ""
        from latex2mathml.converter import convert

        formula = convert(self.latex, display="block")
        # Chromium does not follow columnalign: it would center both sides of an equation and set them apart.
        return re.sub(_ALIGNED, r'\g<0> style="text-align:-webkit-\1;padding-inline:0"', formula)


def technique(kind: str, name: str) -> Technique | None:
    """The built-in ingredient of this name; None for a user's own. kind: one of FILES.

    Raises: KeyError for another kind.
    """
    return _explained(kind, FILES[kind]).get(name)


def concept(name: str) -> Technique:
    """What suites measure that is no ingredient, such as `saturation`.

    Raises: DiagError naming the nearest one for a name that is none.
    """
    known = _explained(_CONCEPT, "concepts")
    if name not in known:
        raise DiagError(f"no concept '{name}' is explained{nearest(name, known)}; there are {', '.join(known)}")
    return known[name]


def of_recipes(recipes: Iterable[Recipe]) -> list[Technique]:
    """The built-in ingredients in which recipes differ, or that are not a recipe's default; by kind, each once.

    Where recipes differ in a kind all of it are given, the default too. A user's own ingredients are left out.
    """
    several = list(recipes)
    found: list[Technique] = []
    for kind in FILES:
        specs = dict.fromkeys(spec for one in several for spec in _specs(one, kind))
        differ = len({getattr(one, kind) for one in several}) > 1
        names = dict.fromkeys(_name(kind, spec) for spec in specs if differ or spec != getattr(Recipe, kind))
        found += [known for name in names if (known := technique(kind, name)) is not None]
    return found


def _specs(recipe: Recipe, kind: str) -> tuple[str, ...]:
    value = getattr(recipe, kind)
    return value if isinstance(value, tuple) else (value,)


def _name(kind: str, spec: str) -> str:
    """Of an ingredient without its options; a user's network, `file.py:function`, as it is."""
    return spec if kind == "network" and ":" in spec else parse_spec(spec).name


@cache
def _explained(kind: str, file: str) -> dict[str, Technique]:
    path = importlib.resources.files("diag.report") / "canon" / f"{file}.toml"
    return {
        name: Technique(kind, name, **{key: " ".join(value.split()) for key, value in fields.items()})
        for name, fields in tomllib.loads(path.read_text(encoding="utf-8")).items()
    }
