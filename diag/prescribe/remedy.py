"""Remedies, each a few lines of code, and the families that propose them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diag.errors import DiagError
from diag.prescribe.snippet import Snippet, is_import, snippet
from diag.train.workload import Workload

if TYPE_CHECKING:
    from diag.prescribe.patient import Patient

SIGNAL = (
    "vanishing-gradient",
    "exploding-gradient",
    "exploding-activation",
    "collapsed-signal",
    "saturated-activation",
    "dead-units",
)
"""The rules whose pathologies lie in how signals pass through the network."""
STEP = ("oversized-update", "diverging-loss", "non-finite")
"""The rules whose pathologies a smaller or other step may end."""
SLOW = ("stalled-update", "loss-not-decreasing", "unrelated-targets")


@dataclass(frozen=True)
class Remedy:
    """A change to a training. What is printed is what is tried: `apply` runs `code`.

    change: one sentence. code: lines on `model`, `optimizer`, `loss` and `batches`, which may set the first two anew.
    answers: the rules that it may cure. direct: whether what it mends was itself seen, such as an option that is wrong.
    surgery: whether it changes more than parameters, optimizer and loss, so that it needs a copy of the model.
    place: when its code runs among others'. parts: of how many changes it is made. loss: the name of the loss after it;
    one of its own, for in a function that sets `loss` nothing could read a `loss` from outside.
    """

    name: str
    family: str
    change: str
    code: str
    answers: tuple[str, ...]
    direct: bool = False
    surgery: bool = False
    place: int = 0
    parts: int = 1
    loss: str = "loss"

    @property
    def snippet(self) -> Snippet:
        """Its code in the parts in which it is pasted."""
        return snippet(self.code)

    def apply(self, workload: Workload) -> Workload:
        """Run the code on a workload, which is changed, and return what it has become.

        Raises: whatever the code raises where the model is not as it expects.
        """
        names: dict[str, Any] = {"__name__": "diag_remedy", "model": workload.model, "optimizer": workload.optimizer}
        names |= {"loss": workload.loss, "batches": workload.batches}
        exec(compile(self.code, f"<remedy: {self.name}>", "exec", dont_inherit=True), names)
        return Workload(names["model"], names["batches"], names[self.loss], names["optimizer"])


@dataclass(frozen=True)
class Advice:
    """A remedy that was not tried, and why not."""

    name: str
    change: str
    why: str
    code: str = ""


Family = Callable[["Patient"], Iterable[Remedy | Advice]]
FAMILIES: dict[str, Family] = {}


def family(name: str) -> Callable[[Family], Family]:
    """Register a family of remedies: a function from a patient to what may help it.

    Raises: DiagError if another family has the name.
    """

    def register(function: Family) -> Family:
        known = FAMILIES.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
            raise DiagError(f"a family of remedies named '{name}' exists already: choose another name")
        FAMILIES[name] = function
        return function

    return register


def combined(first: Remedy, second: Remedy) -> Remedy:
    """Both, one after the other, as their places say; the second calls the loss that the first makes."""
    one, other = sorted((first, second), key=lambda remedy: remedy.place)
    return Remedy(
        name=f"{one.name} + {other.name}",
        family="combination",
        change=f"{one.change.rstrip('.')}; and {other.change[0].lower()}{other.change[1:]}",
        code=joined(one.code, re.sub(r"\bloss\(", f"{one.loss}(", other.code)),
        answers=tuple(dict.fromkeys((*first.answers, *second.answers))),
        surgery=first.surgery or second.surgery,
        place=other.place,
        parts=first.parts + second.parts,
        loss=one.loss if other.loss == "loss" else other.loss,
    )


def joined(one: str, other: str) -> str:
    """Two pieces of code as one, what they import on top and once."""
    lines = [*one.splitlines(), "", *other.splitlines()]
    imports = dict.fromkeys(line for line in lines if is_import(line))
    rest = "\n".join(line for line in lines if line not in imports).strip()
    rest = re.sub(r"\n{3,}(?!class |def )", "\n\n", rest)
    return "\n".join([*sorted(imports, reverse=True), *([""] if imports else []), rest, ""])
