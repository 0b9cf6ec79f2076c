"""What a model is called with, and where in a batch that stands."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from diag.prescribe.patient import MOST_MEASURED, Patient

DEEPEST = 3
"""Containers within containers that are looked into."""


@dataclass(frozen=True)
class Argument:
    """key: its position or its name. path: the keys that lead to it in a batch; None where the loss makes it."""

    key: int | str
    path: tuple[Any, ...] | None

    @property
    def code(self) -> str:
        """It, as an expression in a `batch`."""
        return "batch" + "".join(f"[{one!r}]" for one in self.path or ())

    def values(self, patient: Patient) -> torch.Tensor | None:
        """What it was in the first batches, in double precision; None where shapes differ or it is made in the loss."""
        if self.path is None:
            return None
        found = [_at(batch, self.path) for batch in patient.batches[:MOST_MEASURED]]
        if any(one.shape[1:] != found[0].shape[1:] for one in found):
            return None
        return torch.cat([one.detach().double().cpu() for one in found])


class Listener(nn.Module):
    """Stands in for a model, and keeps what its calls are given."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the model does it."""
        self.calls.append((args, kwargs))
        return self.model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """What it lacks is the model's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)


def arguments(patient: Patient) -> list[Argument] | None:
    """The floating tensors that the model's first call is given; None where it is given one thing, by position, or is
    not called."""
    with patient.fresh() as workload, contextlib.suppress(Exception):  # a loss may refuse any model but its own
        listener = Listener(workload.model)
        workload.loss(listener, patient.batches[0])
    calls = listener.calls
    if not calls or (len(calls[0][0]) == 1 and not calls[0][1]):
        return None
    places = list(_places(patient.batches[0]))
    found = []
    given: list[tuple[int | str, Any]] = [*enumerate(calls[0][0]), *calls[0][1].items()]
    for key, value in given:
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim > 0:
            found.append(Argument(key, next((path for path, one in places if _is_same(one, value)), None)))
    return found


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], torch.Tensor]]:
    """The tensors of a batch, and the keys that lead to them."""
    if isinstance(value, torch.Tensor):
        yield path, value
    elif len(path) < DEEPEST and isinstance(value, (Mapping, tuple, list)):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, one in items:
            yield from _places(one, (*path, key))


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    alike = (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
    return one is other or (alike and one.data_ptr() == other.data_ptr())


def _at(batch: Any, path: tuple[Any, ...]) -> torch.Tensor:
    for key in path:
        batch = batch[key]
    found: torch.Tensor = batch
    return found
