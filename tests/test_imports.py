"""Imports run one way, and only the probe registers hooks."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import diag

ROOT = Path(diag.__file__).parent

FACADE = {"check", "watch", "demo"}
LOW = {"errors", "settings", "atomic", "import_path"}
ALLOWED = {
    "errors": set(),
    "settings": {"errors"},
    "atomic": {"errors"},
    "import_path": set(),
    "stats": {"errors"},
    "trace": {"stats", "errors"},
    "theory": {"errors"},
    "probe": {"stats", "trace", "errors"},
    "rules": {"trace", "theory", *LOW},
    "recipes": {"errors", "import_path"},
    "train": {"recipes", "probe", "trace", *LOW},
    "suite": {"train", "recipes", "rules", "theory", "trace", *LOW},
    "gate": {"suite", "trace", *LOW},
    "scaling": {"train", "probe", "trace", *LOW},
    "prescribe": {"train", "probe", "rules", "recipes", "theory", "trace", *LOW},
    "report": {"prescribe", "scaling", "gate", "suite", "recipes", "rules", "theory", "trace", *LOW},
    **{name: {"train", "probe", "rules", "report", "trace", *LOW} for name in ("check", "watch")},
    "demo": {"check", "train", "probe", "rules", "report", "trace", *LOW},
    "cli": {
        "train",
        "suite",
        "gate",
        "scaling",
        "prescribe",
        "probe",
        "rules",
        "report",
        "trace",
        "stats",
        "theory",
        "recipes",
        "",
        *FACADE,
    }
    | LOW,
    "integrations": {"check", "watch", "gate", "suite", "train", "rules", "report", "trace", *LOW},
    "__main__": {"cli"},
    "": {"trace", "rules", "report", "recipes", "suite", "gate", "train", "prescribe", *FACADE},
}
"""Which part of diag may import which; "" is the package itself, whose exports are lazy."""

FILES = sorted(ROOT.rglob("*.py"))


def part_of(dotted: str) -> str:
    """`diag.trace.schema` belongs to `trace`."""
    return [*dotted.split("."), ""][1]


def own_part(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((one.name, node.lineno) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            if node.module == "diag":
                # `from diag import trace` imports a part, `from diag import __version__` the package.
                names = (one.name for one in node.names)
                yield from ((f"diag.{name}" if name in ALLOWED else "diag", node.lineno) for name in names)
            else:
                yield node.module or "", node.lineno


def violations(source: str, part: str) -> list[str]:
    """What a file of `part` imports of diag and may not."""
    ours = [(name, line) for name, line in imported(ast.parse(source)) if name.split(".")[0] == "diag"]
    allowed = ALLOWED[part] | {part}
    return [f"line {line}: {part or 'diag'} imports {name}" for name, line in ours if part_of(name) not in allowed]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    assert own_part(path) in ALLOWED, "a new part of diag: say in ALLOWED what it may import"
    assert violations(path.read_text(), own_part(path)) == []


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("stats", "import diag.trace"),
        ("trace", "from diag.probe.sites import x"),
        ("rules", "def f():\n    from diag.report import page"),
        ("report", "from diag import train"),
        ("train", "from diag.cli.app import main"),
        ("probe", "from diag import __version__"),
    ],
)
def test_a_violation_is_found(part: str, source: str) -> None:
    assert len(violations(source, part)) == 1


def test_every_foreign_package_is_declared() -> None:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    optional = ("suites", "fast", "ray", "lightning", "transformers", "tensorboard", "wandb", "pytest", "triton")
    wanted = project["dependencies"] + [package for extra in optional for package in extras[extra]]
    declared = {re.split(r"[<>=\[]", one)[0] for one in wanted}
    # What a package is called in an import where it is called otherwise in an index; markupsafe is a part of jinja2.
    # The extra `lightning` is for whoever has none; who has its older twin needs no second one.
    names = {"scikit-learn": "sklearn"}
    allowed = (
        {names.get(one, one) for one in declared}
        | {"markupsafe", "pytorch_lightning"}
        | set(sys.stdlib_module_names)
        | {"diag"}
    )
    found = {name.partition(".")[0] for path in FILES for name, _ in imported(ast.parse(path.read_text()))}
    assert found - allowed == set()
    assert {"torch", "typer", "seaborn"} <= found


def hook_registrations(source: str) -> list[int]:
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    named = ((getattr(call.func, "attr", getattr(call.func, "id", "")), call.lineno) for call in calls)
    return [line for name, line in named if name.startswith("register_") and "hook" in name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_probe_registers_hooks(path: Path) -> None:
    if own_part(path) != "probe":
        assert hook_registrations(path.read_text()) == []


def test_a_hook_registration_is_found() -> None:
    source = "m.register_forward_hook(f)\ntensor.register_hook(f)\nregister_optimizer_step_post_hook(f)\nregister(f)"
    assert hook_registrations(source) == [1, 2, 3]
