"""Make the pictures of docs/tour.md again: `python -m docs.pictures.draw`, from the repository's root.

The files of the tour are watched as it says, and a browser photographs the top of the pages. Needs chromium, and
Pillow, which comes with matplotlib.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.docs.blocks import blocks

HERE = Path(__file__).parent
SIZE = 1200, 1190
"""Pixels: the verdict, the finding, and the first row of pictures."""
PICTURES = {"sick": 0, "healthy": 2}
"""Name of a picture: which version of `net.py` in the tour it shows."""


def main() -> None:
    """Watch, photograph, and write `sick.png` and `healthy.png` beside this file.

    Raises: CalledProcessError if no page is made; SystemExit without a browser.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no browser: expected chromium or google-chrome on PATH")
    found = blocks("docs/tour.md", (HERE.parent / "tour.md").read_text(encoding="utf-8"))
    nets = [one.text for one in found if one.file == "net.py"]
    script = next(one.text for one in found if one.file == "train.py")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train.py").write_text(script, encoding="utf-8")
        for picture, version in PICTURES.items():
            (folder / "net.py").write_text(nets[version], encoding="utf-8")
            watch = ["watch", "--fail-on", "never", "--html", "report.html", "train.py"]
            subprocess.run([sys.executable, "-m", "diag", *watch], cwd=folder, check=True)
            photograph(browser, folder / "report.html", HERE / f"{picture}.png")


def photograph(browser: str, page: Path, target: Path) -> None:
    """The top of a page as a PNG of at most 256 colors, which is a third of the size."""
    shot = page.with_suffix(".png")
    quiet = ["--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu", "--no-first-run"]
    where = [f"--user-data-dir={page.parent / 'profile'}", f"--window-size={SIZE[0]},{SIZE[1]}", f"--screenshot={shot}"]
    subprocess.run([browser, *quiet, *where, page.as_uri()], check=True, timeout=60, stderr=subprocess.DEVNULL)
    with Image.open(shot) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    main()
