"""A user's own network: found, given what it asks for, and named when it fails."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from diag.recipes import kinds
from diag.recipes.networks.build import build_network
from diag.recipes.recipe import Recipe
from diag.recipes.spec import RecipeError

SOURCE = """
import helper_beside
from torch import nn

class Net(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.ReLU(), nn.Linear(width, outputs))

    def forward(self, x):
        return self.layers(x)

def build(outputs, width):
    return Net(width * helper_beside.FACTOR, outputs)

def everything(**given):
    everything.given = given
    return nn.Linear(2, 2)

def few(depth, *, norm, dropout=None, extra=7):
    few.given = (depth, norm, dropout, extra)
    return nn.Linear(2, 2)

def activated(activation, dropout, norm):
    return nn.Sequential(nn.Linear(4, 6), norm(6, 0), activation(), dropout())

def needs_more(outputs, witdh, channels):
    return None

def nothing(outputs):
    nn.Linear(2, outputs)

def fails(outputs):
    raise ValueError("first line\\nsecond line")

def leaves(outputs):
    raise SystemExit(3)

def positional(outputs, width, /):
    return nn.Linear(width, outputs)

class Space:
    @staticmethod
    def inner(outputs):
        return nn.Linear(2, outputs)

number = 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # so that what the loading leaves on the path is taken away again
    (tmp_path / "my_networks.py").write_text(SOURCE)
    (tmp_path / "helper_beside.py").write_text("FACTOR = 3\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "raising.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(1)\n")
    return tmp_path


def made(name: str, **changes: Any) -> nn.Module:
    arguments = {
        "inputs": (4,),
        "outputs": 3,
        "depth": 2,
        "width": 5,
        "activation": nn.Tanh,
        "norm": lambda features, dims: nn.LayerNorm(features),
        "dropout": lambda: nn.Dropout(0.25),
        **changes,
    }
    return build_network(name, **arguments)


def namespace(module: nn.Module) -> dict[str, Any]:
    import sys

    return vars(sys.modules[type(module).__module__])


@pytest.mark.parametrize("how", ["my_networks.py:build", "{folder}/my_networks.py:build"])
def test_a_function_of_a_file(folder: Path, how: str) -> None:
    model = made(how.format(folder=folder))
    assert model(torch.zeros(7, 4)).shape == (7, 3)
    assert model.layers[1].out_features == 15  # width 5 times what the file beside it says
    again = made(how.format(folder=folder))
    assert type(again) is type(model)
    assert isinstance(pickle.loads(pickle.dumps(model)), type(model))


def test_a_function_of_a_module_and_an_attribute_of_one(folder: Path) -> None:
    assert made("my_networks:build")(torch.zeros(7, 4)).shape == (7, 3)
    assert made("my_networks:Space.inner").out_features == 3
    assert made("torch.nn:Identity", width=9).__class__ is nn.Identity  # takes everything, by position or name


def test_a_changed_file_is_loaded_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the same second, too, in which Python would take the code that it has kept."""
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    file = folder / "changing.py"
    for size in (2, 3):
        file.write_text(f"from torch import nn\ndef build(outputs):\n    return nn.Linear({size}, outputs)\n")
        os.utime(file, (1e9, 1e9))
        assert made("changing.py:build").in_features == size


def test_a_function_is_given_what_it_names(folder: Path) -> None:
    norm, dropout = nn.LayerNorm, nn.Dropout
    model = made("my_networks.py:activated")
    assert [type(one) for one in model] == [nn.Linear, nn.LayerNorm, nn.Tanh, nn.Dropout]
    build = namespace(made("my_networks.py:build"))
    made("my_networks.py:few", norm=norm, dropout=dropout)
    assert build["few"].given == (2, norm, dropout, 7)
    made("my_networks.py:everything", norm=norm, dropout=dropout)
    assert build["everything"].given == {
        "inputs": (4,), "outputs": 3, "depth": 2, "width": 5, "activation": nn.Tanh, "norm": norm, "dropout": dropout,
    }  # fmt: skip


def test_a_registered_function_is_given_what_it_names_and_its_options() -> None:
    name = "test_build_registered"

    @kinds.network(name)
    def registered(outputs: int, *, width: int = 4, extra: int = 1) -> nn.Module:
        """For this test."""
        return nn.Linear(width + extra, outputs)

    try:
        assert made(name).in_features == 5 + 1
        assert made(f"{name}(extra=2)").in_features == 5 + 2
        assert made(f"{name}(width=20)").in_features == 20 + 1  # the recipe's text goes before the recipe's width
        assert Recipe(network=f"{name}(width=20)").network == f"{name}(width=20)"
    finally:
        del kinds.network._entries[name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my_network.py:build", "no file 'my_network.py' (did you mean 'my_networks.py'?)"),
        ("folder/absent.py:build", "no file 'folder/absent.py'"),
        ("my_networks.py:bild", "'my_networks.py' has no 'bild' (did you mean 'build'?)"),
        ("my_networks:bild", "'my_networks' has no 'bild' (did you mean 'build'?)"),
        ("my_network:build", "no module 'my_network' in the working folder or the environment (did you mean 'my_netwo"),
        ("my_networks.inside:build", "importing my_networks.inside failed: ModuleNotFoundError"),
        ("my_networks.py:number", "is of type int: expected a function that returns a module"),
        (":build", "names no function: expected module:function"),
        ("my_networks.py:", "names no function: expected module:function"),
        ("my_networks.py:needs_more", "needs an argument 'witdh' (did you mean 'width'?), which is not on offer"),
        ("my_networks.py:positional", "takes 'outputs' by position only"),
        ("my_networks.py:nothing", "must return an nn.Module, got NoneType (a return is missing?)"),
        ("my_networks.py:fails", "the network 'my_networks.py:fails' failed: ValueError: first line"),
        ("my_networks.py:leaves", "the network 'my_networks.py:leaves' failed: SystemExit: 3"),
        ("broken.py:f", "importing broken.py failed: SyntaxError: invalid syntax (broken.py, line 1)"),
        ("raising.py:f", "importing raising.py failed: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raising:f", "importing raising failed: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("leaving.py:f", "importing leaving.py failed: SystemExit: 1"),
    ],
)
def test_what_goes_wrong_is_one_line(folder: Path, name: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        made(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_their_error_is_the_cause(folder: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        made("my_networks.py:fails")
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(RecipeError) as caught:
        made("raising.py:f")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_recipe_takes_such_a_name_as_it_is() -> None:
    recipe = Recipe(network="some/file.py:build")
    assert Recipe.from_dict(recipe.to_dict()).network == "some/file.py:build"
