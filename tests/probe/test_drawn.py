"""Frozen weights that are as they were drawn."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


def _coverage(model: nn.Module) -> dict[str, Any]:
    with diag.watch(model) as watch:
        F.cross_entropy(model(X), Y).backward()
        watch.step()
    return watch.trace.coverage


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 3))


def test_what_is_frozen_as_it_was_initialized() -> None:
    model = _network()
    model[:2].requires_grad_(False)
    share = (8 * 32 + 32) / sum(one.numel() for one in model.parameters())
    found = _coverage(model)["frozen_untrained"]
    assert found == {"Sequential": {"modules": ["0"], "share": pytest.approx(share)}}


def _drawn(stds: list[float], tail: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(*[part for _ in stds for part in (nn.Linear(48, 48), nn.LayerNorm(48))], nn.Linear(48, 4))
    for layer, std in zip(model[:-1:2], stds, strict=True):
        assert isinstance(layer, nn.Linear)
        nn.init.normal_(layer.weight, std=std)
        if tail:
            layer.weight.data[0] *= 8
    model[:-1].requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("stds", "tail", "new"),
    [
        ([0.02] * 6, False, True),
        ([0.02, 0.005] * 3, False, True),
        ([0.02, 0.03, 0.05, 0.01, 0.06, 0.08], False, False),
        ([0.02] * 6, True, False),
        ([0.02] * 5, False, False),
    ],
)
def test_weights_of_a_law_of_ones_own(stds: list[float], tail: bool, new: bool) -> None:
    model = _drawn(stds, tail)
    optimizer = torch.optim.SGD(model[-1].parameters(), 0.1)
    with diag.watch(model, optimizer) as watch:
        F.cross_entropy(model(torch.randn(8, 48)), torch.arange(8) % 4).backward()
        optimizer.step()
    assert bool(watch.trace.coverage["frozen_untrained"]) == new


def _trained(model: nn.Sequential) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(20):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()


def _loaded(model: nn.Sequential) -> None:
    nn.init.normal_(model[0].weight, std=0.3)


def _normed(model: nn.Sequential) -> None:
    model[1].weight.data[0] = 0.9


@pytest.mark.parametrize("change", [_trained, _loaded, _normed])
def test_what_was_trained_before_is_meant(change: Any) -> None:
    model = _network()
    change(model)
    model[:2].requires_grad_(False)
    assert _coverage(model)["frozen_untrained"] == {}


LAWS: dict[str, tuple[Callable[[Tensor], Any], bool]] = {
    "he": (nn.init.kaiming_normal_, True),
    "he, by fan_out": (lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu"), True),
    "he, uniform": (nn.init.kaiming_uniform_, True),
    "glorot": (nn.init.xavier_normal_, True),
    "glorot, uniform": (nn.init.xavier_uniform_, True),
    "lecun": (lambda weight: nn.init.normal_(weight, std=weight[0].numel() ** -0.5), True),
    "none": (lambda weight: nn.init.normal_(weight, std=0.6 * weight[0].numel() ** -0.5), False),
    "orthogonal": (nn.init.orthogonal_, True),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("layers", [4, 3])
def test_the_usual_laws(law: str, layers: int) -> None:
    """Three weights may fit one of them by chance."""
    torch.manual_seed(0)
    draw, known = LAWS[law]
    widths = [8, 600, 80, 70, 60][: layers + 1]
    body = [part for fans in itertools.pairwise(widths) for part in (nn.Linear(*fans), nn.ReLU())]
    model = nn.Sequential(*body, nn.Linear(widths[-1], 3))
    for layer in body[::2]:
        draw(layer.weight)  # type: ignore[arg-type]
    model[:-1].requires_grad_(False)
    assert bool(_coverage(model)["frozen_untrained"]) == (known and layers == 4)


@pytest.mark.parametrize(("padding", "std", "new"), [(None, 1.0, True), (3, 1.0, True), (None, 0.4, False)])
def test_an_embedding(padding: int | None, std: float, new: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(50, 16, padding_idx=padding), nn.Flatten(), nn.Linear(48, 3))
    if std != 1:
        nn.init.normal_(model[0].weight, std=std)  # type: ignore[arg-type]
    model[0].requires_grad_(False)
    with diag.watch(model) as watch:
        F.cross_entropy(model(torch.randint(50, (64, 3))), Y).backward()
        watch.step()
    assert list(watch.trace.coverage["frozen_untrained"]) == ["Sequential"] * new
