"""The wheel, built and installed: what users get, not what the working tree happens to hold."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import diag

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def stdout_of(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(one) for one in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    # hatchling is in the dev extra: without isolation the build needs no network.
    stdout_of(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of a fresh environment with the wheel in it.

    Downloading torch again for every run of the tests would cost minutes and prove nothing about this wheel. So the
    wheel is installed alone, and a .pth file lends the new environment the dependencies of this one. `-I`, and a folder
    far from the working tree, see to it that diag itself comes from the wheel; the test asserts it.
    """
    home = tmp_path_factory.mktemp("clean")
    stdout_of(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    here = Path(sysconfig.get_paths("venv", {"base": str(home), "platbase": str(home)})["purelib"])
    install = ("-m", "pip", "--python", home / "bin" / "python", "install", "--quiet", "--no-deps", "--no-index", wheel)
    stdout_of(sys.executable, *install, cwd=home)
    (here / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def test_the_only_top_level_package_is_diag(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"diag", f"diag-{diag.__version__}.dist-info"}


def test_every_file_of_the_package_is_inside(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = (file for file in (ROOT / "diag").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    expected = {file.relative_to(ROOT).as_posix() for file in files}
    assert "diag/py.typed" in expected
    assert any(name.endswith(".j2") for name in expected)
    assert expected - inside == set()


def test_metadata(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
    text = archive.read(metadata).decode()
    assert "Requires-Python: >=3.11\n" in text
    for extra in ("suites", "fast", "dev"):
        assert f"Provides-Extra: {extra}\n" in text
    assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def test_the_installed_command(scripts: Path, tmp_path: Path) -> None:
    origin = stdout_of(scripts / "python", "-I", "-c", "import diag; print(diag.__file__)", cwd=tmp_path)
    assert Path(origin.strip()).is_relative_to(scripts.parent)
    assert stdout_of(scripts / "diag", "--version", cwd=tmp_path) == f"diag {diag.__version__}\n"
    assert "check" in stdout_of(scripts / "diag", "--help", cwd=tmp_path)


def test_the_installed_package_finds_its_template(scripts: Path, tmp_path: Path) -> None:
    code = "from importlib.resources import files; print([*(files('diag.report') / 'templates').iterdir()])"
    assert ".j2" in stdout_of(scripts / "python", "-I", "-c", code, cwd=tmp_path)
