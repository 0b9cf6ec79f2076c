"""The training of one recipe: steps, schedule, clipping, regularizers, validations, early stopping, divergence."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from diag.probe.probe import Probe
from diag.recipes import kinds
from diag.recipes.dataset import Batch, Dataset
from diag.recipes.recipe import Recipe
from diag.train.build import regularizers_of
from diag.train.curves import Curves
from diag.train.evaluate import batch_loss, evaluate
from diag.train.seeds import derived_seed

DIVERGED = 1e6
"""A training loss that is not finite, or so many times its start (or 1, if that is more), has diverged."""


@dataclass
class Fitted:
    """How a training went. best_step: after which step the model's weights were kept; the last one without early
    stopping."""

    curves: Curves = field(default_factory=Curves)
    steps: int = 0
    best_step: int = 0
    diverged: bool = False
    stopped_early: bool = False


def fit(
    model: nn.Module, recipe: Recipe, dataset: Dataset, seed: int, probe: Probe | None = None, validations: int = 20
) -> Fitted:
    """Train a model in place as its recipe says; the seed alone decides what is random.

    validations: how often, evenly spread over the steps, the validation part is looked at; once before the first step
    too. It ends early where the loss diverges, or early stopping says so, which then restores the best weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "training"))
        return _Fit(model, recipe, dataset, seed, probe, validations).run()


class _Fit:
    def __init__(
        self, model: nn.Module, recipe: Recipe, dataset: Dataset, seed: int, probe: Probe | None, validations: int
    ) -> None:
        self.model, self.recipe, self.dataset, self.probe = model, recipe, dataset, probe
        self.batches: Iterator[Batch] = dataset.batches(recipe.batch_size, derived_seed(seed, "batches"))
        self.regularizers = regularizers_of(recipe)
        self.parameters = [one for one in model.parameters() if one.requires_grad]
        self.optimizer: torch.optim.Optimizer = kinds.optimizer.resolve(recipe.optimizer)(self.parameters, recipe.lr)
        self.schedule: Any = kinds.schedule.resolve(recipe.schedule)(self.optimizer, max(1, recipe.steps))
        self.clip = None if recipe.clipping == "none" else kinds.clipping.resolve(recipe.clipping)
        self.patience = min((one.patience for one in self.regularizers if one.patience is not None), default=None)
        self.every = max(1, recipe.steps // max(1, validations))
        self.fitted = Fitted()
        self.best_loss, self.waited = math.inf, 0
        self.best_state: tuple[int, dict[str, Any]] | None = None
        self.first_loss = math.nan

    def run(self) -> Fitted:
        fitted = self.fitted
        self.model.train()
        if self.recipe.steps == 0:
            self._look()
            return fitted
        self._validate()
        for step in range(1, self.recipe.steps + 1):
            loss = self._step()
            fitted.steps = fitted.best_step = step
            fitted.curves.see_step(loss)
            if not math.isfinite(loss) or abs(loss) > DIVERGED * max(1.0, abs(self.first_loss)):
                fitted.diverged = True
                self._validate()
                break
            if (step % self.every == 0 or step == self.recipe.steps) and self._validate():
                fitted.stopped_early = step < self.recipe.steps
                break
        if self.best_state is not None:
            self.model.load_state_dict(self.best_state[1])
            fitted.best_step = self.best_state[0]
        return fitted

    def _look(self) -> None:
        """A network at initialization: one batch forward and backward, no step."""
        inputs, targets = next(self.batches)
        loss = batch_loss(self.dataset, self.model(inputs), targets)
        loss.backward()
        if self.probe is not None:
            self.probe.end_step(loss.detach())
        self._validate()

    def _step(self) -> float:
        inputs, targets = next(self.batches)
        self.optimizer.zero_grad()
        data_loss = batch_loss(self.dataset, self.model(inputs), targets)
        loss = data_loss
        for one in self.regularizers:
            if one.penalty is not None:
                loss = loss + one.penalty(self.model)
        loss.backward()
        if self.clip is not None:
            before = self._gradient_norm()
            self.clip(self.parameters)
            self.fitted.curves.see_gradient(before, self._gradient_norm())
        lr = float(self.optimizer.param_groups[0]["lr"])
        self.optimizer.step()
        with torch.no_grad():
            for one in self.regularizers:
                if one.after_step is not None:
                    one.after_step(self.model, lr)
        value = float(data_loss.detach())
        if self.probe is not None:
            self.probe.end_step(value)
        if self.schedule is not None and not isinstance(self.schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.schedule.step()
        if math.isnan(self.first_loss):
            self.first_loss = value
        return value

    def _gradient_norm(self) -> float:
        gradients = [one.grad for one in self.parameters if one.grad is not None]
        return float(nn.utils.get_total_norm(gradients)) if gradients else 0.0

    def _validate(self) -> bool:
        """Look at the validation part; whether to stop."""
        valid = evaluate(self.model, self.dataset, self.dataset.valid)
        self.fitted.curves.close(self.fitted.steps, self.optimizer, valid)
        loss = valid.get("loss", math.nan)
        if isinstance(self.schedule, torch.optim.lr_scheduler.ReduceLROnPlateau) and self.fitted.steps:
            self.schedule.step(loss)
        if self.patience is None:
            return False
        if loss < self.best_loss:
            self.best_loss, self.waited = loss, 0
            self.best_state = (self.fitted.steps, copy.deepcopy(self.model.state_dict()))
            return False
        self.waited += 1
        return self.waited >= self.patience
