"""Every remedy on a training that it cures; and that the code which is printed does by itself what was measured."""

from __future__ import annotations

import copy
import math
import re
import textwrap
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.prescribe.arm import run_arm, seed_everything
from diag.prescribe.initialization import code_for
from diag.prescribe.remedy import Remedy, combined
from diag.prescribe.snippet import snippet
from diag.train.seeds import derived_seed
from diag.train.workload import Workload
from tests.prescribe.cases import STEPS, blobs, classify, mlp, proposals, quiet, sgd
from tests.recipes.test_inits import Conv1D

SEEDS = 3


def biased(act: Callable[[], nn.Module], bias: float) -> Workload:
    model = mlp(4, act)
    for layer in list(model)[:-1]:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.bias, bias)
    return sgd(model)


def adam(model: nn.Module, **options: Any) -> Workload:
    return Workload(model, blobs(), classify, torch.optim.Adam(model.parameters(), **options))


def dropped() -> Workload:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.97)]
    return sgd(nn.Sequential(*layers, nn.Linear(16, 4)), 0.3)


def crossed() -> Workload:
    """Predictions of shape N x 1 beside targets of shape N."""
    batches = [(x, x[:, :3].sum(1) / 2) for x, _ in blobs()]
    model = nn.Sequential(*list(mlp(3))[:-1], nn.Linear(32, 1))

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return ((model(batch[0]) - batch[1]) ** 2).mean()

    return Workload(model, batches, loss, torch.optim.Adam(model.parameters(), lr=1e-2))


def out_of_reach() -> Workload:
    """A last ReLU before targets of both signs."""
    batches = [(x, x[:, :3]) for x, _ in blobs()]
    model = nn.Sequential(*list(mlp(3))[:-1], nn.Linear(32, 3), nn.ReLU())

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.mse_loss(model(batch[0]), batch[1])

    return Workload(model, batches, loss, torch.optim.Adam(model.parameters(), lr=1e-2))


class NeverCleared(torch.optim.SGD):
    def zero_grad(self, set_to_none: bool = True) -> None:
        pass


def uncleared() -> Workload:
    model = mlp(4)
    return Workload(model, blobs(), classify, NeverCleared(model.parameters(), lr=0.3))


def frozen_head() -> Workload:
    model = mlp(4)
    nn.init.zeros_(model[-1].weight)  # type: ignore[arg-type]
    model[-1].requires_grad_(False)
    return sgd(model)


def of_the_head() -> Workload:
    model = mlp(6)
    return Workload(model, blobs(), classify, torch.optim.SGD(model[-1].parameters(), lr=0.02))


def loud_head() -> Workload:
    model = mlp(3)
    groups = [{"params": model[:-1].parameters()}, {"params": model[-1].parameters(), "lr": 300.0}]
    return Workload(model, blobs(), classify, torch.optim.SGD(groups, lr=0.1))


def regression() -> Workload:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.mse_loss(model(batch[0])[:, :1], batch[1])

    batches = [(x, 1e4 * (x[:, :1] + 3 * x[:, 1:2])) for x, _ in blobs()]
    return sgd(mlp(3), 0.05, batches, loss)


def scaled_loss(scale: float) -> Workload:
    return sgd(mlp(4), 0.1, None, lambda model, batch: classify(model, batch) * scale)


def broken_inputs() -> Workload:
    batches = [(x.index_fill(0, torch.tensor([3]), torch.nan), y) for x, y in blobs()]
    return sgd(mlp(4), 0.1, batches)


def outliers() -> Workload:
    return sgd(mlp(4), 0.1, [(x * (100 if number % 7 == 3 else 1), y) for number, (x, y) in enumerate(blobs())])


def uneven_inputs() -> Workload:
    factors = torch.ones(16)
    factors[3] = 3e3
    return sgd(mlp(4), 0.1, [(x * factors, y) for x, y in blobs()])


def softmaxed(inside: bool) -> Workload:
    model = mlp(4)
    if inside:
        model.append(nn.Softmax(-1))
        return sgd(model)
    return sgd(model, 0.1, None, lambda model, batch: F.cross_entropy(model(batch[0]).softmax(-1), batch[1]))


def decaying() -> Workload:
    workload = sgd(mlp(4), 0.2)
    assert workload.optimizer is not None
    schedule = torch.optim.lr_scheduler.ExponentialLR(workload.optimizer, 0.05)
    workload.optimizer.register_step_post_hook(lambda *_: schedule.step())
    return workload


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


def halved() -> Workload:
    """Gradients that float16 cannot hold, and a rate that would make up for them."""
    batches = [(x.half(), y) for x, y in blobs()]
    return sgd(mlp(4).half(), 6e4, batches, lambda model, batch: 3e-7 * classify(model, batch).float())


def residual() -> Workload:
    torch.manual_seed(0)
    model = nn.Sequential(*(Residual() for _ in range(16)), nn.Linear(16, 4))
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    return sgd(model, 0.01)


def convolutions(gain: float) -> Workload:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels in (1, 8, 8, 8, 8, 8):
        layers += [nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight)  # type: ignore[arg-type]
        layers[-2].weight.data.mul_(gain)  # type: ignore[union-attr, operator]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4))
    return sgd(model, 0.1, blobs(size=16, shape=(1, 6, 6)))


class Recurrent(nn.Module):
    def __init__(self, recurrent: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.RNN(16, 16, batch_first=True), nn.Linear(16, 4)
        self.cell.weight_hh_l0.data.copy_(recurrent * torch.eye(16))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(torch.stack([x] + [0 * x] * 15, 1))[0][:, -1])


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.GRU(16, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(torch.stack([x] + [0 * x] * 5, 1))[0][:, -1])


class Forgetting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.LSTM(16, 16, batch_first=True), nn.Linear(16, 4)
        self.cell.bias_ih_l0.data[16:32] = -5.0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(torch.stack([x] + [0 * x] * 9, 1))[0][:, -1])


class ForgettingCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.LSTMCell(16, 16), nn.Linear(16, 4)
        self.cell.bias_ih.data[16:32] = -5.0

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for one in [x] + [0 * x] * 9:
            state = self.cell(one, state)
        assert state is not None
        return self.head(state[0])


def embedded() -> Workload:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(8, 32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 8))
    for weight in model.parameters():
        nn.init.normal_(weight, std=30.0)
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(8, (64,), generator=generator) for _ in range(STEPS)]
    workload = adam(model, lr=0.02)
    workload.batches, workload.loss = batches, lambda model, batch: F.cross_entropy(model(batch), (batch + 1) % 8)
    return workload


# remedy: the training that it cures, and the most that may be left of the control's loss (of the measured one).
CASES: dict[str, tuple[Callable[[], Workload], float]] = {
    "sign turned": (partial(scaled_loss, -1.0), 0.5),
    "loss scaled": (partial(scaled_loss, 1e-7), 0.6),
    "squashed once": (partial(softmaxed, False), 0.95),
    "inputs cleaned": (broken_inputs, 0.5),
    "inputs standardized": (lambda: sgd(mlp(4), 0.1, blobs(scale=100.0)), 0.5),
    "inputs standardized by feature": (uneven_inputs, 0.5),
    "targets standardized": (regression, 0.3),
    "same shape": (crossed, 0.6),
    "batch_first=True": (lambda: adam(TimeFirst(), lr=0.01), 0.8),
    "no last activation": (out_of_reach, 0.8),
    "zero_grad": (uncleared, 0.6),
    "parameters added": (of_the_head, 0.9),
    "unfrozen": (frozen_head, 0.6),
    "minimized": (lambda: sgd(mlp(4), maximize=True), 0.5),
    "usual eps": (lambda: adam(mlp(4), lr=0.01, eps=1e4), 0.5),
    "usual momentum": (lambda: sgd(mlp(4), momentum=0.999), 0.6),
    "less weight decay": (lambda: sgd(mlp(4), weight_decay=5.0), 0.6),
    "one learning rate": (loud_head, 0.5),
    "plain optimizer": (decaying, 0.6),
    "biases at zero": (partial(biased, nn.ReLU, -20.0), 0.5),
    "less dropout": (dropped, 0.6),
    "forget gates opened": (lambda: adam(Forgetting(), lr=0.01), 0.8),
    "He initialization": (lambda: sgd(mlp(8, gain=0.1), 0.1), 0.7),
    "Glorot initialization": (lambda: sgd(mlp(8, nn.Tanh, "glorot", gain=0.05), 0.1), 0.6),
    "LeCun initialization": (lambda: sgd(mlp(8, nn.Identity, "glorot", gain=0.05), 0.1), 0.6),
    "GPT-2 initialization": (embedded, 0.5),
    "LSUV initialization": (lambda: sgd(mlp(8, gain=0.1), 0.1), 0.7),
    "ReLU for sigmoid": (lambda: sgd(mlp(6, nn.Sigmoid, "glorot"), 0.1), 0.6),
    "SiLU for sigmoid": (lambda: sgd(mlp(4, nn.Sigmoid, "glorot"), 0.1), 0.8),
    "leaky ReLU for relu": (partial(biased, nn.ReLU, -20.0), 0.5),
    "GELU for relu": (partial(biased, nn.ReLU, -20.0), 0.6),
    "batch normalization": (partial(convolutions, 0.1), 0.7),
    "layer normalization": (lambda: sgd(mlp(8, gain=0.5), 0.1), 0.7),
    "residual scaling": (residual, 0.9),
    "weights in float32": (halved, 0.6),
    "gradient clipping": (outliers, 0.8),
}


_PASTED = """{imports}

def train(given):
    with torch.enable_grad():  # the user's own lines read torch and nn, and a loss from outside
        assert nn and loss
    model, optimizer, batches = given.model, given.optimizer, given.batches
{lines}
    return model, batches, {loss}, optimizer
"""


def pasted(remedy: Remedy, workload: Workload) -> Workload:
    """What becomes of the user's names when they paste the code as they are told: imports on top of their file, lines
    into their function, whose loss is one of the file's."""
    parts = remedy.snippet
    lines = textwrap.indent(parts.lines, "    ")
    names: dict[str, Any] = {"torch": torch, "nn": nn, "loss": workload.loss}
    exec(_PASTED.format(imports=parts.imports, lines=lines, loss=remedy.loss), names)
    return Workload(*names["train"](workload))


@pytest.mark.parametrize("name", CASES)
def test_it_helps_and_so_does_the_pasted_code(name: str) -> None:
    build, left = CASES[name]
    workload = build()
    before = copy.deepcopy(workload.model.state_dict())
    found, remedies, _ = proposals(workload, seeds=SEEDS)
    remedy = remedies[name]
    trial = found.bench.try_(remedy)
    assert trial.verdict == "helped", (trial.effect, trial.why)
    assert trial.effect is not None
    control = min(trial.effect.control, trial.effect.start)
    assert trial.effect.remedy <= left * control
    assert trial.effect.high < 0
    assert all(torch.equal(one, before[key]) for key, one in workload.model.state_dict().items())
    finals = []
    for seed in range(SEEDS):
        mine = build()
        seed_everything(derived_seed(seed, "remedy"))
        with quiet():
            changed = pasted(remedy, mine)
            finals.append(run_arm(changed, list(mine.batches)[:STEPS], seed, found.bench.measure).final)
    assert math.prod(finals) ** (1 / SEEDS) == pytest.approx(trial.effect.remedy, rel=1e-6)


def test_forget_gates_of_a_cell_are_opened() -> None:
    found, remedies, _ = proposals(adam(ForgettingCell(), lr=0.01))
    remedy = remedies["forget gates opened"]
    trial = found.bench.try_(remedy)
    assert trial.helped and trial.effect is not None and trial.effect.remedy < 0.8 * trial.effect.control
    cell: Any = pasted(remedy, adam(ForgettingCell(), lr=0.01)).model.cell
    # log(10 - 1), for ten steps.
    assert torch.equal((cell.bias_ih + cell.bias_hh)[16:32], torch.full((16,), 2.2))


def test_recurrent_weights_become_orthogonal() -> None:
    workload = sgd(Recurrent(0.05), 0.3)
    found, remedies, _ = proposals(workload)
    trial = found.bench.try_(remedies["LeCun initialization"])
    assert trial.helped and trial.effect is not None and trial.effect.remedy < 0.8 * trial.effect.control
    changed = pasted(remedies["LeCun initialization"], workload)
    weight = changed.model.cell.weight_hh_l0.detach()  # type: ignore[union-attr]
    assert torch.allclose(weight @ weight.T, torch.eye(16), atol=1e-5)


@pytest.mark.parametrize(
    ("scheme", "std"),
    [("He", (2 / 300) ** 0.5), ("LeCun", 300**-0.5), ("Glorot", (2 / 500) ** 0.5), ("GPT-2", 0.02)],
)
def test_linear_layers_of_transformers_are_drawn_by_their_own_fans(scheme: str, std: float) -> None:
    layer = Conv1D(300, 200)
    code = code_for(nn.Sequential(nn.Linear(4, 300), layer), scheme)
    exec(code, {"model": nn.Sequential(layer)})
    assert float(layer.weight.detach().std()) == pytest.approx(std, rel=0.02)
    assert not layer.bias.any() and layer.weight.shape == (300, 200) and layer.weight.requires_grad
    assert "transformers import" not in code and "Conv1D" not in code_for(mlp(2), scheme)


def test_biases_that_the_code_does_not_reach_are_no_reason() -> None:
    _, remedies, _ = proposals(adam(Forgetting(), lr=0.01))
    assert "biases at zero" not in remedies


def test_softmax_inside_the_model_is_taken_out() -> None:
    found, remedies, _ = proposals(softmaxed(True))
    trial = found.bench.try_(remedies["squashed once"])
    # The loss of the control cannot fall below log(e + 3) - 1, that of the logits can.
    assert trial.helped and trial.effect is not None
    assert trial.effect.remedy < 0.7437 < trial.effect.control
    assert "loss-not-decreasing" in (found.bench.watch(trial).gone or [])


def test_what_cannot_be_compared_is_told() -> None:
    def sorted_by_class() -> Workload:
        samples = [(x, y) for xs, ys in blobs() for x, y in zip(xs, ys, strict=True)]
        samples.sort(key=lambda one: int(one[1]))
        parts = [samples[start : start + 16] for start in range(0, len(samples) - 15, 16)]
        batches = [(torch.stack([x for x, _ in one]), torch.stack([y for _, y in one])) for one in parts]
        return sgd(mlp(4), 0.3, batches)

    def no_logarithms() -> Workload:
        model = nn.Sequential(*mlp(4), nn.Softmax(1))
        loss = lambda model, batch: F.nll_loss(model(batch[0]), batch[1])  # noqa: E731 -- as users write it
        return Workload(model, blobs(), loss, torch.optim.Adam(model.parameters(), lr=1e-3))

    for build, name, words in [
        (sorted_by_class, "shuffled data", "shuffle=True"),
        (no_logarithms, "log-probabilities", "log_softmax"),
    ]:
        _, remedies, advice = proposals(build())
        assert name not in remedies
        told = advice[name]
        assert words in told.code and told.why


def test_what_is_added_with_what_is_unfrozen_is_said() -> None:
    model = mlp(4)
    model[:-1].requires_grad_(False)
    workload = Workload(model, blobs(), classify, torch.optim.SGD(model[:-1].parameters(), lr=0.3))
    _, remedies, _ = proposals(workload)
    assert "unfrozen" not in remedies
    both = remedies["parameters added and unfrozen"]
    assert (
        both.change
        == "Hand the optimizer the 2 parameters that it lacks, and unfreeze and train the 6 that are frozen."
    )
    assert (both.parts, both.direct, remedies["parameters added"].direct) == (2, False, True)
    optimizer = pasted(both, workload).optimizer
    assert optimizer is not None and len(optimizer.param_groups[0]["params"]) == 8


def test_two_wrappers_of_a_loss_wrap_each_other() -> None:
    workload = regression()
    _, remedies, _ = proposals(workload)
    pair = combined(remedies["targets standardized"], remedies["loss scaled"])
    assert (pair.loss, pair.code.count("def loss"), pair.code.count(" loss(")) == ("loss_in_units", 1, 1)
    batch = next(iter(workload.batches))
    deviation = float(torch.cat([y for _, y in workload.batches]).std())
    factor = float(re.findall(r"\* (\d.*e-\d+)", pair.code)[0])
    changed = pasted(pair, workload)
    both = float(changed.loss(changed.model, batch).detach())
    assert both == pytest.approx(factor * float(workload.loss(changed.model, batch).detach()) / deviation**2, rel=1e-4)


@pytest.mark.parametrize(
    ("code", "imports", "names"),
    [
        ("import torch\n\nmodel = torch.compile(model)\n", "import torch", ("model",)),
        ("def scaled(model, batch):\n    return loss(model, batch)\n", "", ("loss",)),
        ("class A:\n    def f(self, loss):\n        return [loss for _ in batches]\n", "", ("batches",)),
        ("optimizer.register(lambda *_: model.zero_grad())\n", "", ("model", "optimizer")),
    ],
)
def test_which_names_of_the_user_it_reads(code: str, imports: str, names: tuple[str, ...]) -> None:
    parts = snippet(code)
    assert (parts.imports, parts.names) == (imports, names)
    assert "import" not in parts.lines and parts.lines in code
