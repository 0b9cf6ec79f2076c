"""A traceback of the user's code that was watched shows their frames, and none of what watches."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import diag
from diag.train.script import watch_script
from diag.train.user_code import UserCodeError

FRAME = re.compile(r'File "([^"]+)", line \d+, in (\S+)')

SCRIPT = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
    def forward(self, x):
        try:
            return self.layer(torch.relu(x)) @ torch.zeros(3, 3)
        except RuntimeError as error:
            raise ValueError("theirs") from error

model = Model()
model(torch.randn(2, 4)).sum().backward()
"""


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            output: torch.Tensor = self.layers(x)
        except RuntimeError as error:
            raise ValueError("theirs") from error
        return output


def frames(text: str) -> list[tuple[str, str]]:
    return [(Path(file).name, function) for file, function in FRAME.findall(text)]


def test_a_loss_that_fails_shows_the_users_frames() -> None:
    model = Broken()

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = model(batch)
        return output.sum()

    one = diag.Workload(model, [torch.randn(2, 4)], loss, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(UserCodeError, match="the workload's loss failed: ValueError: theirs") as caught:
        diag.check(one, steps=1)
    here = Path(__file__).name
    assert frames(caught.value.user_traceback) == [
        (here, "forward"), ("container.py", "forward"), ("linear.py", "forward"),  # the cause stands first
        (here, "loss"), (here, "forward"),
    ]  # fmt: skip
    assert "mat1 and mat2 shapes cannot be multiplied" in caught.value.user_traceback


def test_a_script_that_fails_shows_its_own_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    assert watch_script(script, []).error == "ValueError: theirs"
    assert frames(capsys.readouterr().err) == [
        ("train.py", "forward"), ("train.py", "<module>"), ("train.py", "forward"),
    ]  # fmt: skip
