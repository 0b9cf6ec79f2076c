"""The callback for the Trainer of transformers, in the real one."""

from __future__ import annotations

import copy
import gc
import json
import logging
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diag.errors import DiagError, MissingExtraError
from diag.report.diagnosis import Diagnosis
from tests.integrations.networks import samples, sick_network
from tests.probe.by_hand import rows_of
from tests.probe.conftest import assert_nothing_left

transformers = pytest.importorskip("transformers", reason="the extra `transformers` is not installed")
pytest.importorskip("accelerate", reason="the extra `transformers` is not installed whole")

from diag.integrations.ending import FindingsError  # noqa: E402 (after the package is known to be there)
from diag.integrations.transformers import DiagCallback  # noqa: E402

STEPS, LENGTH = 20, 24
TEXT = "the quick brown fox jumps over the lazy dog. " * 40
VOCABULARY = sorted(set(TEXT))


class Sick(nn.Module):
    """Twelve sigmoid layers in the form that the Trainer takes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = sick_network()

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.net(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def rows() -> list[dict[str, torch.Tensor]]:
    return [{"x": x, "labels": label} for x, label in zip(*samples(), strict=True)]


def sentences() -> list[dict[str, torch.Tensor]]:
    ids = torch.tensor([VOCABULARY.index(one) for one in TEXT])
    cut = [ids[i : i + LENGTH] for i in range(0, len(ids) - LENGTH, 8)]
    return [{"input_ids": one, "labels": one} for one in cut]


def gpt2() -> Any:
    torch.manual_seed(0)
    size = {"vocab_size": len(VOCABULARY), "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": LENGTH}
    config = transformers.GPT2Config(**size, bos_token_id=0, eos_token_id=0, loss_type="ForCausalLM")
    return transformers.GPT2LMHeadModel(config)


def sick() -> Sick:
    torch.manual_seed(0)
    return Sick()


def trainer(model: nn.Module, folder: Path, *callbacks: Any, kind: Any = transformers.Trainer, **options: Any) -> Any:
    quiet: dict[str, Any] = {"report_to": [], "disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no"}
    small = {"max_steps": STEPS, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "use_cpu": True}
    arguments = transformers.TrainingArguments(str(folder), seed=1, **{**quiet, **small, **options})
    data = rows() if isinstance(model, Sick) else sentences()
    return kind(model, arguments, train_dataset=data, eval_dataset=data[:16], callbacks=list(callbacks))


def diagnosis_of(callback: DiagCallback) -> Diagnosis:
    assert callback.diagnosis is not None
    return callback.diagnosis


@pytest.fixture(autouse=True)
def undisturbed() -> Iterator[None]:
    yield
    assert_nothing_left()


def test_a_sick_network_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Diagnosis] = []
    callback = DiagCallback(every=5, html=tmp_path / "report.html", writer=seen.append)
    trainer(sick(), tmp_path, callback).train()
    assert_nothing_left()  # before the diagnosis is read, which would end the watch too
    found = diagnosis_of(callback)
    assert [(one.rule, one.severity, one.site) for one in found.findings] == [("vanishing-gradient", "error", "net.22")]
    assert seen == [found]
    assert "vanishing-gradient" in (tmp_path / "report.html").read_text()
    (record,) = [one for one in caplog.records if one.name == "diag"]
    assert (record.levelno, record.getMessage().splitlines()[0]) == (logging.WARNING, "diag: Sick: 1 error")


def test_a_healthy_gpt2_with_accumulation_and_evaluation(tmp_path: Path) -> None:
    losses: list[float] = []

    class Noting(transformers.Trainer):  # type: ignore[misc, name-defined]
        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            losses.append(float(loss := super().training_step(*args, **kwargs)))
            return loss

    callback = DiagCallback(every=3)
    options = {"gradient_accumulation_steps": 2, "eval_strategy": "steps", "eval_steps": 5}
    trainer(gpt2(), tmp_path, callback, kind=Noting, **options).train()
    found = diagnosis_of(callback)
    assert [one for one in found.findings if one.severity != "note"] == []
    assert found.coverage["steps"] == STEPS
    assert found.coverage["evaluation_passes"] == 4 * 2
    assert rows_of(found.trace, "activation")["step"].unique().tolist() == list(range(0, STEPS, 3))
    steps = found.trace.steps
    assert steps["backward_passes"].tolist() == [2] * STEPS
    assert steps["optimizer"].tolist() == [0] * STEPS  # the optimizer itself, not the wrapper that was announced
    assert steps["loss"].tolist() == pytest.approx([sum(losses[i : i + 2]) for i in range(0, 2 * STEPS, 2)], rel=1e-5)
    assert steps["loss"].iloc[-1] < 0.9 * steps["loss"].iloc[0]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2, "bf16": True}], ids=["plain", "bfloat16"])
def test_training_is_bit_identical(options: dict[str, Any], tmp_path: Path) -> None:
    ends = []
    for callbacks in ((), (DiagCallback(every=1),)):
        model = gpt2()
        trainer(model, tmp_path, *callbacks, **options).train()
        ends.append((model.state_dict(), torch.get_rng_state()))
    (plain, plain_random), (watched, watched_random) = ends
    assert all(torch.equal(plain[name], watched[name]) for name in plain)
    assert torch.equal(plain_random, watched_random)
    names = {name for name, _ in model.named_parameters()}
    assert set(rows_of(diagnosis_of(callbacks[0]).trace, "update")["site"]) == names


@pytest.mark.slow
def test_checkpoints_hold_nothing_of_it_and_load(tmp_path: Path) -> None:
    callback = DiagCallback(every=2)
    model = gpt2()
    trainer(model, tmp_path, callback, save_strategy="steps", save_steps=10).train()
    folder = tmp_path / "checkpoint-10"
    state = json.loads((folder / "trainer_state.json").read_text())
    assert "diag" not in json.dumps(state).lower()
    loaded = transformers.GPT2LMHeadModel.from_pretrained(folder)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    trainer(loaded, tmp_path / "again", callback).train(resume_from_checkpoint=str(folder))
    assert len(diagnosis_of(callback).trace.steps) == STEPS - 10  # a new training, the rest of the old
    # Resumed in the middle, it ends where the whole ended.
    assert all(torch.equal(one, model.state_dict()[name]) for name, one in loaded.state_dict().items())


def test_model_and_callback_pickle_afterwards_and_meanwhile(tmp_path: Path) -> None:
    copies: list[Any] = []

    class Copier(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            copies.append(copy.deepcopy(callback))

    callback = DiagCallback()
    model = sick()
    trainer(model, tmp_path, callback, Copier(), max_steps=3).train()
    assert [one.diagnosis for one in copies] == [None] * 3
    assert pickle.loads(pickle.dumps(model)).state_dict().keys() == model.state_dict().keys()
    restored = pickle.loads(pickle.dumps(callback))
    assert restored.diagnosis.trace.frame.equals(diagnosis_of(callback).trace.frame)


class Failing(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
    """Stops the training by an exception after five steps."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 5:
            raise self.error("here")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_within_the_callback_ends_the_watch(error: type[BaseException], tmp_path: Path) -> None:
    seen: list[Diagnosis] = []
    callback = DiagCallback(every=1, writer=seen.append, fail_on="warning")
    with pytest.raises(error, match="here"), callback:
        trainer(sick(), tmp_path, callback, Failing(error)).train()
    assert_nothing_left()
    assert seen == [diagnosis_of(callback)]
    assert len(seen[0].trace.steps) == 5


def test_an_exception_that_nobody_tells_of(tmp_path: Path) -> None:
    """The Trainer has no hook for it: reading the diagnosis ends the watch, and so does the next training."""
    callback = DiagCallback(every=1)
    with pytest.raises(ValueError, match="here"):
        trainer(sick(), tmp_path, callback, Failing(ValueError)).train()
    assert len(diagnosis_of(callback).trace.steps) == 5
    assert_nothing_left()
    with pytest.raises(ValueError, match="here"):
        trainer(sick(), tmp_path, callback, Failing(ValueError)).train()
    trainer(sick(), tmp_path, callback, max_steps=3).train()
    assert_nothing_left()
    assert len(diagnosis_of(callback).trace.steps) == 3


def test_a_callback_that_is_thrown_away_after_an_exception_takes_its_hooks_along(tmp_path: Path) -> None:
    callback = DiagCallback(every=1)
    try:
        trainer(sick(), tmp_path, callback, Failing(ValueError)).train()
    except ValueError:
        assert nn.modules.module._global_forward_hooks
    del callback
    gc.collect()
    assert_nothing_left()


def test_fail_on_raises_at_the_end(tmp_path: Path) -> None:
    callback = DiagCallback(every=5, fail_on="error")
    with pytest.raises(FindingsError, match=r"fail_on='error', and the training has error vanishing-gradient at net"):
        trainer(sick(), tmp_path, callback).train()
    assert len(diagnosis_of(callback).trace.steps) == STEPS
    trainer(gpt2(), tmp_path, callback).train()
    assert diagnosis_of(callback).healthy


def test_a_wrong_option() -> None:
    with pytest.raises(DiagError, match=r"fail_on is one of error, warning, never or None, got 'all'"):
        DiagCallback(fail_on="all")


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "diag.integrations.transformers")
    with pytest.raises(MissingExtraError, match=r"needs transformers, .*pip install 'diag\[transformers\]'"):
        import diag.integrations.transformers  # noqa: F401
