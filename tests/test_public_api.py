"""What `import diag` gives, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
import types

import pytest

import diag

HEAVY = ("torch", "pandas", "numpy", "seaborn", "matplotlib", "scipy", "pyarrow", "jinja2", "numba")


def in_fresh_python(code: str) -> str:
    """What the code prints in an interpreter of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "code",
    [
        "import diag",
        "import diag; dir(diag)",
        "import diag.cli.app",
        "import runpy, sys; sys.argv = ['diag', '--help']",
    ],
)
def test_import_and_help_load_nothing_heavy(code: str) -> None:
    run = "\ntry: runpy.run_module('diag', run_name='__main__')\nexcept SystemExit: pass" if "--help" in code else ""
    shown = in_fresh_python(f"{code}{run}\nimport json, sys; print(); print(json.dumps([*sys.modules]))")
    loaded = json.loads(shown.splitlines()[-1])
    assert "diag" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_all_is_what_is_public() -> None:
    for name in diag.__all__:
        getattr(diag, name)
    language = {"annotations", "TYPE_CHECKING", "Any"}
    found = {
        name
        for name, value in vars(diag).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name not in language
    }
    assert found | {"__version__"} == set(diag.__all__)
    assert dir(diag) == sorted(diag.__all__)


def test_every_export_is_the_object_of_its_home() -> None:
    import diag.rules.finding
    import diag.train.workload

    assert diag.Workload is diag.train.workload.Workload
    assert diag.Finding is diag.rules.finding.Finding
    assert diag.Workload.__module__ == "diag.train.workload"


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'chekc'"):
        _ = diag.chekc  # type: ignore[attr-defined]


ORDERS = {
    "submodule first": "import diag.check, diag.watch, diag",
    "function first": "import diag; diag.check, diag.watch; import diag.check, diag.watch",
    "from submodule": "from diag.check import check; from diag.watch import watch; import diag",
    "from package, then submodule": "from diag import check, watch; import diag.check, diag.watch",
    "submodule, then from package": "import diag.check, diag.watch; from diag import check, watch",
    "importlib": "import importlib, diag; importlib.import_module('diag.check'); importlib.import_module('diag.watch')",
}


def test_a_submodule_does_not_take_the_name_of_its_function() -> None:
    # One interpreter for all orders, with diag forgotten in between: torch alone takes seconds to load.
    code = f"""
import sys, types
for title, order in {ORDERS!r}.items():
    for name in [one for one in sys.modules if one.partition(".")[0] == "diag"]:
        del sys.modules[name]
    space = {{}}
    exec(order, space)
    for name in ("check", "watch"):
        function = getattr(space["diag"], name)
        assert isinstance(function, types.FunctionType), (title, function)
        assert function is getattr(sys.modules["diag." + name], name), title
        assert function is getattr(__import__("diag." + name, fromlist=[name]), name), title
    print(title)"""
    assert in_fresh_python(code).splitlines() == list(ORDERS)


def test_other_attributes_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diag, "check", lambda: "replaced")
    assert diag.check() == "replaced"  # type: ignore[call-arg, comparison-overlap]
