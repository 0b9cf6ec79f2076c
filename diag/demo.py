"""The demonstration: ten sigmoid layers with the legacy initialization, and ten ReLU layers with He's, on real data."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from diag.check import check
from diag.errors import MissingExtraError
from diag.report.diagnosis import Diagnosis
from diag.report.page import write_page
from diag.train.one_thread import one_thread
from diag.train.workload import Workload

if TYPE_CHECKING:
    from rich.table import Table

LAYERS = 10
WIDTH = 100
BATCH = 64
LEARNING_RATE = 0.05
SEED = 0


def legacy_uniform_(weight: torch.Tensor, generator: torch.Generator) -> None:
    """U[-1/sqrt(fan_in), 1/sqrt(fan_in)], so of variance 1 / (3 fan_in).

    Source: Glorot and Bengio 2010, equation 1, "the commonly used heuristic".
    """
    bound = 1 / math.sqrt(weight.shape[1])
    nn.init.uniform_(weight, -bound, bound, generator=generator)


def he_normal_(weight: torch.Tensor, generator: torch.Generator) -> None:
    """Normal of variance 2 / fan_in. Source: He et al. 2015, section 2.2."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)


def network(
    activation: type[nn.Module], init: Callable[[torch.Tensor, torch.Generator], None], generator: torch.Generator
) -> nn.Sequential:
    """64 pixels, ten hidden layers of 100 units, 10 classes; biases are zero."""
    widths = [64] + [WIDTH] * LAYERS
    layers: dict[str, nn.Module] = {}
    for number, (fan_in, fan_out) in enumerate(itertools.pairwise(widths), start=1):
        layers[f"layer{number}"] = nn.Linear(fan_in, fan_out)
        layers[f"activation{number}"] = activation()
    model = nn.Sequential(OrderedDict(layers, output=nn.Linear(WIDTH, 10)))
    for layer in model:
        if isinstance(layer, nn.Linear):
            init(layer.weight, generator)
            nn.init.zeros_(layer.bias)
    return model


def digit_batches(generator: torch.Generator) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """scikit-learn's 1,797 handwritten digits, 8x8, each pixel standardized over the data, in shuffled batches.

    Raises: MissingExtraError without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "suites", "the demonstration") from error
    data = load_digits()
    pixels = torch.tensor(data.data, dtype=torch.float32)
    pixels = (pixels - pixels.mean(0)) / pixels.std(0).clamp(min=1e-6)
    order = torch.randperm(len(pixels), generator=generator)
    labels = torch.tensor(data.target)[order]
    pixels = pixels[order]
    whole = len(pixels) - len(pixels) % BATCH
    return list(zip(pixels[:whole].split(BATCH), labels[:whole].split(BATCH), strict=True))


def classification_loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """The cross-entropy of a batch of pixels and labels."""
    pixels, labels = batch
    loss: torch.Tensor = nn.functional.cross_entropy(model(pixels), labels)
    return loss


def gradient_rms(diagnosis: Diagnosis) -> tuple[float, float]:
    """The rms of the loss gradient at the weights of the first and of the last layer, averaged over the steps."""
    rows = diagnosis.trace.kind("weight_gradient")
    means = rows.groupby("site")["rms"].mean()
    return float(means["layer1.weight"]), float(means["output.weight"])


@dataclass(frozen=True)
class Demo:
    """Both diagnoses and the page that shows them."""

    diagnoses: list[Diagnosis]
    page: Path

    def table(self) -> Table:
        """Per network: gradient rms of the first and last layer, their ratio, the loss at the first and last step."""
        from rich.table import Table

        table = Table(title="rms of the gradient at the weights, mean over the steps")
        table.add_column("network")
        for column in ("first layer", "last layer", "first / last", "loss, first step", "loss, last step"):
            table.add_column(column, justify="right")
        for diagnosis in self.diagnoses:
            first, last = gradient_rms(diagnosis)
            losses = diagnosis.trace.steps["loss"]
            numbers = (
                f"{first:.1e}",
                f"{last:.1e}",
                f"{first / last:.1e}",
                f"{losses.iloc[0]:.3f}",
                f"{losses.iloc[-1]:.3f}",
            )
            table.add_row(diagnosis.title, *numbers)
        return table


def run_demo(
    folder: Path, steps: int = 100, *, progress: Callable[[int, int, float | None], None] | None = None
) -> Demo:
    """Check both networks for `steps` steps of SGD and write one page, `folder/report.html`.

    Raises: MissingExtraError without scikit-learn; DiagError if the page cannot be written.
    """
    diagnoses = []
    for title, activation, init in (
        ("10 sigmoid layers, legacy uniform init", nn.Sigmoid, legacy_uniform_),
        ("10 ReLU layers, He init", nn.ReLU, he_normal_),
    ):
        generator = torch.Generator().manual_seed(SEED)
        batches = digit_batches(generator)
        model = network(activation, init, generator)
        optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
        workload = Workload(model, batches, classification_loss, optimizer)
        with one_thread():
            diagnoses.append(check(workload, steps, progress=progress, title=title, command="diag demo"))
    page = write_page(diagnoses, folder / "report.html", title="Vanishing gradients, and their cure")
    return Demo(diagnoses, page.resolve())
