"""From `path/to/file.py:name` or `package.module:name` to a workload."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from diag.errors import TargetError, nearest
from diag.import_path import import_path
from diag.train.bare import bare_workload, parse_shapes
from diag.train.user_code import user_code
from diag.train.workload import Workload


def sized_target(spec: str, parameter: str) -> tuple[Callable[[int], Workload], int]:
    """The workload that `spec` names as a function of a whole number, and the default of that parameter (1 without).

    Raises: TargetError as `load_target` does, or if `spec` names no function with that parameter.
    """
    place, _, name = spec.rpartition(":")
    _require_place(spec, place, name)
    with import_path(_home(place)):
        found = _attribute(_loaded(place), name, place)
    try:
        known = inspect.signature(found).parameters if callable(found) else {}
    except (TypeError, ValueError):
        known = {}
    if parameter not in known:
        raise TargetError(
            f"{spec} takes no '{parameter}'{nearest(parameter, known)}: expected a function such as "
            f"build({parameter}=64) that returns a diag.Workload"
        )
    default = known[parameter].default
    if default is not inspect.Parameter.empty and (isinstance(default, bool) or not isinstance(default, int)):
        raise TargetError(f"{spec}: the default of '{parameter}' is {default!r}, expected a whole number")

    def build(size: int) -> Workload:
        with import_path(_home(place)), user_code(f"calling {spec} with {parameter}={size}", None):
            built = found(**{parameter: size})
        if not isinstance(built, Workload):
            raise TargetError(f"{spec} gives {_described(built)} for {parameter}={size}: expected a diag.Workload")
        return _checked(built, spec)

    return build, default if isinstance(default, int) else 1


def _require_place(spec: str, place: str, name: str) -> None:
    if not place or not name:
        raise TargetError(
            f"target '{spec}' names nothing to check: expected path/to/file.py:name or package.module:name, "
            f"such as {_meant(spec.strip(':'))}"
        )


def _meant(spec: str) -> str:
    """What may be meant by a name without a colon."""
    if not spec or spec.endswith(".py"):
        return f"{spec or 'model.py'}:build"
    if Path(f"{spec}.py").is_file():
        return f"{spec}.py:build"
    module, _, name = spec.rpartition(".")
    return f"{module}:{name}" if module and name.isidentifier() and os.sep not in spec else f"{spec}:build"


def _is_file(place: str) -> bool:
    return place.endswith(".py") or os.sep in place or Path(place).is_file()


def _home(place: str) -> Path:
    """Where the target's own imports are looked up."""
    return Path(place).resolve().parent if _is_file(place) else Path.cwd()


def _loaded(place: str) -> ModuleType:
    return _load_file(Path(place)) if _is_file(place) else _load_module(place)


def load_target(spec: str, *, input_shape: str | None = None) -> Workload:
    """The workload that `spec` names: `path/to/file.py:name` or `package.module:name`.

    `name` is a Workload, an nn.Module, or a function without arguments that returns either. A bare module needs
    `input_shape`, such as `32x784` or `8x128:int64`, and is probed with random inputs (`diag.train.bare`).

    Raises: TargetError, with what to do, if it cannot be found, loaded or used.
    """
    shapes = None if input_shape is None else parse_shapes(input_shape)
    place, _, name = spec.rpartition(":")
    _require_place(spec, place, name)
    with import_path(_home(place)):
        found = _call(_attribute(_loaded(place), name, place), spec)
    if isinstance(found, torch.nn.Module):
        _require_parameters(found, spec)
        if shapes is None:
            raise TargetError(
                f"{spec} is a bare {type(found).__name__}: add --input with the shape of a batch, such as "
                "--input 32x784 (8x128:int64 for token ids), or return a diag.Workload with data and loss"
            )
        return bare_workload(found, shapes)
    if isinstance(found, Workload):
        if shapes is not None:
            raise TargetError(
                f"--input is for a bare module, but {spec} is a Workload, which has its own batches: drop it"
            )
        return _checked(found, spec)
    raise TargetError(
        f"{spec} gives {_described(found)}: expected a diag.Workload, an nn.Module, or a function that returns either"
    )


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        folder = path.parent
        if not folder.is_dir():
            raise TargetError(f"no file '{path}': there is no folder '{folder}'")
        hint = nearest(path.name, (one.name for one in folder.glob("*.py")))
        raise TargetError(f"no file '{path}'{hint}")
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"'{path}' is no Python file: expected path/to/file.py:name")
    module = importlib.util.module_from_spec(spec)
    # pickle finds a class by its module's name, also in the worker processes of a DataLoader.
    sys.modules[name] = module
    try:
        with user_code(f"importing {path}", str(path)):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, TargetError) and isinstance(error.__cause__, ImportError) and _is_in_package(path):
            error.args = (f"{error}; the file is part of a package: name it as package.module:name",)
        raise
    return module


def _module_name(path: Path) -> str:
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    stem = "".join(letter if letter.isalnum() else "_" for letter in path.stem)
    name, again = f"diag_target_{stem}_{digest}", 1
    while name in sys.modules:
        again += 1
        name = f"diag_target_{stem}_{digest}_{again}"
    return name


def _is_in_package(path: Path) -> bool:
    return (path.parent / "__init__.py").is_file()


def _load_module(name: str) -> ModuleType:
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        raise TargetError(
            f"'{name}' is neither a module's name nor a file: expected path/to/file.py:name or package.module:name"
        )
    for end in range(1, len(parts) + 1):
        partial = ".".join(parts[:end])
        try:
            known = partial in sys.modules or importlib.util.find_spec(partial) is not None
        except (ImportError, ValueError, AttributeError):
            known = True  # it exists and fails to load: the import below says how
        if not known:
            file = Path(*parts).with_suffix(".py")
            hint = f"; for the file use '{file}:...'" if file.is_file() else nearest(name, _modules_here())
            raise TargetError(f"no module '{partial}' in the working folder or the environment{hint}")
        with user_code(f"importing {partial}", None):
            module = importlib.import_module(partial)
    return module


def _modules_here() -> list[str]:
    return [file.stem for file in Path.cwd().glob("*.py")]


def _attribute(module: ModuleType, name: str, place: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            public = [one for one in vars(found) if not one.startswith("_")] if hasattr(found, "__dict__") else []
            raise TargetError(f"'{place}' has no '{name}'{nearest(part, public)}")
        found = getattr(found, part)
    return found


def _call(found: Any, spec: str) -> Any:
    """What a function without arguments returns; anything else as it is."""
    if isinstance(found, (torch.nn.Module, Workload)) or not callable(found):
        return found
    missing = _required_arguments(found)
    if missing:
        raise TargetError(
            f"{spec} needs arguments ({', '.join(missing)}), and diag calls it without: "
            "give them defaults, or name a function without arguments that calls it"
        )
    with user_code(f"calling {spec}", inspect.getsourcefile(found) if inspect.isroutine(found) else None):
        return found()


def _required_arguments(function: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]


def _checked(workload: Workload, spec: str) -> Workload:
    if not isinstance(workload.model, torch.nn.Module):
        raise TargetError(f"{spec}: the workload's model must be an nn.Module, got {_described(workload.model)}")
    _require_parameters(workload.model, spec)
    if not callable(workload.loss):
        raise TargetError(
            f"{spec}: the workload's loss must be a function loss(model, batch), got {_described(workload.loss)}"
        )
    if not hasattr(workload.batches, "__iter__") and not hasattr(workload.batches, "__getitem__"):
        raise TargetError(
            f"{spec}: the workload's batches must be iterable, a list or a DataLoader, "
            f"got {_described(workload.batches)}"
        )
    return workload


def _require_parameters(model: torch.nn.Module, spec: str) -> None:
    if next(model.parameters(), None) is None:
        raise TargetError(f"{spec}: the model ({type(model).__name__}) has no parameters, so there is nothing to train")


def _described(value: Any) -> str:
    if value is None:
        return "None (a return is missing?)"
    if isinstance(value, ModuleType):
        return f"the module {value.__name__}"
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
