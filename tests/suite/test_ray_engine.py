"""The Ray engine, against a real Ray of this machine that the tests start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from diag.errors import DiagError, MissingExtraError
from diag.suite.ray_engine import RayEngine
from diag.suite.run import run_suite
from tests.suite.conftest import NUMBERS, TRAININGS, Write

# Read by Ray when it is loaded: the cluster of these tests has a token, as Ray's own have.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)

KILLED = """
def killed(seed):
    mark = os.path.join(os.environ["MARKS"], f"seed-{seed}")
    first = not os.path.exists(mark)
    open(mark, "a").write("x")
    if first and seed == 1:
        os.kill(os.getpid(), 9)
    if seed == 2:
        raise ValueError("seed 2 is bad")
    return {"value": float(torch.randn(())), "threads": torch.get_num_threads()}

suite = diag.Suite("Who lives?", {"killed": diag.Experiment(killed)}, seeds=3)
"""


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"--engine ray needs ray, .*pip install 'diag\[ray\]'"):
        RayEngine()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_cluster_that_is_not_there_is_one_line_at_once(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    began = time.monotonic()
    address = f"127.0.0.1:{_free_port()}"
    with pytest.raises(DiagError, match=f"the Ray cluster at '{address}' cannot be reached: Connection refused"):
        run_suite(write(NUMBERS), engine="ray", address=address, output=tmp_path / "run")
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(DiagError, match=f"at '{address}' cannot be reached"):
        run_suite(write(NUMBERS), engine="ray", output=tmp_path / "run")
    with pytest.raises(DiagError, match="got 'nowhere'"):
        RayEngine("nowhere")
    assert time.monotonic() - began < 20
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Ray of two cores in processes of its own, and a folder that its workers may mark."""
    pytest.importorskip("ray")
    port, marks = _free_port(), tmp_path_factory.mktemp("marks")
    environment = {
        **os.environ,
        "MARKS": str(marks),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [
        sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--head", f"--port={port}",
        "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats", "--block",
        "--object-store-memory=100000000", f"--temp-dir=/tmp/diag-ray-{port}",
    ]  # fmt: skip
    log = (marks / "log").open("w")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail(f"Ray did not start: {(marks / 'log').read_text()[-2000:]}")
        time.sleep(2)  # the port opens before the node has joined
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
        log.close()


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_same_bits_as_the_local_engine(cluster: str, write: Write, tmp_path: Path) -> None:
    suite = write(TRAININGS, "trainings")
    local = run_suite(suite, output=tmp_path / "local", jobs=1)
    remote = run_suite(suite, output=tmp_path / "ray", engine="ray", address=cluster)
    assert remote.results.frame.equals(local.results.frame)
    for one, other in zip(remote.results.records, local.results.records, strict=True):
        for name in ("curves", "layers"):
            assert one.table(name).equals(other.table(name))  # type: ignore[union-attr]
        assert one.environment == other.environment
    assert [one.to_dict() for one in remote.verdicts] == [one.to_dict() for one in local.verdicts]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_worker_that_is_lost_is_replaced(
    cluster: str, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    path = write(KILLED)
    run = run_suite(path, output=tmp_path / "run", engine="ray")
    assert set(run.results.values("value", case="killed").index) == {0, 1}
    assert run.failures.errors == {"killed seed 2": "ValueError: seed 2 is bad"}
    assert set(run.results.values("threads", case="killed")) == {1.0}
