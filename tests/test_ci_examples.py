"""The files of docs/ci: what their services read in them, and every command, run by a shell in a small project."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.shell import Shell, load
from tests.report.schemas import gitlab_violations, junit_violations, sarif_violations

DOCS = Path(__file__).parents[1] / "docs"
MODEL = """
import torch
from torch import nn

import diag

x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
batch = x, x[:, :1].sin()
LAYERS, ACTIVATION = 1, nn.ReLU


def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()


def net():
    torch.manual_seed(0)
    hidden = [one for _ in range(LAYERS) for one in (nn.Linear(16, 16), ACTIVATION())]
    return nn.Sequential(*hidden, nn.Linear(16, 1))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.05)


def build():
    model = net()
    return diag.Workload(model, [batch], loss, sgd(model))
"""
SICK = MODEL.replace("LAYERS, ACTIVATION = 1, nn.ReLU", "LAYERS, ACTIVATION = 8, nn.Sigmoid")
SUITE = """
import diag

suite = diag.Suite(
    "Does it learn?", {"plain": diag.Recipe(depth=1, width=8, steps=20)}, seeds=5, looks=0, validations=2
)
"""
RUN = "diag run suites/mine.py --output build/now"


def example(name: str) -> Any:
    return yaml.safe_load((DOCS / "ci" / name).read_text(encoding="utf-8"))


def commands() -> dict[str, list[str]]:
    """The command lines of each file, in its order."""
    gitlab = example("gitlab-ci.yml")
    jobs = [job for name, job in gitlab.items() if name != "default"]
    return {
        "github.yml": [step["run"] for step in example("github.yml")["jobs"]["training"]["steps"] if "run" in step],
        "gitlab-ci.yml": gitlab["default"]["before_script"]
        + [line for job in jobs for line in [*job["script"], *job.get("after_script", [])]],
        "pre-commit-config.yaml": [hook["entry"] for hook in example("pre-commit-config.yaml")["repos"][0]["hooks"]],
    }


def test_every_file_is_linked_and_says_where_it_goes() -> None:
    text = (DOCS / "ci.md").read_text(encoding="utf-8")
    for file in (DOCS / "ci").iterdir():
        assert f"(ci/{file.name})" in text
        assert file.read_text(encoding="utf-8").startswith("# Copy to .")
    assert set(commands()) == {file.name for file in (DOCS / "ci").iterdir()}


def test_a_failing_step_hides_no_later_one() -> None:
    steps = example("github.yml")["jobs"]["training"]["steps"]
    first = next(i for i, step in enumerate(steps) if step.get("run", "").startswith("diag check"))
    assert [step.get("if") for step in steps[first + 1 :]] == ["always()"] * len(steps[first + 1 :])
    # `on` is a boolean to YAML 1.1, as PyYAML reads it.
    assert example("github.yml")[True] == ["pull_request"]


def test_what_a_job_hands_over_is_what_it_wrote() -> None:
    for job in (one for name, one in example("gitlab-ci.yml").items() if name != "default"):
        lines = " ".join([*job["script"], *job.get("after_script", [])])
        handed = [*job["artifacts"]["paths"], *job["artifacts"]["reports"].values()]
        assert [one for one in handed if not re.search(rf"(--output|--html) {re.escape(one)}( |$)", lines)] == []
        assert job["artifacts"]["when"] == "always"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A project as the files expect it, its baseline made as docs/ci.md says, and a shell that fetches nothing."""
    text = (DOCS / "ci.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (made,) = [one for one in re.findall(r"```console\n(.*?)```", text, re.DOTALL) if "diag baseline" in one]
    folder = tmp_path_factory.mktemp("project") / "work"
    for name, content in {
        "model.py": MODEL,
        "suites/mine.py": SUITE,
        "requirements-ci.txt": "torch\npytest\ndiag\n",
        # The suite is run by commands already, and tests/integrations gates one.
        "tests/test_training.py": code.replace("from mymodel", "from model").partition("def test_it_still_trains")[0],
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    load()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PYTHONPATH", str(folder))
        shell = Shell(folder, fresh=False)
        assert made.startswith(f"{RUN}\n")
        for line in made.splitlines():
            expect(shell, line, 0)
        yield shell


def expect(shell: Shell, line: str, code: int) -> str:
    said = shell.run(line)
    assert shell.code == code, f"{line}\n{said}"
    assert "Traceback" not in said
    return said


@pytest.mark.slow
@pytest.mark.nightly
def test_every_command_runs(project: Shell) -> None:
    folder = project.folder
    said = {RUN: ""}
    for line in (line for lines in commands().values() for line in lines):
        if line not in said:
            said[line] = expect(project, line, 0)
    assert len(said) == 10
    assert said["diag check model.py:build --format github"].startswith("::notice title=diag::model.py:build: healthy")
    assert "2 passed" in said["pytest tests --diag-html pages"]
    assert len(list((folder / "pages").iterdir())) == 2
    for file, check in (
        ("diag.sarif", sarif_violations), ("check.json", gitlab_violations), ("gate.json", gitlab_violations),
        ("gate.xml", junit_violations),
    ):  # fmt: skip
        assert check((folder / file).read_text()) == [], file
    assert (folder / "check.html").stat().st_size > 10_000
    assert ET.fromstring((folder / "gate.xml").read_text()).get("failures") == "0"


@pytest.mark.nightly
def test_the_same_commands_fail_where_something_is_wrong(project: Shell) -> None:
    folder = project.folder
    baseline = folder / "baselines" / "mine.json"
    before = baseline.read_text()
    content = json.loads(before)
    content["cases"]["plain"]["test_accuracy"] = [one + 0.3 for one in content["cases"]["plain"]["test_accuracy"]]
    try:
        (folder / "model.py").write_text(SICK)
        baseline.write_text(json.dumps(content))
        lines = {line for several in commands().values() for line in several if line.startswith("diag ")}
        failing = sorted(line for line in lines if "never" not in line and not line.startswith("diag run"))
        assert len(failing) == 6
        said = {line: expect(project, line, 1) for line in failing}
    finally:
        (folder / "model.py").write_text(MODEL)
        baseline.write_text(before)
    assert "::error title=vanishing-gradient at " in said["diag check model.py:build --format github"]
    gated = said["diag gate build/now --baseline baselines/mine.json --format github"]
    assert gated.startswith("::error title=diag gate%3A plain::test_accuracy: ")
    assert [one["check_name"] for one in json.loads((folder / "gate.json").read_text())] == ["gate/test_accuracy"]
    (issue,) = json.loads((folder / "check.json").read_text())
    assert (issue["check_name"], issue["location"]["path"]) == ("vanishing-gradient", "model.py")
    assert ET.fromstring((folder / "gate.xml").read_text()).get("failures") == "1"
