"""What all tests need before torch is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

pytest_plugins = ["pytester"]

# Two threads in a small step wait for each other longer than they compute, and the tests run in several processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("DIAG_STRICT", "1")

settings.register_profile("nightly", max_examples=2000, deadline=None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests that take long come first: at the end of a run a process would wait for the other's last one."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def no_notebook_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests run is noted in a folder of theirs, so that the user's own note of trusted suites stays as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_worker_where_tests_share_the_cores() -> Iterator[None]:
    """Beside other tests a suite is run by one process: a second one loads torch for longer than it would save."""
    with pytest.MonkeyPatch.context() as patch:
        if "PYTEST_XDIST_WORKER" in os.environ:
            from diag.suite import local

            patch.setattr(local, "default_jobs", lambda: 1)
        yield
