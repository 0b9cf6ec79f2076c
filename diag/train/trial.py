"""One trial: a recipe trained with one seed, watched, and measured."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import nn

from diag.probe.environment import describe_environment
from diag.probe.probe import Probe
from diag.recipes import kinds
from diag.recipes.dataset import Dataset
from diag.recipes.recipe import Recipe
from diag.recipes.start_job import StartJob
from diag.trace import Trace
from diag.train.build import build_model, load_dataset
from diag.train.evaluate import evaluate
from diag.train.fit import Fitted, fit
from diag.train.seeds import derived_seed

Measured = Mapping[str, "float | pd.DataFrame"]
"""Numbers become metrics, data frames tables, by their names."""


@dataclass
class Outcome:
    """What a trial gave. timing, in seconds, and environment differ from run to run; metrics and tables do not."""

    metrics: dict[str, float] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def add(self, measured: Measured) -> None:
        """Take in what a measure or an experiment returned.

        Raises: TypeError for what is neither a number nor a data frame.
        """
        for name, value in measured.items():
            if isinstance(value, pd.DataFrame):
                self.tables[name] = value
            else:
                self.metrics[name] = float(value)


@dataclass(frozen=True)
class Session:
    """What a measure sees after the training: the trained model, and the trace of the steps that were watched."""

    recipe: Recipe
    seed: int
    dataset: Dataset
    model: nn.Module
    trace: Trace
    fitted: Fitted

    def batch(self, size: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """A training batch that the training did not begin with, the same for the same seed."""
        return next(self.dataset.batches(size or self.recipe.batch_size, derived_seed(self.seed, "measure")))


Measure = Callable[[Session], Measured]


def run_recipe(
    recipe: Recipe, seed: int, *, looks: int = 5, validations: int = 20, measures: Sequence[Measure] = ()
) -> Outcome:
    """Train a recipe with one seed and measure it; deterministic for the seed on one machine and thread.

    Args: looks: how many steps, evenly spread from the first, the probe measures; 0 for none. validations: as in `fit`.
        measures: called with the session when the training is over.
    Returns metrics: train_, valid_ and test_loss and _accuracy of the weights that were kept (best if early stopping),
        best_valid_loss, steps, best_step, diverged and stopped_early (0 or 1), parameters (count), unmoved (tensors of
        parameters that training left as they were). Tables: `curves` (diag.train.curves) and `layers` (the trace's
        frame of the steps that were watched).
    """
    began = time.perf_counter()
    dataset = load_dataset(recipe.data, seed)
    model = build_model(recipe, dataset, seed)
    _start(model, recipe, dataset, seed)
    begun = {name: one.detach().clone() for name, one in model.named_parameters()} if recipe.steps else {}
    built = time.perf_counter()
    fitted, trace = _watched_fit(model, recipe, dataset, seed, looks, validations)
    trained = time.perf_counter()
    outcome = Outcome(_metrics(model, recipe, dataset, fitted, seed), {"curves": fitted.curves.frame()})
    if begun:
        still = sum(torch.equal(one.detach(), begun[name]) for name, one in model.named_parameters() if name in begun)
        outcome.metrics["unmoved"] = float(still)
    if looks:
        outcome.tables["layers"] = trace.frame
    model.eval()
    session = Session(recipe, seed, dataset, model, trace, fitted)
    for measure in measures:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(seed, f"measure {getattr(measure, '__name__', '')}"))
            outcome.add(measure(session))
    ended = time.perf_counter()
    outcome.timing = {"build": built - began, "train": trained - built, "measure": ended - trained}
    outcome.environment = trial_environment()
    return outcome


def trial_environment() -> dict[str, Any]:
    """Versions, device and threads of this process."""
    return {"diag": sys.modules["diag"].__version__, **describe_environment()}


def _watched_fit(
    model: nn.Module, recipe: Recipe, dataset: Dataset, seed: int, looks: int, validations: int
) -> tuple[Fitted, Trace]:
    if not looks:
        return fit(model, recipe, dataset, seed, None, validations), Trace()
    # Rounded up, so that there are at most `looks` of them.
    probe = Probe([model], every=max(1, -(-recipe.steps // looks)))
    probe.start()
    try:
        fitted = fit(model, recipe, dataset, seed, probe, validations)
    finally:
        probe.stop()
    return fitted, probe.trace()


def _start(model: nn.Module, recipe: Recipe, dataset: Dataset, seed: int) -> None:
    if recipe.start == "scratch":
        return
    job = StartJob(
        model=model,
        recipe=recipe,
        dataset=dataset,
        seed=derived_seed(seed, "start"),
        build=lambda other, data: build_model(other, data, derived_seed(seed, "start model")),
        train=lambda module, other, data: _trained(module, other, data, derived_seed(seed, "start training")),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        kinds.start.resolve(recipe.start)(job)


def _trained(model: nn.Module, recipe: Recipe, dataset: Dataset, seed: int) -> nn.Module:
    fit(model, recipe, dataset, seed, None, validations=1)
    return model


def _metrics(model: nn.Module, recipe: Recipe, dataset: Dataset, fitted: Fitted, seed: int) -> dict[str, float]:
    predict = None if recipe.prediction == "plain" else kinds.prediction.resolve(recipe.prediction)
    metrics: dict[str, float] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "prediction"))
        for name, part in (("train", dataset.train), ("valid", dataset.valid), ("test", dataset.test)):
            found = evaluate(model, dataset, part, predict)
            metrics |= {f"{name}_{metric}": value for metric, value in found.items()}
    valid = [row["valid_loss"] for row in fitted.curves.rows if row["valid_loss"] == row["valid_loss"]]
    return metrics | {
        "best_valid_loss": min(valid, default=float("nan")),
        "steps": float(fitted.steps),
        "best_step": float(fitted.best_step),
        "diverged": float(fitted.diverged),
        "stopped_early": float(fitted.stopped_early),
        "parameters": float(sum(one.numel() for one in model.parameters())),
    }
