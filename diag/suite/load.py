"""Suite files: found by path or by name, loaded by path as pytest loads tests, and never imported as a package."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import linecache
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from diag.errors import DiagError, nearest
from diag.suite.errors import SuiteError
from diag.suite.suite import Suite


def suite_folders() -> list[Path]:
    """Where a suite's name is looked up: `suites/` of the working folder, then those that come with diag."""
    package = Path(__file__).resolve().parents[1]
    # In a wheel they are data inside of the package; in a working tree they stand beside it.
    shipped = [package / "suites", package.parent / "suites"]
    return [one for one in (Path.cwd() / "suites", *shipped) if one.is_dir()]


def suite_files() -> dict[str, Path]:
    """The suites that have a name, and their files; the first folder wins."""
    found: dict[str, Path] = {}
    for folder in suite_folders():
        for file in sorted(folder.glob("*.py")):
            if not file.name.startswith("_"):
                found.setdefault(file.stem, file)
    return found


def find_suite(path_or_name: str | Path) -> Path:
    """The file of a suite.

    Raises: SuiteError if there is none, with the nearest name.
    """
    text = str(path_or_name)
    path = Path(text)
    if text.endswith(".py") or path.is_file():
        if path.is_file():
            return path.resolve()
        hint = nearest(path.name, (one.name for one in path.parent.glob("*.py"))) if path.parent.is_dir() else ""
        raise SuiteError(f"no suite file '{text}'{hint}")
    files = suite_files()
    if text not in files:
        raise SuiteError(f"no suite '{text}'{nearest(text, files)}; there are {', '.join(files) or 'none here'}")
    return files[text].resolve()


def summary_of(path: Path) -> str:
    """The first line of a suite file's docstring, read without running it."""
    try:
        return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    except (OSError, SyntaxError, UnicodeDecodeError):
        return "(cannot be read)"


def source_hash(source: str) -> str:
    """What tells two versions of a suite file apart."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def load_suite(path_or_name: str | Path) -> Suite:
    """The suite of a file, or of a name that `diag list suites` shows. The file is run.

    Raises: SuiteError if it cannot be found, read or run, or defines no `suite`.
    """
    path = find_suite(path_or_name)
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path} cannot be read: {error}") from None
    return suite_from_source(source, path)


def suite_from_source(source: str, path: Path) -> Suite:
    """The suite that a file of this content defines.

    Raises: SuiteError as `load_suite` does.
    """
    module = _run(source, path)
    suite: Any = getattr(module, "suite", None)
    if suite is None:
        public = [name for name in vars(module) if not name.startswith("_")]
        raise SuiteError(f"{path} defines no `suite`{nearest('suite', public)}: expected `suite = diag.Suite(...)`")
    if not isinstance(suite, Suite):
        raise SuiteError(f"{path}: `suite` is a {type(suite).__name__}, expected a diag.Suite")
    suite.name, suite.path, suite.source = path.stem, path, source
    return suite


def module_of(suite: Suite) -> ModuleType:
    """The module that a loaded suite's file became."""
    return sys.modules[_module_name(suite.source, suite.path)]


def _module_name(source: str, path: Path | None) -> str:
    stem = path.stem if path is not None else "suite"
    return f"diag_suite_{''.join(one if one.isalnum() else '_' for one in stem)}_{source_hash(source)}"


def _run(source: str, path: Path) -> ModuleType:
    name = _module_name(source, path)
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module
    # A suite's helpers lie beside it, as a script's do.
    folder = str(path.parent)
    added = folder not in sys.path
    if added:
        sys.path.append(folder)
    linecache.lazycache(str(path), vars(module))
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
    except SyntaxError as error:
        raise SuiteError(f"{path} line {error.lineno}: {error.msg}") from None
    except DiagError as error:
        raise SuiteError(f"{path} line {_line_of(error, path)}: {error}") from error
    except (Exception, SystemExit) as error:
        raise SuiteError(f"{path} line {_line_of(error, path)}: {type(error).__name__}: {error}") from error
    finally:
        if not hasattr(module, "suite"):
            sys.modules.pop(name, None)
    return module


def _line_of(error: BaseException, path: Path) -> int:
    """The last line of that file in the traceback."""
    lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == str(path)]
    return lines[-1] or 0 if lines else 0
