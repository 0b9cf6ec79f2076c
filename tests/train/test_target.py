"""From a target's name to a workload, and one clear line for everything that can be wrong with it."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from diag.errors import TargetError
from diag.train.target import load_target
from diag.train.user_code import UserCodeError
from diag.train.workload import Workload

MODEL = """
import torch
import diag
from layer_sizes import WIDTH

class Net(torch.nn.Module):
    def __init__(self, width=WIDTH):
        super().__init__()
        self.inner = torch.nn.Linear(width, 2)

    def forward(self, x):
        return self.inner(x)

def squares(model, batch):
    return model(batch).square().mean()

def build():
    return diag.Workload(Net(), [torch.ones(4, WIDTH)], squares)

def build_module():
    return Net()

def build_late():
    import late_module
    return Net(late_module.WIDTH)

class Zoo:
    net = Net()

net = Net()
workload = build()
empty = torch.nn.ReLU()
number = 3

def sized(width, *, depth, seed=0):
    return Net(width)

def returns_list():
    return [Net()]

def forgets_return():
    Net()

def raises():
    return helper()

def helper():
    raise KeyError("no such width")

def no_model():
    return diag.Workload(None, [1], squares)

def no_loss():
    return diag.Workload(Net(), [1], "mse")

def no_batches():
    return diag.Workload(Net(), 5, squares)

def workload_without_parameters():
    return diag.Workload(empty, [1], squares)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with a model in it; what it adds to the interpreter is taken back."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "layer_sizes.py").write_text("WIDTH = 3\n")
    (tmp_path / "late_module.py").write_text("WIDTH = 5\n")
    modules, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def message(spec: str, input_shape: str | None = None) -> str:
    """The one line that the target gives."""
    with pytest.raises(TargetError) as caught:
        load_target(spec, input_shape=input_shape)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("place", ["model.py", "./model.py", "model", "{folder}/model.py"])
def test_a_workload_by_file_and_by_module(folder: Path, place: str) -> None:
    workload = load_target(f"{place.format(folder=folder)}:build")
    assert isinstance(workload, Workload)
    assert workload.loss(workload.model, torch.ones(1, 3)).requires_grad


def test_a_workload_that_is_no_function(folder: Path) -> None:
    assert isinstance(load_target("model.py:workload").model.inner, torch.nn.Linear)


@pytest.mark.parametrize("name", ["net", "Net", "build_module", "Zoo.net"])
def test_a_bare_module(folder: Path, name: str) -> None:
    workload = load_target(f"model.py:{name}", input_shape="6x3")
    (batch,) = next(iter(workload.batches))
    assert batch.shape == (6, 3)
    assert workload.optimizer is None


def test_a_module_inside_a_package(folder: Path) -> None:
    package = folder / "pack" / "inner"
    package.mkdir(parents=True)
    (folder / "pack" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "net.py").write_text("import torch\nfrom .size import N\ndef f(): return torch.nn.Linear(N, 1)\n")
    (package / "size.py").write_text("N = 7\n")
    assert load_target("pack.inner.net:f", input_shape="2x7").model.in_features == 7
    assert "name it as package.module:name" in message("pack/inner/net.py:f", "2x7")


def test_classes_of_a_file_pickle(folder: Path) -> None:
    first = load_target("model.py:build").model
    second = load_target("model.py:build").model
    for model in (first, second):
        assert torch.equal(pickle.loads(pickle.dumps(model)).inner.weight, model.inner.weight)


def test_files_of_one_name_are_kept_apart(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "model.py").write_text("import torch\ndef build(): return torch.nn.Linear(9, 1)\n")
    assert load_target("other/model.py:build", input_shape="1x9").model.in_features == 9
    assert load_target("model.py:build").model.inner.in_features == 3


def test_a_file_that_shadows_a_module_of_the_library(folder: Path) -> None:
    # The folder leads the import path only while the target loads.
    (folder / "colorsys.py").write_text("mine = True\n")
    load_target("model.py:build")
    import colorsys

    assert not hasattr(colorsys, "mine")


def test_what_is_imported_later_is_still_found(folder: Path) -> None:
    assert load_target("model.py:build_late", input_shape="1x5").model.inner.in_features == 5
    assert str(folder) == sys.path[-1]


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("model.py", "model.py:build"),
        ("model", "model.py:build"),
        ("zoo.nets.Net", "zoo.nets:Net"),
        ("", "model.py:build"),
    ],
)
def test_what_may_be_meant(folder: Path, spec: str, meant: str) -> None:
    assert message(spec).endswith(f"such as {meant}")


ARGUED = """
import argparse
import torch

parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, default=4)
net = torch.nn.Linear(parser.parse_args().width, 2)
"""


def test_a_file_that_reads_arguments_gets_none_of_ours(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "argued.py").write_text(ARGUED)
    monkeypatch.setattr(sys, "argv", ["diag", "check", "argued.py:net", "--input", "8x4"])
    assert load_target("argued.py:net", input_shape="8x4").model.in_features == 4
    assert sys.argv == ["diag", "check", "argued.py:net", "--input", "8x4"]


@pytest.mark.parametrize("spec", ["model.py", "model.py:", ":build", "model"])
def test_no_name(folder: Path, spec: str) -> None:
    assert "expected path/to/file.py:name or package.module:name" in message(spec)


def test_file_missing(folder: Path) -> None:
    assert message("modle.py:build") == "no file 'modle.py' (did you mean 'model.py'?)"
    assert message("zzzzzzzz.py:build") == "no file 'zzzzzzzz.py'"
    assert message("nowhere/model.py:build") == "no file 'nowhere/model.py': there is no folder 'nowhere'"


def test_module_missing(folder: Path) -> None:
    assert "no module 'modell' in the working folder or the environment (did you mean 'model'?)" in message("modell:f")
    assert "no module 'json.nothing'" in message("json.nothing:f")
    assert "neither a module's name nor a file" in message("my-model:f")
    (folder / "sub").mkdir()
    (folder / "sub" / "deep.py").write_text("")
    assert "'sub.deep' has no 'f'" in message("sub.deep:f")


def test_a_file_that_is_no_python(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"\0\1")
    assert "is no Python file" in message("weights.bin:f")


def test_attribute_missing(folder: Path) -> None:
    assert message("model.py:biuld") == "'model.py' has no 'biuld' (did you mean 'build'?)"
    assert message("model.py:Zoo.nett") == "'model.py' has no 'Zoo.nett' (did you mean 'net'?)"


@pytest.mark.parametrize(
    ("source", "last"),
    [
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("x = 1\ndef f(:\n", "SyntaxError: invalid syntax"),
        ("def f():\n    return 1 / 0\nf()\n", "ZeroDivisionError: division by zero"),
        ("raise ValueError('first\\nsecond')\n", "ValueError: first"),
    ],
)
@pytest.mark.parametrize("spec", ["broken.py:f", "broken:f"])
def test_error_inside_the_file(folder: Path, source: str, last: str, spec: str) -> None:
    (folder / "broken.py").write_text(source)
    with pytest.raises(UserCodeError) as caught:
        load_target(spec)
    assert str(caught.value) == f"importing {spec.partition(':')[0]} failed: {last}"
    shown = caught.value.user_traceback
    assert "broken.py" in shown
    assert "target.py" not in shown
    assert "importlib" not in shown


def test_a_file_that_failed_leaves_no_module(folder: Path) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    message("broken.py:f")
    assert not any(name.startswith("diag_target_broken") for name in sys.modules)


def test_a_script_that_exits(folder: Path) -> None:
    (folder / "script.py").write_text("import sys\nsys.exit(3)\n")
    assert "ended the program (sys.exit(3))" in message("script.py:f")
    assert "diag watch" in message("script.py:f")


def test_error_inside_the_function(folder: Path) -> None:
    with pytest.raises(UserCodeError, match=r"calling model.py:raises failed: KeyError: 'no such width'") as caught:
        load_target("model.py:raises")
    assert "in helper" in caught.value.user_traceback
    assert "user_code" not in caught.value.user_traceback


def test_function_that_needs_arguments(folder: Path) -> None:
    assert "model.py:sized needs arguments (width, depth)" in message("model.py:sized")


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("returns_list", "a list"),
        ("forgets_return", "None (a return is missing?)"),
        ("number", "an int"),
        ("torch", "the module torch"),
    ],
)
def test_wrong_type(folder: Path, name: str, got: str) -> None:
    assert message(f"model.py:{name}").startswith(
        f"model.py:{name} gives {got}: expected a diag.Workload, an nn.Module"
    )


def test_no_parameters(folder: Path) -> None:
    assert "the model (ReLU) has no parameters" in message("model.py:empty", "2x2")
    assert "the model (ReLU) has no parameters" in message("model.py:workload_without_parameters")


@pytest.mark.parametrize(("name", "part"), [("no_model", "model"), ("no_loss", "loss"), ("no_batches", "batches")])
def test_a_workload_with_a_wrong_part(folder: Path, name: str, part: str) -> None:
    assert f"the workload's {part} must be" in message(f"model.py:{name}")


def test_bare_module_without_input(folder: Path) -> None:
    assert "is a bare Net: add --input with the shape of a batch" in message("model.py:net")


def test_input_for_a_workload(folder: Path) -> None:
    assert "--input is for a bare module" in message("model.py:build", "2x3")


def test_bad_input_is_found_before_the_file_is_run(folder: Path) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    assert "is no shape" in message("broken.py:f", "2by3")
