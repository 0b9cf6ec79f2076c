"""README.md and docs/tour.md, block by block: files written, code run, commands run, output compared.

With DIAG_DOCS_FRESH=1 in the environment every `diag` is a new process, which takes three times as long.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs import shell
from tests.docs.blocks import Block, Command, blocks, commands
from tests.docs.output import mismatch
from tests.docs.reader import FILES, PLACEHOLDERS, PRELUDES
from tests.docs.tables import NOT_RUN, SHORTENED, SHOWN_LATE

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/tour.md")
FRESH = os.environ.get("DIAG_DOCS_FRESH") == "1"


def read(document: str) -> list[Block]:
    return blocks(document, (ROOT / document).read_text(encoding="utf-8"))


def prelude(block: Block) -> str:
    return PRELUDES.get((block.document, block.name), "")


def code(block: Block) -> str:
    """The block, with what it leaves to the reader filled in."""
    placeholder, filled = PLACEHOLDERS.get((block.document, block.name), ("", ""))
    return block.text.replace(placeholder, filled) if placeholder else block.text


@pytest.fixture(autouse=True)
def rules() -> Iterator[dict[str, Any]]:
    """The registered rules; what a block adds is taken back."""
    from diag.rules.registry import RULES

    before = dict(RULES)
    yield RULES
    RULES.clear()
    RULES.update(before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's own folder, into which W&B writes too; it asks no network."""
    path = tmp_path / "reader"
    path.mkdir()
    monkeypatch.chdir(path)
    for name, value in (("WANDB_ERROR_REPORTING", "false"), ("WANDB_CONSOLE", "off"), ("WANDB_SILENT", "true")):
        monkeypatch.setenv(name, value)
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.*LeafSpec:FutureWarning",  # of torch 2.13, for what Lightning 2.5 calls
    # Lightning's advice, which a network of some units need not take
    "ignore:The number of training batches",
    "ignore:.* does not have many workers",
)
@pytest.mark.parametrize("document", ["README.md", pytest.param("docs/tour.md", marks=pytest.mark.nightly)])
def test_every_block_runs_and_shows_what_it_prints(document: str, folder: Path) -> None:
    for (owner, file), text in FILES.items():
        if owner == document:
            (folder / file).write_text(text, encoding="utf-8")
    shell.load()
    terminal = shell.Shell(folder, FRESH)
    namespace: dict[str, Any] = {"__name__": "reader"}
    every = read(document)
    for block in every:
        if (document, block.name) in SHOWN_LATE:
            (folder / block.name).write_text(prelude(block) + code(block), encoding="utf-8")
    for block in every:
        if block.file:
            (folder / block.file).write_text(prelude(block) + code(block), encoding="utf-8")
        elif block.language == "python":
            exec(prelude(block), namespace)
            exec(compile("\n" * block.line + code(block), block.document, "exec"), namespace)
        elif block.language == "toml":
            tomllib.loads(block.text)
        else:
            run(terminal, block)


def run(terminal: shell.Shell, block: Block) -> None:
    """Run the commands of a block; each succeeds, unless an `echo $?` behind it shows another exit code."""
    listed = executed(block)
    for place, command in enumerate(listed):
        shown_code = place + 1 < len(listed) and listed[place + 1].text == "echo $?"
        instead = SHORTENED.get((block.document, command.text))
        for line in instead.lines.splitlines() if instead else [command.text]:
            printed = terminal.run(line)
            context = f"{block}: {line}\n{printed}"
            expected = instead.codes if instead else (0,)
            assert shown_code or terminal.code in expected, f"exit code {terminal.code} of {context}"
        if command.shown is not None and not instead:
            wrong = mismatch("\n".join(command.shown), printed)
            assert wrong is None, f"not printed where it is shown: {wrong}\n{context}"


def executed(block: Block) -> list[Command]:
    if block.language not in ("console", "yaml"):
        return []
    return [one for one in commands(block) if (block.document, one.text) not in NOT_RUN]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_is_used(document: str) -> None:
    every = read(document)
    lines = [one.text for block in every for one in executed(block)]
    for place, block in enumerate(every):
        if block.file is None:
            continue
        stem = re.escape(Path(block.file).stem)
        others = [one.text for one in every if one.file and one.file != block.file]
        assert any(re.search(rf"\b{stem}\b", text) for text in lines + others), f"{block}: {block.file} is not used"
        again = next((i for i, one in enumerate(every) if i > place and one.file == block.file), len(every))
        assert any(executed(one) for one in every[place:again]), f"{block}: nothing runs before {block.file} changes"


def test_no_entry_of_the_tables_is_stale() -> None:
    for document in DOCUMENTS:
        every = read(document)
        lines = {one.text for block in every if block.language in ("console", "yaml") for one in commands(block)}
        for table in (NOT_RUN, SHORTENED):
            assert {line for owner, line in table if owner == document} <= lines
        for names in (PRELUDES, SHOWN_LATE):
            assert {name for owner, name in names if owner == document} <= {block.name for block in every}
        for (owner, name), (placeholder, _) in PLACEHOLDERS.items():
            assert owner != document or any(name == one.name and placeholder in one.text for one in every), name
        run_lines = lines | {instead.lines for (owner, _), instead in SHORTENED.items() if owner == document}
        for owner, file in FILES:
            assert owner != document or any(file in line for line in run_lines), file
            assert owner != document or file not in {one.file for one in every}, file
    assert not set(NOT_RUN) & set(SHORTENED)
    assert {
        owner for table in (NOT_RUN, SHORTENED, SHOWN_LATE, PRELUDES, PLACEHOLDERS, FILES) for owner, _ in table
    } <= set(DOCUMENTS)


def test_links_and_pictures_lead_somewhere() -> None:
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"https?:", target):
                continue
            file, _, anchor = target.partition("#")
            path = (ROOT / document).parent / file if file else ROOT / document
            assert path.exists(), f"{document}: {target}"
            if anchor:
                assert anchor in anchors(path.read_text(encoding="utf-8")), f"{document}: {target}"
    pictures = list((ROOT / "docs" / "pictures").iterdir())
    assert sum(one.stat().st_size for one in pictures) < 1_000_000


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def test_the_readmes_settings_are_known(tmp_path: Path) -> None:
    from diag.rules.thresholds import THRESHOLDS
    from diag.settings import load_settings

    (block,) = [one for one in read("README.md") if one.language == "toml"]
    (tmp_path / "pyproject.toml").write_text(block.text, encoding="utf-8")
    settings = load_settings(tmp_path)
    assert settings["rules"] == ["mypackage.myrules"]
    assert set(settings["thresholds"]) <= set(THRESHOLDS)


def test_the_readmes_rule_fires(rules: dict[str, Any]) -> None:
    import torch

    import diag

    (block,) = [one for one in read("README.md") if "@diag.rule" in one.text and one.language == "python"]
    exec(block.text, {})
    assert "large-last-loss" in rules
    model = torch.nn.Linear(4, 1)
    for scale, found in ((1.0, False), (1e6, True)):
        workload = diag.Workload(model, [torch.ones(8, 4)], lambda m, x, s=scale: s * (m(x) - 3).square().mean())
        names = {one.rule for one in diag.check(workload, steps=2).findings}
        assert ("large-last-loss" in names) is found
