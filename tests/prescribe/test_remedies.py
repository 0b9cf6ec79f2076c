"""Every remedy on a training that it cures; and that the code which is printed does by itself what was measured."""

from __future__ import annotations

import copy
import math
import re
import textwrap
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diag.prescribe.arm import run_arm, seed_everything
from diag.prescribe.initialization import code_for
from diag.prescribe.remedy import Remedy, combined
from diag.prescribe.snippet import snippet
from diag.train.seeds import derived_seed
from diag.train.workload import Workload
from tests.prescribe.cases import STEPS, blobs, classify, mlp, proposals, quiet, sgd
from tests.prescribe.sick import CASES, Forgetting, ForgettingCell, Recurrent, adam, regression, softmaxed
from tests.recipes.test_inits import Conv1D

SEEDS = 3


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
