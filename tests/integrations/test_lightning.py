"""The Lightning callback, in Trainers of the real package."""

from __future__ import annotations

import copy
import importlib
import logging
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diag.errors import DiagError, MissingExtraError, TargetError
from diag.report.diagnosis import Diagnosis
from tests.integrations.networks import healthy_network, samples, sick_network
from tests.probe.by_hand import rows_of
from tests.probe.conftest import assert_nothing_left

lightning = pytest.importorskip("lightning.pytorch", reason="the extra `lightning` is not installed")

from diag.integrations.ending import FindingsError  # noqa: E402 (after the package is known to be there)
from diag.integrations.lightning import DiagCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec:FutureWarning",  # of torch 2.13, for what Lightning 2.5 calls
    # Lightning's advice, which the tests need not take
    "ignore:You defined a `validation_step` but have no",
    "ignore:Checkpoint directory .* exists and is not empty",
)

BATCH, BATCHES = 32, 10


class Module(lightning.LightningModule):
    """A network and its loss, which notes what it was; `fails_at` a batch it raises."""

    def __init__(self, network: nn.Module | None = None, error: type[BaseException] | None = None) -> None:
        super().__init__()
        self.net = healthy_network() if network is None else network
        self.losses: list[float] = []
        self.error = error

    def loss(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.losses.append(float(loss.detach()))
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.error is not None and batch_idx == 5:
            raise self.error("here")
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.net(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)


class Searching(Module):
    """Its optimizer runs the closure several times in a step."""

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


class Manual(Module):
    """Two optimizers by hand, of one pass or of one each."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.head, self.passes = nn.Linear(4, 4), passes

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizers = self.optimizers()
        for one in range(self.passes):
            for optimizer in optimizers:
                optimizer.zero_grad()
            self.manual_backward(F.cross_entropy(self.head(self.net(batch[0])), batch[1]))
            for optimizer in optimizers if self.passes == 1 else optimizers[one : one + 1]:
                optimizer.step()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), 0.05), torch.optim.SGD(self.head.parameters(), 0.05)


def loader(shuffle: bool = True) -> Any:
    data = torch.utils.data.TensorDataset(*samples(BATCH * BATCHES))
    return torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=shuffle)


def trainer(*callbacks: Any, package: Any = lightning, **options: Any) -> Any:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    defaults = {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "enable_model_summary": False}
    return package.Trainer(callbacks=list(callbacks), **{**quiet, **defaults, **options})


def fit(model: Any, *callbacks: Any, validate: bool = False, **options: Any) -> Any:
    torch.manual_seed(1)
    used = trainer(*callbacks, **options)
    used.fit(model, loader(), loader(shuffle=False) if validate else None)
    return used


def seeded(make: Any, *arguments: Any) -> Any:
    torch.manual_seed(0)
    return make(*arguments)


def diagnosis_of(callback: DiagCallback) -> Diagnosis:
    assert callback.diagnosis is not None
    return callback.diagnosis


@pytest.fixture(autouse=True)
def undisturbed() -> Any:
    yield
    assert_nothing_left()


def test_a_sick_network_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Diagnosis] = []
    callback = DiagCallback(every=5, html=tmp_path / "report.html", writer=seen.append)
    fit(seeded(Module, seeded(sick_network)), callback)
    found = diagnosis_of(callback)
    assert [(one.rule, one.severity, one.site) for one in found.findings] == [("vanishing-gradient", "error", "net.22")]
    assert seen == [found]
    assert "vanishing-gradient" in (tmp_path / "report.html").read_text()
    (record,) = [one for one in caplog.records if one.name == "diag"]
    assert record.levelno == logging.WARNING
    assert "error vanishing-gradient at net.22: The gradient's norm falls" in record.getMessage()


def test_a_healthy_network_and_no_step_of_the_validation(caplog: pytest.LogCaptureFixture) -> None:
    callback = DiagCallback(every=3)
    module = seeded(Module)
    fit(module, callback, validate=True)
    found = diagnosis_of(callback)
    assert found.findings == []
    assert found.coverage["steps"] == found.coverage["training_passes"] + 13 == 2 * BATCHES
    assert rows_of(found.trace, "activation")["step"].unique().tolist() == list(range(0, 20, 3))
    # Of two epochs; the two batches of the sanity check come before the watch.
    assert found.coverage["evaluation_passes"] == 2 * BATCHES
    assert found.trace.steps["loss"].tolist() == pytest.approx(module.losses, rel=1e-6)
    assert found.title == "Module"
    assert not [one for one in caplog.records if one.name == "diag"]


MODES: dict[str, tuple[int, type[Module], tuple[Any, ...], dict[str, Any]]] = {
    "automatic": (1, Module, (), {"gradient_clip_val": 0.5}),
    "accumulating": (2, Module, (), {"accumulate_grad_batches": 3}),
    "line search": (1, Searching, (), {}),
    "two optimizers, one pass": (2, Manual, (1,), {}),
    "two optimizers in turn": (2, Manual, (2,), {}),
    "bfloat16": (1, Module, (), {"precision": "bf16-mixed"}),
}
"""every, the module's class and arguments, options of the Trainer."""


@pytest.mark.parametrize("mode", MODES)
def test_training_is_bit_identical_and_every_parameter_measured(mode: str) -> None:
    every, make, arguments, options = MODES[mode]
    ends = []
    for callbacks in ((), (DiagCallback(every=every),)):
        module = seeded(make, *arguments)
        fit(module, *callbacks, validate=True, **options)
        ends.append((module.state_dict(), torch.get_rng_state()))
    (plain, plain_random), (watched, watched_random) = ends
    assert all(torch.equal(plain[name], watched[name]) for name in plain)
    assert torch.equal(plain_random, watched_random)
    found = diagnosis_of(callbacks[0])
    names = {name for name, _ in module.named_parameters()}
    assert set(rows_of(found.trace, "weight_gradient")["site"]) == names
    assert set(rows_of(found.trace, "update")["site"]) == names
    assert [one for one in found.findings if one.severity == "error" or one.rule == "missing-gradient"] == []


def test_the_loss_of_a_step_over_several_batches_is_their_mean() -> None:
    callback, module = DiagCallback(every=2), seeded(Module)
    fit(module, callback, max_epochs=1, accumulate_grad_batches=4)
    steps = diagnosis_of(callback).trace.steps
    losses = module.losses
    # Lightning divides by 4 throughout, also the two that are left over.
    assert steps["loss"].tolist() == pytest.approx([sum(losses[i : i + 4]) / 4 for i in (0, 4, 8)], rel=1e-6)
    assert steps["backward_passes"].tolist() == [4, 4, 2]


def test_the_loss_of_a_line_search_is_its_first() -> None:
    callback, module = DiagCallback(), seeded(Searching)
    fit(module, callback, max_epochs=1)
    losses = diagnosis_of(callback).trace.steps["loss"].tolist()
    assert len(module.losses) == 3 * len(losses)  # three evaluations in each of the ten steps
    assert losses == pytest.approx(module.losses[::3], rel=1e-6)


def test_half_precision_with_a_loss_scale_is_measured_unscaled() -> None:
    from lightning.pytorch.plugins import MixedPrecision

    def trace_of(**options: Any) -> Any:
        callback = DiagCallback(every=1)
        fit(seeded(Module), callback, max_epochs=1, **options)
        return diagnosis_of(callback).trace

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    plain, half = trace_of(), trace_of(plugins=MixedPrecision("16-mixed", "cpu", scaler))
    assert half.steps["loss"].tolist() == pytest.approx(plain.steps["loss"].tolist(), rel=2e-2)
    for kind in ("gradient", "weight_gradient"):
        first = [rows_of(one, kind, step=0).set_index("site")["rms"] for one in (plain, half)]
        assert first[1].to_dict() == pytest.approx(first[0].to_dict(), rel=3e-2)


def test_checkpoints_hold_nothing_of_it_and_load(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    callback = DiagCallback(every=2)
    module = seeded(Module)
    saving = ModelCheckpoint(tmp_path, filename="last", save_top_k=-1)
    fit(module, callback, saving, enable_checkpointing=True)
    path = tmp_path / "last.ckpt"
    stored = torch.load(path, weights_only=False)
    assert stored["state_dict"].keys() == module.state_dict().keys()
    assert [name for name in stored["callbacks"] if "iag" in name] == []
    loaded = Module.load_from_checkpoint(path)
    assert all(torch.equal(one, module.state_dict()[name]) for name, one in loaded.state_dict().items())
    before = copy.deepcopy(diagnosis_of(callback).trace.steps)
    again = trainer(callback, saving, max_epochs=3, enable_checkpointing=True)
    again.fit(loaded, loader(), ckpt_path=path)
    assert len(before) == 2 * BATCHES
    assert len(diagnosis_of(callback).trace.steps) == BATCHES  # a new training, not more of the old


def test_module_and_callback_pickle_afterwards_and_meanwhile() -> None:
    copies: list[Any] = []

    class Copier(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
            copies.append(copy.deepcopy(trainer.callbacks[0]))

    callback = DiagCallback()
    module = seeded(Module)
    fit(module, callback, Copier(), max_epochs=1)
    assert [one.diagnosis for one in copies] == [None] * BATCHES
    twin = pickle.loads(pickle.dumps(module))
    assert twin.state_dict().keys() == module.state_dict().keys()
    assert not twin._forward_hooks
    restored = pickle.loads(pickle.dumps(callback))
    assert restored.diagnosis.trace.frame.equals(diagnosis_of(callback).trace.frame)


@pytest.mark.parametrize(("error", "reported"), [(ValueError, ValueError), (KeyboardInterrupt, SystemExit)])
def test_an_exception_ends_the_watch_and_is_not_hidden(
    error: type[BaseException], reported: type[BaseException]
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    seen: list[Diagnosis] = []
    callback = DiagCallback(every=1, writer=seen.append, fail_on="warning")
    with pytest.raises(reported) as caught:
        fit(seeded(Module, None, error), callback)
    signal.signal(signal.SIGINT, handler)  # Lightning has every further Ctrl+C ignored
    assert not isinstance(caught.value, DiagError)
    assert_nothing_left()
    steps = diagnosis_of(callback).trace.steps
    assert steps["optimizer"].tolist() == [0] * 5 + [-1]  # the sixth was begun and not ended
    assert seen == [diagnosis_of(callback)]


def test_a_report_that_fails_does_not_hide_the_exception(caplog: pytest.LogCaptureFixture) -> None:
    def writer(diagnosis: Diagnosis) -> None:
        raise DiagError("cannot write it")

    callback = DiagCallback(every=1, writer=writer)
    with pytest.raises(ValueError, match="here"):
        fit(seeded(Module, None, ValueError), callback)
    assert "and its report failed too: cannot write it" in caplog.text


def test_fail_on_raises_after_the_checkpoint(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    callback = DiagCallback(every=5, fail_on="error")
    saving = ModelCheckpoint(tmp_path, filename="last")
    message = r"fail_on='error', and the training has error vanishing-gradient at net\.22: .*; all of it is in"
    with pytest.raises(FindingsError, match=message):
        fit(seeded(Module, seeded(sick_network)), callback, saving, enable_checkpointing=True)
    assert (tmp_path / "last.ckpt").is_file()
    fit(seeded(Module), callback)
    assert diagnosis_of(callback).healthy


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"every": 0}, TargetError, "every is a whole number of steps from 1, got 0"),
        ({"fail_on": "eror"}, DiagError, r"fail_on is one of .*, got 'eror' \(did you mean 'error'\?\)"),
        ({"html": "."}, DiagError, "is a folder: expected the name of a file"),
        ({"writer": 3}, DiagError, "a W&B run, or a function, got int"),
    ],
)
def test_wrong_options(options: dict[str, Any], kind: type[DiagError], message: str) -> None:
    with pytest.raises(kind, match=message):
        DiagCallback(**options)


def test_without_lightning_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "diag.integrations.lightning")
    with pytest.raises(MissingExtraError, match=r"needs lightning, .*pip install 'diag\[lightning\]'"):
        import diag.integrations.lightning  # noqa: F401


@pytest.mark.slow
@pytest.mark.parametrize("alone", [False, True])
def test_the_older_package(alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pytorch_lightning` takes the newer package's callback, and has its own where it is the one that is loaded."""
    package = pytest.importorskip("pytorch_lightning")
    kind = DiagCallback
    if alone:
        monkeypatch.delitem(sys.modules, "lightning.pytorch")
        monkeypatch.delitem(sys.modules, "diag.integrations.lightning")
        kind = importlib.import_module("diag.integrations.lightning").DiagCallback
    assert issubclass(kind, package.Callback) == alone

    class Older(package.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = seeded(sick_network)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.05)

    callback = kind(every=5)
    trainer(callback, package=package, max_epochs=1).fit(Older(), loader())
    assert [one.rule for one in diagnosis_of(callback).findings] == ["vanishing-gradient"]
    assert len(diagnosis_of(callback).trace.steps) == BATCHES
