"""A user's own function, found by `module:function` or `path/to/file.py:function`, and run."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from diag.errors import DiagError, nearest
from diag.import_path import import_path
from diag.recipes.spec import RecipeError


def load_function(spec: str) -> Callable[..., Any]:
    """The function that `spec` names. A file is loaded once as long as it does not change.

    Raises: RecipeError of one line if there is no such file, module or function, or if importing it fails.
    """
    place, _, name = spec.rpartition(":")
    if not place or not name:
        raise RecipeError(
            f"the network '{spec}' names no function: expected module:function or path/to/file.py:function"
        )
    file = file_of(spec)
    with import_path(file.resolve().parent if file is not None else Path.cwd()):
        module = _load_file(file) if file is not None else _load_module(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            public = [one for one in dir(found) if not one.startswith("_")]
            raise RecipeError(f"'{place}' has no '{name}'{nearest(part, public)}, which the recipe's network names")
        found = getattr(found, part)
    if not callable(found):
        raise RecipeError(
            f"the network '{spec}' is of type {type(found).__name__}: expected a function that returns a module"
        )
    function: Callable[..., Any] = found
    return function


def file_of(spec: str) -> Path | None:
    """The file that `spec` names, in the working folder or else beside the suite; None for a module.

    A suite's folder is on the import path while it is run.
    """
    place = spec.rpartition(":")[0]
    if not (place.endswith(".py") or os.sep in place):
        return None
    places = (Path(place), *(Path(entry or ".") / place for entry in sys.path))
    return next((one for one in places if one.is_file()), Path(place))


def digest_of(file: Path) -> str:
    """What tells two versions of a file apart; empty for none."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.is_file() else ""


@contextmanager
def running(what: str) -> Iterator[None]:
    """Run a user's code: whatever it raises becomes one line.

    Raises: RecipeError with the user's error as its cause.
    """
    try:
        yield
    except DiagError:
        raise
    except (Exception, SystemExit) as error:
        said = str(error).strip().partition("\n")[0]
        raise RecipeError(f"{what} failed: {type(error).__name__}{said and ': '}{said}") from error


class _Source(SourceFileLoader):
    """Compiles what the file holds now: Python keeps code by size and full second, within which a file may change."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        files = [one.name for one in path.parent.glob("*.py")]
        raise RecipeError(f"no file '{path}'{nearest(path.name, files)}, which the recipe's network names")
    with running(f"reading {path}"):
        digest = hashlib.sha256(str(path.resolve()).encode() + path.read_bytes()).hexdigest()[:12]
    name = f"diag_network_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    loader = _Source(name, str(path)) if path.suffix == ".py" else None
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None or spec.loader is None:
        raise RecipeError(f"'{path}' is no Python file: expected path/to/file.py:function")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickle finds the classes of the file by this name
    try:
        with running(f"importing {path}"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _load_module(name: str) -> ModuleType:
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        partial = ".".join(parts[:end])
        try:
            known = partial in sys.modules or importlib.util.find_spec(partial) is not None
        except (ImportError, ValueError, AttributeError):
            known = True  # it exists and fails to load: the import below says how
        if not known:
            hint = nearest(name, (one.stem for one in Path.cwd().glob("*.py")))
            raise RecipeError(f"no module '{partial}' in the working folder or the environment{hint}")
        with running(f"importing {partial}"):
            module = importlib.import_module(partial)
    return module
