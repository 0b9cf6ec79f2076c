"""Families told by how they learn, third round: transfer, teachers, pretexts, metrics, replays, forecasts, noise."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import digits
from tests.corpus.families.family import family
from tests.corpus.families.third_vision import MORE, Act, _decay
from tests.corpus.nets import Loss, classify, initialize, mlp

OTHER = {"turn": 19}
Pair = tuple[Tensor, Tensor]


def _workload(
    model: nn.Module, batches: list[Any], loss: Loss, optimizer: str, lr: float, turn: int = 0, **more: Any
) -> Workload:
    """Only what is not frozen is given to the optimizer."""
    free = [one for one in model.parameters() if one.requires_grad]
    return Workload(model, batches[turn:] + batches[:turn], loss, MORE[optimizer](free, lr=lr, **more))


def _pretrained(model: nn.Module, classes: int, steps: int = 60) -> nn.Module:
    """The same model after it has learned, on digits below `classes`, to tell them apart."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for x, y in digits(image=True)[:steps]:
        known = y < classes
        optimizer.zero_grad()
        classify(model, (x[known], y[known])).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model


def _convnet(width: int, act: Act, outputs: int) -> nn.Sequential:
    """A backbone, and a head on its features."""
    layers: list[nn.Module] = []
    for inputs, size, stride in ((1, width, 1), (width, width, 2), (width, 2 * width, 2)):
        layers += [nn.Conv2d(inputs, size, 3, stride, 1, bias=False), nn.BatchNorm2d(size), act()]
    return nn.Sequential(nn.Sequential(*layers, nn.Flatten()), nn.Linear(8 * width, outputs))


@family("feature-extractor", wide={"width": 24}, hidden={"hidden": 64}, momentum={"optimizer": "momentum", "lr": 0.02})
def extractor(width: int = 16, hidden: int = 0, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """A backbone that learned seven digits stands still; a new head learns all ten."""
    model = _pretrained(_convnet(width, nn.ReLU, 7), 7)
    for one in model.parameters():
        one.requires_grad_(False)
    size = 8 * width
    model[1] = (  # type: ignore[operator]
        nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, 10))
        if hidden
        else nn.Linear(size, 10)
    )
    return _workload(model, digits(image=True), classify, optimizer, lr)


@family("fine-tuned", elu={"act": nn.ELU}, decay={"rate": 0.97}, sgd={"optimizer": "momentum", "lr": 0.02})
def fine_tuned(act: Act = nn.ReLU, rate: float = 1.0, optimizer: str = "adamw", lr: float = 3e-3) -> Workload:
    """A backbone that learned seven digits is trained on at a tenth of the rate of its new head."""
    model = _pretrained(_convnet(16, act, 7), 7)
    model[1] = nn.Linear(128, 10)  # type: ignore[operator]
    body, head = list(model[0].parameters()), list(model[1].parameters())  # type: ignore[index]
    made = MORE[optimizer]([{"params": body, "lr": lr / 10}, {"params": head}], lr=lr)
    if rate < 1:
        _decay(made, rate)
    return Workload(model, digits(image=True), classify, made)


class Hinted(nn.Module):
    """A thin deep student, and a teacher that stands still; a regressor leads from the middle of one to the other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        teacher = _pretrained(_convnet(24, nn.ReLU, 10), 10)
        self.teacher = teacher.requires_grad_(False).eval()
        student = _convnet(width, nn.ReLU, 10)
        self.body, self.head = student[0], student[1]
        self.regress = nn.Linear(8 * width, 192)

    def train(self, mode: bool = True) -> Hinted:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.body(x)
        return self.head(y), self.regress(y)


@family("hinted-student", wide={"width": 12}, nesterov={"optimizer": "nesterov", "lr": 0.02}, other=OTHER)
def hinted(width: int = 8, optimizer: str = "adam", lr: float = 4e-3, turn: int = 0) -> Workload:
    def loss(model: nn.Module, batch: Pair) -> Tensor:
        said, hint = model(batch[0])
        with torch.no_grad():
            told = model.teacher[0](batch[0])  # type: ignore[index, operator]
        return F.cross_entropy(said, batch[1]) + 0.5 * F.mse_loss(hint, told)

    return _workload(Hinted(width), digits(image=True), loss, optimizer, lr, turn)


class Peers(nn.Module):
    def __init__(self, act: Act) -> None:
        super().__init__()
        self.one, self.other = mlp(3, act, "he", width=64), mlp(5, act, "he", width=48, norm=nn.BatchNorm1d)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.one(x), self.other(x)


@family("mutual-learning", silu={"act": nn.SiLU}, momentum={"optimizer": "momentum", "lr": 0.02}, other=OTHER)
def mutual(act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 2e-3, turn: int = 0) -> Workload:
    """Two networks of different shape learn from the labels and from what the other one says."""

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        one, other = (said.log_softmax(-1) for said in model(batch[0]))
        near = F.kl_div(one, other.detach(), reduction="batchmean", log_target=True)
        near = near + F.kl_div(other, one.detach(), reduction="batchmean", log_target=True)
        return F.nll_loss(one, batch[1]) + F.nll_loss(other, batch[1]) + near

    return _workload(Peers(act), digits(), loss, optimizer, lr, turn)


class ConditionalVae(nn.Module):
    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.label = nn.Embedding(10, 10)
        self.encoder = nn.Sequential(nn.Linear(74, width), act(), nn.Linear(width, width), act(), nn.Linear(width, 16))
        self.decoder = nn.Sequential(nn.Linear(18, width), act(), nn.Linear(width, width), act(), nn.Linear(width, 64))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        label = self.label(y)
        mean, log_variance = self.encoder(torch.cat([x, label], -1)).chunk(2, -1)
        code = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        return self.decoder(torch.cat([code, label], -1)), mean, log_variance


@family("conditional-vae", wide={"width": 128}, tanh={"act": nn.Tanh}, adamax={"optimizer": "adamax", "lr": 6e-3})
def conditional_vae(width: int = 64, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """The loss is a sum over pixels and the batch, as it is often written."""

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        made, mean, log_variance = model(*batch)
        error = F.binary_cross_entropy_with_logits(made, batch[0], reduction="sum")
        return error - 0.5 * torch.sum(1 + log_variance - mean**2 - log_variance.exp())

    return _workload(ConditionalVae(width, act), digits(32, "unit"), loss, optimizer, lr)


class Rivals(nn.Module):
    """A generator that is told the class, and a critic that is told it too; both convolve."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.label, self.sheet = nn.Embedding(10, 8), nn.Embedding(10, 64)
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(24, 2 * width, 4, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 1, 3, padding=1), nn.Tanh(),
        )  # fmt: skip
        self.critic = nn.Sequential(
            nn.Conv2d(2, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Flatten(), nn.Linear(8 * width, 1),
        )  # fmt: skip

    def make(self, y: Tensor) -> Tensor:
        return self.generator(torch.cat([torch.randn(len(y), 16), self.label(y)], -1)[:, :, None, None])

    def judge(self, x: Tensor, y: Tensor) -> Tensor:
        return self.critic(torch.cat([x, self.sheet(y).reshape(-1, 1, 8, 8)], 1))


@family("conditional-gan", learns=False, wide={"width": 32}, rmsprop={"optimizer": "rmsprop", "lr": 2e-4})
def conditional_gan(width: int = 16, optimizer: str = "adam", lr: float = 2e-4) -> Workload:
    """Least squares: the generator's loss sees a critic that stands still."""

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        assert isinstance(model, Rivals)
        x, y = batch
        made = model.make(y)
        real, fake = model.judge(x, y), model.judge(made.detach(), y)
        model.critic.requires_grad_(False)
        fooled = model.judge(made, y)
        model.critic.requires_grad_(True)
        return ((real - 1) ** 2).mean() + (fake**2).mean() + ((fooled - 1) ** 2).mean()

    batches = [(2 * x - 1, y) for x, y in digits(scale="unit", image=True)]
    more: dict[str, Any] = {"betas": (0.5, 0.999)} if optimizer == "adam" else {}
    return _workload(Rivals(width), batches, loss, optimizer, lr, **more)


class Reversed(torch.autograd.Function):
    """The same forward, the opposite backward."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return x.view_as(x)

    @staticmethod
    def backward(ctx, slope: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return -0.2 * slope


class Domains(nn.Module):
    def __init__(self, act: Act, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, width), act(), nn.Linear(width, width), act())
        self.classes = nn.Sequential(nn.Linear(width, 48), act(), nn.Linear(48, 10))
        self.domain = nn.Sequential(nn.Linear(width, 48), act(), nn.Linear(48, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.body(x)
        return self.classes(y), self.domain(Reversed.apply(y))


@family("domain-adversarial", wide={"width": 128}, elu={"act": nn.ELU}, momentum={"optimizer": "momentum", "lr": 0.03})
def domains(width: int = 64, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    """Labels come with plain digits only; blurred ones, mirrored, are to look the same to the classifier."""

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        x, y = batch
        half = len(x) // 2
        moved = F.avg_pool2d(x[half:].reshape(-1, 1, 8, 8), 3, 1, 1).flip(3).flatten(1)
        said, domain = model(torch.cat([x[:half], moved]))
        target = (torch.arange(len(x)) < half).float()[:, None]
        return F.cross_entropy(said[:half], y[:half]) + F.binary_cross_entropy_with_logits(domain, target)

    return _workload(Domains(act, width), digits(64), loss, optimizer, lr)


class Teaching(nn.Module):
    """A student and the running mean of what it was."""

    def __init__(self, act: Act, width: int) -> None:
        super().__init__()
        self.student = mlp(4, act, "he", width=width, dropout=0.1)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.student(x)

    @torch.no_grad()
    def follow(self, rate: float = 0.1) -> None:
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            slow.lerp_(fast, rate)


@family("mean-teacher", wide={"width": 128}, gelu={"act": nn.GELU}, nesterov={"optimizer": "nesterov", "lr": 0.02})
def mean_teacher(width: int = 64, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    """A quarter of the digits has labels; on all of them the student is to say what its own mean says."""

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        assert isinstance(model, Teaching)
        x, y = batch
        if model.training:
            model.follow()
        said = model(x + 0.2 * torch.randn_like(x))
        with torch.no_grad():
            told = model.teacher(x + 0.2 * torch.randn_like(x)).softmax(-1)
        few = len(x) // 4
        return F.cross_entropy(said[:few], y[:few]) + 2 * F.mse_loss(said.softmax(-1), told)

    return _workload(Teaching(act, width), digits(128), loss, optimizer, lr)


@family("evidential-classes", relu={"act": nn.ReLU}, deep={"depth": 5}, radam={"optimizer": "radam", "lr": 6e-3})
def evidential(act: Act = nn.SiLU, depth: int = 3, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """Outputs are evidence for each class: a Dirichlet law, whose expected error is made small."""

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        strength = F.softplus(model(batch[0])) + 1
        total = strength.sum(-1, keepdim=True)
        mean = strength / total
        target = F.one_hot(batch[1], 10)
        return ((target - mean) ** 2 + mean * (1 - mean) / (total + 1)).sum(-1).mean()

    return _workload(mlp(depth, act, "he"), digits(), loss, optimizer, lr)


def _encoder(width: int, act: Act, outputs: int) -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), act(), nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1), act(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * width, 64), act(), nn.Linear(64, outputs),
    )  # fmt: skip
    initialize(model, "he")
    return model


@family("supervised-contrast", leaky={"act": nn.LeakyReLU}, sharp={"heat": 0.2}, adamw={"optimizer": "adamw"})
def supervised_contrast(act: Act = nn.ReLU, heat: float = 0.5, optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    """Digits of one class are to lie near each other on a sphere, others far."""

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        z, y = F.normalize(model(batch[0]), dim=-1), batch[1]
        own = torch.eye(len(z), dtype=torch.bool)
        score = (z @ z.T / heat).masked_fill(own, -1e9).log_softmax(-1)
        same = (y[:, None] == y) & ~own
        return -((score * same).sum(-1) / same.sum(-1).clamp(min=1)).mean()

    return _workload(_encoder(12, act, 24), digits(64, image=True), loss, optimizer, lr)


@family("rotation-pretext", wide={"width": 24}, elu={"act": nn.ELU}, adagrad={"optimizer": "adagrad", "lr": 0.02})
def rotation(width: int = 12, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """By how many right angles was the picture turned?"""

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        turned = torch.cat([torch.rot90(batch[0], k, (2, 3)) for k in range(4)])
        return F.cross_entropy(model(turned), torch.arange(4).repeat_interleave(len(batch[0])))

    return _workload(_encoder(width, act, 4), digits(16, image=True), loss, optimizer, lr)
