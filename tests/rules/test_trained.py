"""Small networks, really trained: no error where all is healthy by construction; a planted fault is found in place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag
from diag.report.diagnosis import Diagnosis
from diag.rules.finding import Finding

Batch = tuple[Tensor, Tensor]
SIZE, FEATURES, CLASSES = 64, 8, 4


def batches(*shape: int, classes: int = CLASSES) -> list[Batch]:
    """Noise of this shape per sample, and the class that a linear map of it gives."""
    generator = torch.Generator().manual_seed(1)
    rule = torch.randn(math.prod(shape), classes, generator=generator)
    drawn = [torch.randn(SIZE, *shape, generator=generator) for _ in range(30)]
    return [(x, (x.flatten(1) @ rule).argmax(1)) for x in drawn]


def classify(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def train(
    build: Callable[[], nn.Module],
    data: list[Batch] | None = None,
    loss: Callable[..., Tensor] = classify,
    lr: float = 1e-2,
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam,
    steps: int = 30,
) -> Diagnosis:
    torch.manual_seed(0)
    model = build()
    held = [one for one in model.parameters() if one.requires_grad]
    given = optimizer(held, lr=lr)  # type: ignore[call-arg]
    return diag.check(diag.Workload(model, data or batches(FEATURES), loss, given), steps=steps)


def errors(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    return [(one.rule, one.site) for one in diagnosis.findings if one.severity == "error"]


class Attention(nn.Module):
    """One block: keys have a bias, which softmax does not see; infinities mask the future where `mask` says how."""

    def __init__(self, mask: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Linear(FEATURES, 16)
        self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.mask, self.head = mask or nn.Identity(), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.stem(x))
        scores = self.mask(self.query(h) @ self.key(h).transpose(1, 2) / 4)
        return self.head(h + scores.softmax(-1) @ self.value(h)).mean(1)


class Future(nn.Module):
    """Minus infinity where a position may not look."""

    def forward(self, x: Tensor) -> Tensor:
        return x.masked_fill(torch.ones(x.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)


class Residual(nn.Module):
    """Blocks whose branches start at nothing (`zero`), or are scaled down by a learned 1e-6."""

    def __init__(self, zero: bool) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(FEATURES, 16), nn.Linear(16, CLASSES)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)) for _ in range(6)
        )
        self.scales = nn.ParameterList(torch.full((16,), 1.0 if zero else 1e-6) for _ in range(6))
        for branch in self.branches if zero else []:
            nn.init.zeros_(branch[3].weight)
            nn.init.zeros_(branch[3].bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for scale, branch in zip(self.scales, self.branches, strict=True):
            x = x + scale * branch(x)
        return self.head(x)


class Spare(nn.Module):
    """A part that never runs, and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(FEATURES, 16).requires_grad_(False)
        self.used, self.spare = nn.Linear(16, CLASSES), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(F.relu(self.frozen(x)))


def words() -> list[Batch]:
    """Five of a thousand words a sample, common ones more often; the class is told by one of them."""
    generator = torch.Generator().manual_seed(1)
    drawn = [(1000 * torch.rand(SIZE, 5, generator=generator) ** 3).long() for _ in range(30)]
    return [(x, x[:, 0] % CLASSES) for x in drawn]


def sparse() -> list[Batch]:
    return [(torch.zeros(SIZE, 1000).scatter_(1, x, 1.0), y) for x, y in words()]


def plain(activation: Callable[[], nn.Module] = nn.ReLU, depth: int = 3) -> nn.Sequential:
    sizes = [FEATURES] + [16] * depth
    hidden = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*hidden, nn.Linear(16, CLASSES))


def test_key_biases_under_softmax() -> None:
    diagnosis = train(Attention, batches(6, FEATURES))
    gradients = diagnosis.trace.parameters.query("site == 'key.bias'")["gradient_norm"]
    assert gradients.max() < 1e-6  # there to be misread
    assert errors(diagnosis) == []


def test_biases_before_batch_normalization() -> None:
    def build() -> nn.Module:
        parts = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)]
        return nn.Sequential(*parts, nn.ReLU(True), nn.Flatten(), nn.Linear(8 * 4 * 4, CLASSES))

    assert errors(train(build, batches(1, 6, 6))) == []


def test_embeddings_of_rare_words() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Embedding(1000, 8), nn.Flatten(), nn.Linear(40, CLASSES))

    assert errors(train(build, words())) == []


@pytest.mark.parametrize("zero", [True, False], ids=["zero-initialized", "layer-scale-1e-6"])
def test_residual_branches_that_start_at_nothing(zero: bool) -> None:
    assert errors(train(lambda: Residual(zero))) == []


def test_frozen_and_unused_parts() -> None:
    diagnosis = train(Spare)
    assert errors(diagnosis) == []
    assert [(one.rule, one.severity) for one in diagnosis.findings] == [("missing-gradient", "note")]
    assert set(diagnosis.findings[0].evidence["parameters"]) == {"spare.weight", "spare.bias"}


def test_zeros_of_dropout() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Dropout(0.7), nn.Linear(64, CLASSES))

    assert errors(train(build)) == []


def test_sigmoid_outputs_of_a_decoder() -> None:
    """Pixels that are black or white: the decoder is right to saturate."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16), nn.Sigmoid())

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return F.binary_cross_entropy(model(batch[0]), batch[0])

    generator = torch.Generator().manual_seed(1)
    white = torch.rand(16, generator=generator) < 0.5
    data = [(white.float().repeat(SIZE, 1).bernoulli_(0.5, generator=generator) * white, white) for _ in range(30)]
    assert errors(train(build, data, loss, lr=5e-2)) == []


def test_activations_in_place() -> None:
    assert errors(train(lambda: plain(lambda: nn.ReLU(inplace=True)))) == []


def test_dropout_of_a_sparse_input() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Dropout(0.2), nn.Linear(1000, 32), nn.ReLU(), nn.Linear(32, CLASSES))

    assert errors(train(build, sparse())) == []


class Factors(nn.Module):
    """Matrix factorization of ratings: biases of users and items start at zero, as is usual."""

    def __init__(self) -> None:
        super().__init__()
        self.factors, self.bias = nn.Embedding(1000, 8), nn.Embedding(1000, 1)
        nn.init.normal_(self.factors.weight, std=0.1)
        nn.init.zeros_(self.bias.weight)

    def forward(self, x: Tensor) -> Tensor:
        user, item = self.factors(x[:, 0]), self.factors(x[:, 1])
        return (user * item).sum(1) + self.bias(x[:, :2]).sum((1, 2))


def rate(model: nn.Module, batch: Batch) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1].float())


def test_zero_initialized_embeddings_of_rare_words() -> None:
    assert errors(train(Factors, words(), rate)) == []


def test_a_mask_as_the_first_input() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain()

        def forward(self, mask: Tensor, x: Tensor) -> Tensor:
            return self.net(x * mask)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(torch.ones_like(batch[0]), batch[0]), batch[1])

    assert errors(train(Masked, loss=loss)) == []


def test_a_mask_of_infinities() -> None:
    diagnosis = train(lambda: Attention(Future()), batches(6, FEATURES))
    assert errors(diagnosis) == []
    assert [(one.rule, one.site, one.severity) for one in diagnosis.findings] == [("non-finite", "mask", "note")]


def the_error(diagnosis: Diagnosis) -> Finding:
    [found] = [one for one in diagnosis.findings if one.severity == "error"]
    return found


def test_deep_sigmoids_vanish() -> None:
    def build() -> nn.Module:
        return plain(nn.Sigmoid, 10)

    finding = the_error(train(build, lr=0.1, optimizer=torch.optim.SGD))
    assert finding.rule == "vanishing-gradient"
    assert finding.evidence["layers"] == 11
    assert 0.02 < finding.evidence["factor_per_layer"] < 0.3


def test_units_that_a_bias_killed_are_found_where_they_died() -> None:
    def build() -> nn.Module:
        model = plain()
        nn.init.constant_(model[2].bias, -100.0)
        return model

    finding = the_error(train(build))
    assert (finding.rule, finding.site) == ("dead-units", "3")
    assert (finding.evidence["dead_units"], finding.evidence["units"]) == (16, 16)
    assert finding.evidence["step"] == 0


def test_constant_weights_are_symmetric() -> None:
    def build() -> nn.Module:
        model = plain(nn.Tanh)
        for part in model[::2]:
            nn.init.constant_(part.weight, 0.1)
            nn.init.zeros_(part.bias)
        return model

    finding = the_error(train(build))
    assert finding.rule == "symmetric-units"
    assert finding.evidence["share"] == 1.0


@pytest.mark.parametrize(
    ("lr", "rule"), [(1e-10, "stalled-update"), (1.0, "oversized-update"), (1e3, "oversized-update")]
)
def test_a_learning_rate_far_off(lr: float, rule: str) -> None:
    finding = the_error(train(plain, lr=lr))
    assert finding.rule == rule
    assert finding.evidence["lr"] == lr


@pytest.mark.parametrize("mask", [None, Future()])
def test_a_nan_is_found_where_and_when_it_was_born(mask: nn.Module | None) -> None:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        bad = torch.isin(batch[0][0, 0, 0], marked)
        return F.cross_entropy(torch.log(model(batch[0]) - bad * 1e3), batch[1])

    class Positive(Attention):
        def forward(self, x: Tensor) -> Tensor:
            return F.softplus(super().forward(x))

    data = batches(6, FEATURES)
    marked = data[12][0][0, 0, 0]
    finding = the_error(train(lambda: Positive(mask), data, loss))
    assert finding.rule == "non-finite"
    assert (finding.evidence["step"], finding.evidence["phase"]) == (12, "forward")
    assert finding.site.startswith("loss")
