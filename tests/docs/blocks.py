"""A Markdown document as its blocks: files, code, commands, and the output that it shows of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

LANGUAGES = {"python", "console", "toml", "yaml"}
_FENCE = re.compile(r"(\s*)(`{3,}|~{3,})\s*(.*)")
_FILE = re.compile(r"<!-- file: (\S+) -->")
_RUN = re.compile(r"\s*(?:- )?run: (.+)")


class DocumentError(ValueError):
    """A document that cannot be read as blocks."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    line: of its fence, from 1. section: the heading above it. file: what `<!-- file: -->` names. place: the how manieth
    of its language it is in its section, files apart.
    """

    document: str
    line: int
    language: str
    text: str
    section: str
    file: str | None = None
    place: int = 1

    @property
    def name(self) -> str:
        """What the tests' tables call it: its file, or its section, with a number from the second block on."""
        return self.file or (self.section if self.place == 1 else f"{self.section} {self.place}")

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command line without its comment. shown: the lines of output below its prompt; None without a prompt."""

    text: str
    shown: tuple[str, ...] | None = None


def blocks(document: str, text: str) -> list[Block]:
    """All fenced blocks of a document, in its order.

    Raises: DocumentError for a language or a comment that no test knows, a block without an end, or a file's comment
    that no block follows.
    """
    found: list[Block] = []
    section, file, body = "", None, []
    fence: re.Match[str] | None = None
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        match = _FENCE.fullmatch(line)
        if fence is not None:
            if match and match[2].startswith(fence[2]) and not match[3]:
                lines = [one.removeprefix(fence[1]) for one in body]
                before = sum((one.section, one.language, one.file) == (section, fence[3], None) for one in found)
                found.append(Block(document, start, fence[3], "\n".join(lines) + "\n", section, file, before + 1))
                fence, file = None, None
            else:
                body.append(line)
        elif match:
            if match[3] not in LANGUAGES:
                raise DocumentError(
                    f"{document}:{number}: a block in '{match[3]}': expected one of {sorted(LANGUAGES)}"
                )
            fence, start, body = match, number, []
        elif line.startswith("#"):
            section = line.lstrip("#").strip().strip('"')
        elif named := _FILE.fullmatch(line.strip()):
            file = named[1]
        elif line.startswith("<!--"):
            raise DocumentError(f"{document}:{number}: a comment that no test knows: expected <!-- file: NAME -->")
        elif line.strip() and file:
            raise DocumentError(f"{document}:{number}: <!-- file: {file} --> must stand right above its block")
    if fence is not None:
        raise DocumentError(f"{document}:{start}: the block has no end")
    if file:
        raise DocumentError(f"{document}: no block follows <!-- file: {file} -->")
    return found


def commands(block: Block) -> list[Command]:
    """The commands of a console block, with the output shown if it has `$ ` prompts; the `run:` lines of a YAML one.

    Raises: DocumentError for output above the first prompt.
    """
    lines = block.text.splitlines()
    if block.language == "yaml":
        return [Command(without_comment(match[1])) for line in lines if (match := _RUN.fullmatch(line))]
    if not any(line.startswith("$ ") for line in lines):
        return [Command(text) for line in lines if (text := without_comment(line))]
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append((without_comment(line[2:]), []))
        elif found:
            found[-1][1].append(line)
        else:
            raise DocumentError(f"{block}: output above the first `$ `")
    return [Command(text, tuple(shown)) for text, shown in found]


def without_comment(line: str) -> str:
    """A command line without a trailing `# comment`."""
    return re.sub(r"(^|\s+)#\s.*$", "", line).strip()
