"""What is known of every closed step, measured or not."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

_CODES = {
    "step": "q",
    "loss": "d",
    "loss_known": "b",
    "lr": "d",
    "optimizer": "q",
    "backward_passes": "q",
    "batch": "q",
}


class Steps:
    """A row per step, in columns: of a long run, objects would be most of what stays in memory."""

    def __init__(self) -> None:
        self._columns: dict[str, array[Any]] = {name: array(code) for name, code in _CODES.items()}

    def __len__(self) -> int:
        return len(self._columns["step"])

    def append(self, **row: float) -> None:
        """Add a step: a number for each of `_CODES`."""
        for name, column in self._columns.items():
            column.append(row[name])

    def get(self, step: int, name: str) -> Any:
        """One number of a step."""
        return self._columns[name][step]

    def know_loss(self, step: int, loss: float) -> None:
        """Give a step the loss that was learned of later."""
        self._columns["loss"][step], self._columns["loss_known"][step] = loss, 1

    def set_batch(self, step: int, batch: int) -> None:
        """Give a step the number of its batch."""
        self._columns["batch"][step] = batch

    def losses(self, since: int) -> list[float | None]:
        """The loss of every step from this one on; None where it is not known."""
        pairs = zip(self._columns["loss"][since:], self._columns["loss_known"][since:], strict=True)
        return [loss if known else None for loss, known in pairs]

    def columns(self) -> dict[str, np.ndarray]:
        """Every column, copied."""
        found = {name: np.array(column) for name, column in self._columns.items()}
        return found | {"loss_known": found["loss_known"].astype(bool)}
