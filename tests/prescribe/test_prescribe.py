"""Whole prescriptions: of kinds of models, of what cannot be tried, of limits, and as JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import diag
from diag.errors import DiagError
from diag.prescribe.mistakes import is_mistaken
from diag.prescribe.prescribe import Prescription, prescribe
from diag.prescribe.remedy import FAMILIES
from diag.train.bare import bare_workload, parse_shapes
from diag.train.workload import Workload
from tests.prescribe.cases import blobs, mlp, proposals, sgd
from tests.prescribe.sick import adam, biased, convolutions, scaled_loss, softmaxed, uncleared
from tests.prescribe.test_copies import Locked

QUICK: dict[str, Any] = {"steps": 30, "seeds": 3}


def names(found: Prescription) -> list[str]:
    return [one.remedy.name for one in found.trials]


def advice(found: Prescription) -> dict[str, str]:
    return {one.name: one.why for one in found.advice}


def test_healthy_is_left_alone() -> None:
    found = prescribe(sgd(mlp(4)), **QUICK)
    assert found.watched.clean
    assert (found.trials, found.controls, found.best, found.advice) == ([], [], None, [])


def test_what_is_doubtful_is_tried_though_nothing_was_found() -> None:
    found = prescribe(adam(mlp(2), lr=0.01, eps=0.1), **QUICK, most=2)
    assert found.watched.clean
    assert "usual eps" in names(found)
    assert prescribe(adam(mlp(2), lr=0.01), **QUICK, most=2).trials == []


@pytest.mark.parametrize(
    ("optimizer", "options", "mistaken"),
    [
        (torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.11}, True),
        (torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.09}, False),
        (torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 9.0}, False),
        (torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 11.0}, True),
        (torch.optim.Adam, {"lr": 1e-3, "weight_decay": 0.09}, False),
        (torch.optim.Adam, {"lr": 1e-6, "weight_decay": 0.11}, True),
        (torch.optim.NAdam, {"weight_decay": 0.11, "decoupled_weight_decay": True}, False),
        (torch.optim.Adam, {"eps": 0.1}, True),
        (torch.optim.AdamW, {"betas": (0.9, 0.1)}, True),
        (torch.optim.Adam, {"betas": (0.9, 0.95)}, False),
        (torch.optim.Adagrad, {}, False),
        (torch.optim.SGD, {"lr": 0.1, "maximize": True}, True),
    ],
)
def test_which_options_are_mistaken(
    optimizer: type[torch.optim.Optimizer], options: dict[str, Any], mistaken: bool
) -> None:
    assert is_mistaken(optimizer(mlp(2).parameters(), **options)) == mistaken


def test_hidden_sigmoids_are_tried_though_nothing_was_found() -> None:
    found = prescribe(sgd(mlp(2, nn.Sigmoid), 0.5), **QUICK, most=2)
    assert found.watched.clean
    assert {one.remedy.name for one in found.trials} <= {"ReLU for sigmoid", "SiLU for sigmoid"}
    assert len(found.trials) == 2


def test_where_targets_are_to_blame_it_says_to_look_at_them() -> None:
    batches = [(x.cumsum(1), y.roll(1)) for x, y in blobs()]
    found = prescribe(sgd(mlp(3), 0.1, batches), steps=30, seeds=2, most=1)
    assert "unrelated-targets" in found.watched.rules("error", "warning")
    assert "pairs of input and target" in advice(found)


def test_healthy_is_tried_if_asked_for() -> None:
    workload = sgd(mlp(4), 0.02)
    found = prescribe(workload, **QUICK, everything=True, most=2)
    assert found.watched.clean
    assert len(found.controls) == 3
    assert len(found.trials) == 2
    first = found.trials[0]
    # The rate was low: a range test finds a better one, though nothing was wrong.
    assert first.helped and "learning rate" in first.remedy.name and first.gone == []


def test_the_cause_is_found_and_its_consequences_go() -> None:
    found = prescribe(biased(nn.ReLU, -20.0), **QUICK, most=5)
    assert found.best is not None and found.best.effect is not None
    assert found.best.remedy.name == "biases at zero"
    assert found.best.gone is not None and "dead-units" in found.best.gone
    assert (found.best.left, found.best.new) == ([], [])
    assert found.best.effect.remedy < 0.5 * found.best.effect.control
    assert names(found)[0] == "biases at zero" and len(found.trials) == 5
    ends = [one.effect.remedy for one in found.trials if one.helped and one.effect is not None]
    assert ends[1:] == sorted(ends[1:])


@pytest.mark.nightly
@pytest.mark.slow
def test_two_faults_need_two_remedies() -> None:
    model = mlp(6, nn.Sigmoid, "glorot")
    found = prescribe(sgd(model, 1e-5), **QUICK)
    assert found.best is not None and found.best.effect is not None
    assert found.best.remedy.family == "combination"
    assert "learning rate" in found.best.remedy.name
    assert found.best.effect.remedy < 0.7 * found.best.effect.control
    alone = [one for one in found.trials if one.remedy.family != "combination" and one.helped]
    assert all(one.effect is not None and one.effect.remedy > found.best.effect.remedy for one in alone)


def test_a_wrong_sign_is_measured_the_right_way_up() -> None:
    found = prescribe(scaled_loss(-1.0), **QUICK, most=2)
    assert found.best is not None and found.best.effect is not None
    assert found.best.remedy.name == "sign turned"
    assert 0 < found.best.effect.remedy < 0.5
    assert found.notes == ["all trainings are compared by minus the loss, whose sign is turned"]


def test_a_loss_that_squashes_twice_is_measured_without() -> None:
    found = prescribe(softmaxed(False), **QUICK, most=1)
    tried = {one.remedy.name: one for one in found.trials}
    trial = tried["squashed once"]
    # log(e + 3) - 1 = 0.7437 is the least that the user's loss could show.
    assert trial.helped and trial.effect is not None and trial.effect.remedy < 0.5
    assert found.notes == ["all trainings are compared by the cross-entropy of the logits"]


class Custom(nn.Module):
    """No loop over layers, functional activations, a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.twice, self.head = nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 4)
        for layer in (self.stem, self.twice, self.head):
            nn.init.normal_(layer.weight, std=0.002)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.stem(x))
        x = torch.sigmoid(self.twice(torch.sigmoid(self.twice(x))))
        return self.head(x)


def test_a_custom_module_says_what_it_could_not_try() -> None:
    found = prescribe(sgd(Custom()), **QUICK)
    told = advice(found)
    assert told["ReLU for sigmoid"] == "sigmoid is called as a function in forward(): replace it there"
    assert "residual scaling" not in names(found)
    assert {"Glorot initialization", "LSUV initialization"} <= set(names(found))


def test_shared_modules() -> None:
    torch.manual_seed(0)
    act, layer = nn.Sigmoid(), nn.Linear(32, 32)
    model = nn.Sequential(nn.Linear(16, 32), act, layer, act, layer, act, layer, act, nn.Linear(32, 4))
    found = prescribe(sgd(model), **QUICK, most=2)
    assert found.trials
    assert [one for one in model if isinstance(one, nn.Sigmoid)] == [act] * 4
    swapped = next(one for one in found.trials if one.remedy.name == "ReLU for sigmoid")
    changed = swapped.remedy.apply(sgd(model)).model
    assert [type(one).__name__ for one in changed][1::2] == ["ReLU"] * 4
    assert changed[2] is changed[4] is changed[6]  # type: ignore[index]


@pytest.mark.nightly
@pytest.mark.slow
def test_a_convolution_network() -> None:
    found = prescribe(convolutions(0.1), **QUICK)
    assert found.best is not None and found.best.effect is not None
    assert found.best.effect.remedy < 0.6 * found.best.effect.control
    assert "batch normalization" in names(found)


@pytest.mark.slow
def test_a_model_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=20, n_embd=32, n_layer=2, n_head=2, n_positions=16, resid_pdrop=0.0, bos_token_id=1, eos_token_id=2
    )
    model = transformers.GPT2LMHeadModel(config)
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randint(20, (16, 1), generator=generator) for _ in range(30)]
    batches = [(one + torch.arange(12)) % 20 for one in starts]

    def loss(model: nn.Module, tokens: Tensor) -> Tensor:
        return model(input_ids=tokens, labels=tokens).loss

    workload = Workload(model, batches, loss, torch.optim.AdamW(model.parameters(), lr=1.0))
    before = {name: one.clone() for name, one in model.state_dict().items()}
    found = prescribe(workload, **QUICK)
    assert found.best is not None and found.best.effect is not None
    assert "learning rate" in found.best.remedy.name
    assert found.best.effect.remedy < 0.5 * found.best.effect.start
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_what_cannot_be_copied() -> None:
    model = Locked()
    for layer in model.body:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.bias, -20.0)
    found = prescribe(sgd(model), **QUICK)
    why = "Locked cannot be copied (TypeError: cannot pickle '_thread.lock' object)"
    assert found.notes == [f"{why}: changes of its structure were not tried"]
    told = advice(found)
    assert told["leaky ReLU for relu"] == told["batch normalization"] == why
    assert not any(one.remedy.surgery for one in found.trials)
    assert found.best is not None and found.best.remedy.name.startswith("biases at zero")
    assert torch.equal(model.body[0].bias, torch.full((32,), -20.0))  # type: ignore[arg-type]


def test_a_remedy_that_does_not_fit_is_told_and_not_fatal() -> None:
    class Strict(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            assert isinstance(self[0], nn.Sequential) and type(self[0][1]) is nn.Sigmoid, "what did you do?"
            return super().forward(x)

    body = mlp(6, nn.Sigmoid, "glorot")
    found = prescribe(sgd(Strict(body)), **QUICK, most=2)
    assert "AssertionError: what did you do?" in advice(found)["ReLU for sigmoid"]
    assert found.trials


def test_a_family_that_fails_is_told_and_not_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(patient: Any) -> Any:
        raise ZeroDivisionError("by zero")

    monkeypatch.setitem(FAMILIES, "clipping", broken)
    found = prescribe(biased(nn.ReLU, -20.0), **QUICK, most=1)
    assert advice(found)["clipping"] == "ZeroDivisionError: by zero"
    assert found.best is not None


def test_without_an_optimizer_it_is_judged_by_findings() -> None:
    model = mlp(12, nn.Tanh, "glorot", gain=0.1)
    found = prescribe(bare_workload(model, parse_shapes("32x16")), **QUICK, most=2)
    assert not found.watched.healthy
    assert found.controls == []
    assert found.best is not None and found.best.effect is None
    assert found.best.gone == found.watched.rules("error", "warning")
    assert "Glorot initialization" in [one.remedy.name for one in found.trials if one.helped]
    assert not any("learning rate" in name or "clipping" in name for name in names(found))


def test_without_an_optimizer_no_code_names_one() -> None:
    model = mlp(12, nn.Tanh, "glorot", gain=0.1)
    found, remedies, _ = proposals(bare_workload(model, parse_shapes("32x16")))
    assert {"Glorot initialization", "ReLU for tanh", "batch normalization", "layer normalization"} <= set(remedies)
    for remedy in remedies.values():
        assert "optimizer" not in remedy.code and "group" not in remedy.code
        with found.bench.source.fresh() as lent:
            changed = remedy.apply(lent)
            assert math.isfinite(float(changed.loss(changed.model, found.bench.batches[0]).detach()))


def test_number_and_time_are_limits() -> None:
    found = prescribe(biased(nn.ReLU, -20.0), **QUICK, most=2)
    assert len(found.trials) == 2
    assert "learning rate" in found.untried
    late = prescribe(biased(nn.ReLU, -20.0), **QUICK, budget=0.0)
    assert late.trials == []
    assert "biases at zero" in late.untried
    assert late.notes == ["the time was up before everything was tried"]


def test_progress_is_told() -> None:
    calls: list[tuple[int, int]] = []
    found = prescribe(uncleared(), **QUICK, most=2, progress=lambda done, total, loss: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    assert len(found.trials) == 2


def test_few_batches_are_used_again_and_an_iterator_once() -> None:
    few = prescribe(biased(nn.ReLU, -20.0), steps=20, seeds=2, most=1)
    workload = biased(nn.ReLU, -20.0)
    workload.batches = iter(blobs(20))
    once = prescribe(workload, steps=20, seeds=2, most=1)
    assert few.trials[0].effect == once.trials[0].effect
    workload.batches = blobs(3)
    assert prescribe(workload, steps=20, seeds=2, most=1).trials[0].effect is not None


@pytest.mark.parametrize(("steps", "judged"), [(5, 30), (30, 30), (50, 50)])
def test_as_many_steps_are_judged_as_are_trained(steps: int, judged: int) -> None:
    def grows(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        group = optimizer.param_groups[0]
        group["taken"] = group.get("taken", 0) + 1
        group["lr"] = 0.05 if group["taken"] < 35 else 1e6

    workload = sgd(mlp(3), 0.05)
    assert workload.optimizer is not None
    workload.optimizer.register_step_post_hook(grows)
    found = prescribe(workload, steps=steps, seeds=2, most=1)
    assert found.steps == steps
    # At 1e6 it diverges, and is watched no further.
    assert (found.watched.trace.coverage["steps"] > 34) == (judged == 50)
    assert found.watched.trace.coverage["steps"] == judged or judged == 50
    assert (found.watched.clean, bool(found.trials)) == (judged == 30, judged == 50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 4}, "steps from 5"),
        ({"seeds": 0}, "seeds and most from 1"),
        ({"most": 0}, "seeds and most from 1"),
        ({"steps": "x"}, "got 'x', 3 and 8"),
        ({"seeds": 1.5}, "got 60, 1.5 and 8"),
        ({"budget": "x"}, "seconds from 0, or None; got 'x'"),
        ({"budget": float("nan")}, "got nan"),
        ({"progress": 5}, "got int"),
    ],
)
def test_mistakes(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DiagError, match=message):
        prescribe(sgd(mlp(2)), **change)


def test_more_mistakes() -> None:
    with pytest.raises(DiagError, match="batches are empty"):
        prescribe(sgd(mlp(2), batches=[]))
    with pytest.raises(DiagError, match=r"takes a diag.Workload, got Sequential"):
        prescribe(mlp(2))  # type: ignore[arg-type]
    with pytest.raises(DiagError, match="the workload's loss failed: ValueError: no"):
        prescribe(sgd(mlp(2), loss=_fail))


def _fail(model: nn.Module, batch: Any) -> Tensor:
    raise ValueError("no")


def _finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _finite(one) for key, one in value.items())
    if isinstance(value, list):
        return all(map(_finite, value))
    return value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))


def test_json() -> None:
    found = prescribe(uncleared(), **QUICK, most=1)
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert _finite(content)
    assert content["schema"] == 1 and content["healthy"] is False
    assert content["findings"][0]["rule"] == "oversized-update"
    assert set(content) == {
        "schema", "healthy", "findings", "remedies", "advice", "untried", "notes", "control", "how", "coverage",
    }  # fmt: skip
    assert found.best is not None and found.best.effect is not None
    first = content["remedies"][0]
    assert {"change", "helped", "effect", "code"} <= set(first)
    assert (first["helped"], first["change"]) == (True, "Clear the gradients in every step.")
    assert first["effect"]["remedy"] == pytest.approx(found.best.effect.remedy)
    assert first["effect"]["low"] < first["effect"]["value"] < first["effect"]["high"] < 0
    assert (first["effect"]["seeds"], first["effect"]["confidence"]) == (3, 0.95)
    assert compile(first["code"], "code", "exec")
    assert (content["how"]["steps"], content["how"]["seeds"], len(content["control"])) == (30, 3, 3)


def test_it_is_public() -> None:
    assert diag.prescribe is prescribe
