"""Classes that are read off the wrong dimension."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import diag
from diag.rules.finding import Finding

N, CLASSES, SIZE = 6, 4, 5
Use = Callable[[Tensor, Tensor], Tensor]


def found(model: nn.Module, x: Tensor, y: Tensor, loss: Use, of: str = "scrambled") -> list[Finding]:
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with diag.watch(model) as watch:
        for _ in range(4):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
    return [one for one in watch.diagnose().findings if one.evidence.get("of") == of]


IMAGES: dict[str, tuple[Use, bool]] = {
    "view": (lambda out, y: F.cross_entropy(out.view(-1, CLASSES), y.view(-1)), True),
    "reshape": (lambda out, y: nn.CrossEntropyLoss()(out.reshape(-1, CLASSES), y.reshape(-1)), True),
    "permuted": (lambda out, y: F.cross_entropy(out.permute(0, 2, 3, 1).reshape(-1, CLASSES), y.view(-1)), False),
    "as it is": (lambda out, y: F.cross_entropy(out, y), False),
    "flattened": (lambda out, y: F.cross_entropy(out.flatten(2), y.flatten(1)), False),
}


@pytest.mark.parametrize("way", IMAGES)
def test_classes_of_pixels(way: str) -> None:
    x, y = torch.randn(N, 3, SIZE, SIZE), torch.randint(0, CLASSES, (N, SIZE, SIZE))
    loss, wrong = IMAGES[way]
    errors = found(nn.Conv2d(3, CLASSES, 1), x, y, loss)
    assert [(one.severity, one.evidence["before"]) for one in errors] == (
        [("error", [N, CLASSES, SIZE, SIZE])] if wrong else []
    )


SEQUENCES: dict[str, tuple[Use, bool]] = {
    "reshape": (lambda out, y: F.cross_entropy(out.reshape(N, CLASSES, SIZE), y), True),
    "module": (lambda out, y: nn.CrossEntropyLoss()(out.view(N, CLASSES, SIZE), y), True),
    "transposed": (lambda out, y: F.cross_entropy(out.transpose(1, 2), y), False),
    "flattened": (lambda out, y: F.cross_entropy(out.view(-1, CLASSES), y.view(-1)), False),
}


def test_an_image_of_one_place_is_only_flattened() -> None:
    x, y = torch.randn(N, 3, 1, 1), torch.randint(0, CLASSES, (N,))
    assert not found(nn.Conv2d(3, CLASSES, 1), x, y, lambda out, y: F.cross_entropy(out.flatten(1), y))


@pytest.mark.parametrize("way", SEQUENCES)
def test_classes_of_positions(way: str) -> None:
    x, y = torch.randn(N, SIZE, 3), torch.randint(0, CLASSES, (N, SIZE))
    loss, wrong = SEQUENCES[way]
    assert len(found(nn.Linear(3, CLASSES), x, y, loss)) == wrong


@pytest.mark.parametrize(
    ("way", "count"),
    [
        (lambda out, y: F.cross_entropy(out.softmax(1), y), 1),
        (lambda out, y: nn.CrossEntropyLoss()(torch.sigmoid(out), y), 1),
        (lambda out, y: F.binary_cross_entropy_with_logits(torch.sigmoid(out[:, 0]), (y > 1).float()), 1),
        (lambda out, y: F.cross_entropy(out, y), 0),
        (lambda out, y: F.nll_loss(out.log_softmax(1), y), 0),
        (lambda out, y: F.binary_cross_entropy(torch.sigmoid(out[:, 0]), (y > 1).float()), 0),
        (lambda out, y: F.cross_entropy(10 * torch.sigmoid(out), y), 0),
    ],
)
def test_a_function_between_the_model_and_the_loss_squashes_first(way: Use, count: int) -> None:
    x, y = torch.randn(32, 3), torch.randint(0, CLASSES, (32,))
    errors = found(nn.Linear(3, CLASSES), x, y, way, "squash")
    assert [(one.rule, one.severity) for one in errors] == [("loss-not-decreasing", "error")] * count


class Rearranged(nn.Module):
    """Time series of channels whose two dimensions change places, somehow, before a convolution."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv, self.head = how, nn.Conv1d(3, 4, 3, padding=1), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = {
            "view": lambda: x.view(len(x), 3, 8),
            "reshape": lambda: torch.reshape(x, (len(x), 3, 8)),
            "transpose": lambda: x.transpose(1, 2),
            "samples": lambda: x.reshape(8, len(x), 3).transpose(0, 1).transpose(1, 2),
            "a dimension more": lambda: x.view(len(x), 1, 8, 3)[:, 0].transpose(1, 2),
        }[self.how]()
        return self.head(self.conv(x).relu().mean(2))


@pytest.mark.parametrize(
    ("how", "after"),
    [
        ("view", [N, 3, 8]),
        ("reshape", [N, 3, 8]),
        ("samples", [8, N, 3]),
        ("transpose", None),
        ("a dimension more", None),
    ],
)
def test_a_view_in_place_of_a_transposition(how: str, after: list[int] | None) -> None:
    x, y = torch.randn(N, 8, 3), torch.randint(0, CLASSES, (N,))
    told = found(Rearranged(how), x, y, F.cross_entropy, "reshaped")
    assert [(one.severity, one.evidence["after"]) for one in told] == ([("error", after)] if after else [])
    assert all(("Samples mix" in one.message) == (how == "samples") for one in told)
