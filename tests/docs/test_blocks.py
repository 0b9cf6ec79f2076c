"""The helpers of test_docs.py: what they find in a document, and which difference of outputs they see."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import DocumentError, blocks, commands
from tests.docs.output import mismatch
from tests.docs.shell import Shell

DOCUMENT = """# Title

<!-- file: net.py -->
```python
x = 1
```

## "Second"

```console
$ diag check a.py:b --input '3x4;5' # a comment
one ... three
$ echo $?
1
```

- in a list

  ```console
  make test    # why
  # nothing but a comment

  diag list
  ```

```yaml
- uses: actions/checkout@v4
- run: pip install .     # a clone
```
"""


def test_blocks_are_found_in_their_order() -> None:
    found = blocks("a.md", DOCUMENT)
    assert [(str(one), one.language, one.name) for one in found] == [
        ("a.md:4", "python", "net.py"),
        ("a.md:10", "console", "Second"),
        ("a.md:19", "console", "Second 2"),
        ("a.md:26", "yaml", "Second"),
    ]
    assert found[0].text == "x = 1\n"


def test_commands_and_what_is_shown_of_them() -> None:
    _, prompts, plain, steps = blocks("a.md", DOCUMENT)
    assert [(one.text, one.shown) for one in commands(prompts)] == [
        ("diag check a.py:b --input '3x4;5'", ("one ... three",)),
        ("echo $?", ("1",)),
    ]
    assert [(one.text, one.shown) for one in commands(plain)] == [("make test", None), ("diag list", None)]
    assert [one.text for one in commands(steps)] == ["pip install ."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```bash\nls\n```\n", r"a\.md:1: a block in 'bash': expected one of \['console', 'python', 'toml', 'yaml'\]"),
        ("```\nls\n```\n", "a block in ''"),
        ("\n```python\nx = 1\n", "a.md:2: the block has no end"),
        ("<!-- file: a.py -->\ntext\n", "a.md:2: <!-- file: a.py --> must stand right above its block"),
        ("<!-- file: a.py -->\n", "a.md: no block follows <!-- file: a.py -->"),
        ("<!-- files: a.py -->\n```python\n```\n", "a.md:1: a comment that no test knows"),
    ],
)
def test_what_no_test_could_run_is_an_error(text: str, expected: str) -> None:
    with pytest.raises(DocumentError, match=expected):
        blocks("a.md", text)


def test_output_above_the_first_prompt_is_an_error() -> None:
    (block,) = blocks("a.md", "```console\n1\n$ echo $?\n```\n")
    with pytest.raises(DocumentError, match="output above the first"):
        commands(block)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a b\nc", "a  b c\n"),
        ("1 error\n+---+", "1 error\n+------+"),
        ("act ##### 0.5", "act ### 0.6"),
        ("falls to 7.2e-12: x0.14", "falls to 5e-12: x0.13"),
        ("accuracy 93.0%", "accuracy 88.4%"),
        ("...\nend", "a b c end"),
        ("a\n...", "a"),
        ("a ... c ... e", "a b b c c d e"),
        ("a ... c", "a c b c"),
        ("", ""),
        ("[0.728, 0.86], n=3", "[0.9, 0.86], n=3"),
        ("│ holds │ a claim │ 1 │\n│ │ in two │ 2 │", "│ holds │ a claim in │ 1 2 │\n│ │ two │ │"),
    ],
)
def test_outputs_that_agree(shown: str, printed: str) -> None:
    assert mismatch(shown, printed) is None


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("1", "0"),
        ("1 error", "2 errors"),
        ("holds", "does not hold"),
        ("does not hold", "holds"),
        ("verdict healthy", "healthy"),
        ("a", "a b"),
        ("a b", "a"),
        ("", "a"),
        ("a", ""),
        ("a ... c", "a c d"),
        ("a ... c", "b c"),
        ("a b ... b c", "a b c"),
        ("...\nlayer12", "layer11"),
        ("falls to 7.2e-12", "falls to 2e-12"),
        ("x0.14", "x14"),
        ("accuracy 93.0%", "accuracy 82.9%"),
        ("50%", "50"),
        ("[0.728, 0.86]", "[-0.728, 0.86]"),
        ("a\n...\nb\n...\nc", "a c b"),
        ("│ holds │ a claim │\n│ holds │ b │", "│ holds │ a claim │\n│ undecided │ b │"),
    ],
)
def test_outputs_that_differ(shown: str, printed: str) -> None:
    assert mismatch(shown, printed) is not None


def test_a_shell_keeps_the_exit_code_and_mixes_both_streams(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    shell = Shell(folder, fresh=True)
    assert shell.run("echo one; echo two >&2; echo three; exit 7") == "one\ntwo\nthree\n"
    assert shell.code == 7
    assert shell.run("echo $?") == "7\n"
    assert shell.run("cat < missing.txt || pwd").splitlines()[-1] == str(folder)
    assert shell.code == 0


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [True, False])
def test_diag_is_the_same_in_both_ways(tmp_path: Path, fresh: bool) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "model.py").touch()
    shell = Shell(folder, fresh)
    text = shell.run("diag check 'mo;del.py:build'")
    assert (text, shell.code) == ("diag: error: no file 'mo;del.py' (did you mean 'model.py'?)\n", 2)
