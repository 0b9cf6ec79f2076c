"""The modules that Lightning trains, in a file of their own, since loading it takes seconds and it may be missing."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as lightning
import torch

from tests.compat.loops import loss_of, network


class Automatic(lightning.LightningModule):
    """One optimizer, which Lightning steps with a closure."""

    def __init__(self, tell: list[Any]) -> None:
        super().__init__()
        self.net = network()
        type(self).tell = tell

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.tell[0]((batch[0], batch[1]))
        return loss_of(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.3, momentum=0.9)


class Manual(lightning.LightningModule):
    """Two optimizers that step after one backward pass; Lightning gives each a closure that does nothing."""

    def __init__(self, tell: list[Any]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = network()
        type(self).tell = tell

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.tell[0]((batch[0], batch[1]))
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss_of(self.net(batch[0]), batch[1]))
        for optimizer in optimizers:
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net[0].parameters(), 0.3), torch.optim.Adam(self.net[2].parameters(), 1e-2)
