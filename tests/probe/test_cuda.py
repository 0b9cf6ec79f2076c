"""Watching on a GPU: the numbers are the host's, training is as unwatched, and nothing in a step waits."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import diag
from diag.probe.probe import Probe
from diag.stats import cuda
from diag.stats.twins import DEVICE_BLOCK, twin_rows
from diag.trace import Trace
from diag.trace.schema import FRAME

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning"),
]
NUMBERS = [one.name for one in FRAME if one.dtype == "float64"]


def mlp() -> nn.Module:
    first = nn.Sequential(nn.Linear(20, 130), nn.ReLU(), nn.LayerNorm(130))
    return nn.Sequential(*first, nn.Linear(130, 70), nn.Tanh(), nn.Linear(70, 5))


def cnn() -> nn.Module:
    first = nn.Sequential(nn.Conv2d(3, 24, 3, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True))
    return nn.Sequential(*first, nn.Conv2d(24, 40, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 5))


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.head = nn.Embedding(50, 32), nn.Linear(32, 5)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, activation="gelu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.tokens(x)).mean(1))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "mlp": (mlp, lambda: torch.randn(64, 20)),
    "cnn": (cnn, lambda: torch.randn(16, 3, 15, 15)),
    "cnn, channels last": (cnn, lambda: torch.randn(16, 3, 15, 15).to(memory_format=torch.channels_last)),
    "transformer": (Reader, lambda: torch.randint(50, (12, 9))),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Matrix products in full precision; kernels that fail are errors, not slower."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = before


@pytest.fixture(params=["kernel", "operations"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "operations":
        monkeypatch.setattr(cuda._Kernels, "found", None)
        monkeypatch.setattr(cuda._Kernels, "looked", True)
    else:
        pytest.importorskip("triton")
    return request.param


def made(name: str, device: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    build, batch = NETWORKS[name]
    model, inputs = build(), batch()
    target = torch.randint(5, (len(inputs),))
    model, inputs = model.to(device), inputs.to(device)
    if name.endswith("channels last"):
        model = model.to(memory_format=torch.channels_last)
    return model, inputs, target.to(device)


def trained(
    name: str, device: str, *, watched: bool = True, steps: int = 3, strict: bool = False
) -> tuple[nn.Module, Trace | None]:
    model, inputs, target = made(name, device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    watch = diag.watch(model, optimizer) if watched else None
    with watch if watch is not None else contextlib.nullcontext():
        torch.cuda.set_sync_debug_mode("error" if strict else "default")
        try:
            for _ in range(steps):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(inputs), target)
                loss.backward()
                optimizer.step()
                if watch is not None:
                    watch.step(loss)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return model, watch.trace if watch is not None else None


@every_network
def test_nothing_waits(name: str, way: str) -> None:
    _, trace = trained(name, "cuda", strict=True)
    assert trace is not None
    assert set(trace.frame["kind"]) == {"activation", "gradient", "weight", "weight_gradient", "update"}
    assert trace.frame["step"].nunique() == 3


@every_network
def test_the_numbers_are_those_of_the_host(name: str, way: str) -> None:
    (_, here), (_, there) = trained(name, "cpu", steps=1), trained(name, "cuda", steps=1)
    assert here is not None
    assert there is not None
    index = ["site", "call", "kind"]
    ours, theirs = (one.frame.set_index(index).sort_index() for one in (here, there))
    assert list(ours.index) == list(theirs.index)
    assert len(ours) > 20
    for number in NUMBERS:
        # What is zero in theory, such as the gradient of a key's bias, may be so in one rounding and not in the other.
        least = 0.02 if number == "zero_fraction" else 1e-5
        close = ours[number].combine(
            theirs[number], lambda a, b, least=least: (a != a and b != b) or abs(a - b) <= 2e-3 * abs(a) + least
        )
        assert close.all(), f"{number}: {ours[~close][number]} here, {theirs[~close][number]} on the GPU"


@every_network
def test_training_is_as_unwatched(name: str, way: str) -> None:
    (plain, _), (watched, _) = trained(name, "cuda", watched=False), trained(name, "cuda")
    for one, other in zip(plain.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_half_precision_with_a_scaled_loss() -> None:
    """Gradients are reported as the loss's own, and a step that the scaler leaves out is known as such."""
    found = {}
    for scale in (1.0, 1024.0):
        model, inputs, target = made("mlp", "cuda")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cuda", init_scale=scale)
        with diag.watch(model, optimizer) as watch:
            for step in range(3):
                optimizer.zero_grad()
                with torch.autocast("cuda", dtype=torch.float16):
                    loss = F.cross_entropy(model(inputs), target)
                if step == 2:
                    loss = loss * float("inf")
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                watch.step(loss)
        found[scale] = watch.trace.frame.query("step == 0 and kind == 'gradient'").set_index("site")["var"]
        assert watch.trace.frame.query("kind == 'update'")["step"].nunique() == 2
    assert len(found[1.0]) >= 6
    for site, value in found[1.0].items():
        assert found[1024.0][site] == pytest.approx(value, rel=2e-2), site


class Branches(nn.Module):
    """Three networks, each on a stream of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()) for _ in range(3)
        )
        self.streams = [torch.cuda.Stream() for _ in range(3)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs, here = [], torch.cuda.current_stream()
        for stream, part in zip(self.streams, self.parts, strict=True):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                outputs.append(part(x).square().mean())
        for stream in self.streams:
            here.wait_stream(stream)
        return torch.stack(outputs).sum()


def test_a_pass_on_several_streams() -> None:
    """Each stream has memory of its own to measure in; what was measured on all is in the trace."""
    torch.manual_seed(0)
    model, batch = Branches().cuda(), torch.randn(2048, 256).cuda()
    expected = {
        f"parts.{index}.{layer}": part[: layer + 1](batch).detach().double().var(correction=0).item()
        for index, part in enumerate(model.parts)
        for layer in range(4)
    }
    with diag.watch(model) as watch:
        for _ in range(5):
            model(batch).backward()
            watch.step()
    frame = watch.trace.frame.query("kind == 'activation'")
    for step in range(5):
        found = frame[frame["step"] == step].set_index("site")["var"]
        for site, value in expected.items():
            assert found[site] == pytest.approx(value, rel=1e-4), (step, site)


def test_a_compiled_model() -> None:
    model, inputs, target = made("mlp", "cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with diag.watch(model, optimizer) as watch:
            compiled = torch.compile(model)
            for _ in range(3):
                optimizer.zero_grad()
                loss = F.cross_entropy(compiled(inputs), target)
                loss.backward()
                optimizer.step()
                watch.step(loss)
    assert {"weight", "weight_gradient", "update"} <= set(watch.trace.frame["kind"])
    assert watch.trace.steps["loss"].notna().all()


@pytest.mark.parametrize("shape", [(1024, 1024), (3, 700_000), (1, 8), (600, 3, 30, 30)])
def test_equal_rows_are_found_in_parts(shape: tuple[int, ...]) -> None:
    w = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if len(w) > 2:
        w[-1] = w[0]
    if len(w) > 500:
        w[7:400:40] = w[1]
    twin_rows(torch.randn(3, 8).cuda())  # the first matrix product on a device takes memory of its own
    before = torch.cuda.memory_allocated()
    there = w.cuda()
    torch.cuda.reset_peak_memory_stats()
    found = twin_rows(there)
    taken = torch.cuda.max_memory_allocated() - before - there.nbytes
    assert float(found) == float(twin_rows(w)) == (13 if len(w) > 500 else 2 if len(w) > 2 else 0)
    assert taken < 8 * max(4 * DEVICE_BLOCK, 4 * w[0].numel()) + 2**20


@pytest.mark.parametrize("loss", [nn.NLLLoss(), nn.MSELoss(), nn.KLDivLoss(reduction="batchmean"), nn.L1Loss()])
def test_nothing_waits_for_what_stands_beside_a_loss(loss: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4), nn.LogSoftmax(1)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(32, 8).cuda()
    y = (torch.randint(4, (32,)) if isinstance(loss, nn.NLLLoss) else torch.rand(32, 4)).cuda()
    torch.cuda.synchronize()
    with diag.watch(model) as watch:
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                optimizer.zero_grad()
                loss(model(x), y).backward()
                optimizer.step()
                watch.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    sites = set(watch.trace.frame["site"])
    wanted = "[log_sum]" if isinstance(loss, nn.NLLLoss | nn.KLDivLoss) else "[target]"
    assert any(one.endswith(wanted) for one in sites), sites


def captured(watched: bool) -> tuple[torch.Tensor, list[str]]:
    """Trained by the replays of a graph that holds forward, backward and step, after three steps that are run."""
    torch.manual_seed(0)
    model = mlp().cuda()
    optimizer = torch.optim.Adam(model.parameters(), capturable=True)
    x, y = torch.randn(64, 20).cuda(), torch.randint(5, (64,)).cuda()

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    probe = Probe(discover=True)
    if watched:
        probe.start()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for _ in range(20):
        graph.replay()
    if watched:
        probe.stop()
    notes = probe.trace().coverage["notes"] if watched else []
    return torch.cat([one.detach().flatten() for one in model.parameters()]).cpu(), notes


def test_what_is_recorded_into_a_graph_is_left_alone() -> None:
    (plain, _), (seen, notes) = captured(False), captured(True)
    assert torch.equal(plain, seen)
    assert any("CUDA graph" in one for one in notes)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch's, of streams, watched or not
def test_graphed_callables_train_as_they_do_unwatched() -> None:
    def trained_by_parts(watched: bool) -> torch.Tensor:
        torch.manual_seed(0)
        body, head = mlp().cuda(), nn.Linear(5, 5).cuda()
        optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()])
        probe = Probe(discover=True)
        if watched:
            probe.start()
        x, y = torch.randn(64, 20).cuda(), torch.randint(5, (64,)).cuda()
        graphed = torch.cuda.make_graphed_callables(body, (torch.randn(64, 20).cuda(),))
        for _ in range(20):
            optimizer.zero_grad()
            F.cross_entropy(head(graphed(x)), y).backward()
            optimizer.step()
        if watched:
            probe.stop()
        return torch.cat([one.detach().flatten() for one in body.parameters()]).cpu()

    assert torch.equal(trained_by_parts(False), trained_by_parts(True))
