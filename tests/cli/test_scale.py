"""`diag scale` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

MODEL = """
import torch, diag
from torch import nn

def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(32, 16, generator=generator), torch.randint(4, (32,), generator=generator)

def build(width=16):
    model = nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
    for one in model[::2]:
        nn.init.normal_(one.weight, std=0.3)
    loss = lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1])
    return diag.Workload(model, [batch()], loss, torch.optim.SGD(model.parameters(), lr=0.01))

def sized(width):
    return build(width)

def careless(width=16):
    return build()

def nothing(width=16):
    return None

def worded(width="wide"):
    return None
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


@pytest.mark.slow
def test_text_page_and_exit_code(run: Run, model: Path, tmp_path: Path) -> None:
    result = run("scale", f"{model}:build", "--width", "1,2,4,8", "--seeds", 2, "--html", tmp_path / "page.html")
    assert result.code == 1
    assert "changes:" in result.out and "width 16, 32, 64, 128" in result.out
    assert "variance of the weights" in " ".join(result.out.split())
    page = (tmp_path / "page.html").read_text()
    assert page.count('<svg role="img"') >= 3 and "://" not in page.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_json_alone_on_stdout(run: Run, model: Path) -> None:
    # Without a default the numbers are taken as they are.
    result = run("scale", f"{model}:sized", "--width", "16,64,256", "--seeds", 2, "--format", "json")
    content = json.loads(result.out)
    assert content["sizes"] == [16, 64, 256] and content["answer"] == "changes" and result.code == 1
    by_site = {one["site"]: one for one in content["slopes"] if (one["quantity"], one["step"]) == ("activation", 0)}
    assert by_site["3"]["slope"] == pytest.approx(0.5, abs=0.15)
    assert by_site["3"]["verdict"] == "grows"


@pytest.mark.slow
def test_markdown(run: Run, model: Path) -> None:
    result = run("scale", f"{model}:build", "--width", "1,4", "--seeds", 1, "--steps", 2, "--format", "markdown")
    assert result.out.startswith("### diag scale: ")
    assert "| verdict | quantity | site |" in result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "--width", "1,x"], "two or more whole numbers"),
        (["build", "--width", "2"], "two or more whole numbers"),
        (["build"], "give --width or --depth"),
        (["build", "--width", "1,2", "--depth", "1,2"], "--width and --depth were both given"),
        (["careless", "--width", "1,2", "--seeds", 1], "model.py:careless use its width?"),
        (["build", "--depth", "1,2"], "takes no 'depth'"),
        (["nothing", "--width", "1,2"], "expected a diag.Workload"),
        (["worded", "--width", "1,2"], "expected a whole number"),
        (["biuld", "--width", "1,2"], "build"),
    ],
)
def test_mistakes_are_one_line(run: Run, model: Path, arguments: list[str], words: str) -> None:
    result = run("scale", f"{model}:{arguments[0]}", *arguments[1:])
    assert result.code == 2 and result.out == ""
    assert words in result.err and len(result.err.strip().splitlines()) == 1
