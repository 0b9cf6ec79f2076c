from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from diag.atomic import WriteError, write_text
from diag.errors import DiagError


def test_a_file_is_written_and_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    assert write_text(target, "é\n") == target
    write_text(target, "second")
    assert target.read_text(encoding="utf-8") == "second"
    assert list(target.parent.iterdir()) == [target]


def test_the_old_file_survives_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(WriteError, match="No space left on device"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("place", ["folder", "below-a-file/report.html", "nul\0byte.html"])
def test_a_path_that_cannot_be_written_gives_one_clear_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "below-a-file").write_text("")
    with pytest.raises(WriteError) as caught:
        write_text(tmp_path / place, "x")
    assert isinstance(caught.value, DiagError)
    message = str(caught.value)
    assert message.startswith("cannot write ")
    assert "\n" not in message
    assert caught.value.__cause__ is None


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which not even root can make files")
def test_a_read_only_folder_gives_one_clear_line() -> None:
    with pytest.raises(WriteError, match=r"^cannot write /proc/report\.html: "):
        write_text("/proc/report.html", "x")


@pytest.mark.skipif(os.name != "posix", reason="modes and links are POSIX")
def test_modes_and_links_stay_as_they_were(tmp_path: Path) -> None:
    target, link = tmp_path / "real.html", tmp_path / "link.html"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    fresh = write_text(tmp_path / "fresh.html", "x")
    plain = tmp_path / "plain"
    plain.write_text("x")
    assert stat.S_IMODE(fresh.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs a device file")
def test_a_device_is_written_to_and_not_replaced() -> None:
    write_text("/dev/null", "x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
