"""A recipe: a training configuration by names and numbers, to be compared, stored and sent to another machine."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from diag.errors import nearest
from diag.recipes import kinds
from diag.recipes.registry import Registry
from diag.recipes.spec import RecipeError

_NAMED: dict[str, Registry] = {
    "data": kinds.data,
    "network": kinds.network,
    "init": kinds.init,
    "activation": kinds.activation,
    "norm": kinds.norm,
    "optimizer": kinds.optimizer,
    "schedule": kinds.schedule,
    "clipping": kinds.clipping,
    "start": kinds.start,
    "prediction": kinds.prediction,
}


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how. Every ingredient is a name, or a name with options: `"momentum(momentum=0.95)"`.

    `diag list` names what there is. `network` may also be a function of yours, `module:function` or `file.py:function`,
    that takes any of inputs, outputs, depth, width, activation, norm and dropout and returns a module.
    depth: hidden layers or blocks. width: units, channels or features of each. steps: optimizer steps; 0 measures the
    network at initialization.

    Raises: RecipeError for a name, option or number that cannot be, with the nearest valid one.
    """

    data: str = "digits"
    network: str = "mlp"
    depth: int = 3
    width: int = 64
    init: str = "default"
    activation: str = "relu"
    norm: str = "none"
    optimizer: str = "sgd"
    lr: float = 0.1
    schedule: str = "constant"
    clipping: str = "none"
    regularizers: tuple[str, ...] = ()
    start: str = "scratch"
    prediction: str = "plain"
    batch_size: int = 64
    steps: int = 300

    def __post_init__(self) -> None:
        for field, registry in _NAMED.items():
            value = getattr(self, field)
            if not (field == "network" and isinstance(value, str) and ":" in value):
                self._set(field, str(registry.check(value)))
        given: Any = self.regularizers
        several = (given,) if isinstance(given, str) else given
        if not isinstance(several, (list, tuple)):
            raise RecipeError(f"regularizers is a list of names, got {given!r}")
        self._set("regularizers", tuple(str(kinds.regularizer.check(one)) for one in several))
        for field, least in (("depth", 0), ("width", 1), ("batch_size", 1), ("steps", 0)):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                raise RecipeError(f"a recipe's {field} is a whole number from {least}, got {value!r}")
            self._set(field, int(value))  # numpy's numbers are welcome, but JSON does not know them
        lr: Any = self.lr
        if isinstance(lr, bool) or not isinstance(lr, Real) or not 0 <= float(lr) < math.inf:
            raise RecipeError(f"a recipe's lr is a finite number from 0, got {lr!r}")
        self._set("lr", float(lr))

    def _set(self, field: str, value: Any) -> None:
        object.__setattr__(self, field, value)

    def but(self, **changes: Any) -> Recipe:
        """The same recipe with some fields changed.

        Raises: RecipeError for a field that a recipe does not have.
        """
        check_fields(changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**dataclasses.asdict(self), "regularizers": list(self.regularizers)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_dict` wrote.

        Raises: RecipeError for a field that a recipe does not have.
        """
        check_fields(values)
        return cls(**values)


FIELDS = tuple(field.name for field in dataclasses.fields(Recipe))


def check_fields(names: Mapping[str, Any]) -> None:
    """Raises: RecipeError, naming the nearest field, for a name that is none."""
    for name in names:
        if name not in FIELDS:
            raise RecipeError(f"a recipe has no field '{name}'{nearest(name, FIELDS)}; it has {', '.join(FIELDS)}")
