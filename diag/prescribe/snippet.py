"""Code to paste, in the parts in which it is pasted: imports on top of a file, lines into the function that trains."""

from __future__ import annotations

import symtable
from collections.abc import Iterator
from dataclasses import dataclass

USERS = ("model", "optimizer", "loss", "batches")
"""What is the user's own in the code of a remedy."""


@dataclass(frozen=True)
class Snippet:
    """imports: lines for the top of a file: within a function they would make local what its earlier lines read.

    lines: the others. names: those of `USERS` that these read.
    """

    imports: str
    lines: str
    names: tuple[str, ...]


def snippet(code: str) -> Snippet:
    """The parts of a remedy's code."""
    imports = [line for line in code.splitlines() if is_import(line)]
    lines = "\n".join(line for line in code.splitlines() if not is_import(line)).strip("\n")
    read = set(_read(symtable.symtable(lines, "remedy", "exec")))
    return Snippet("\n".join(imports), lines, tuple(name for name in USERS if name in read))


def is_import(line: str) -> bool:
    """Whether a line of code imports, at the top."""
    return line.startswith(("import ", "from "))


def _read(table: symtable.SymbolTable) -> Iterator[str]:
    """The names of the module that it, or a function or class in it, reads."""
    for one in table.get_symbols():
        if one.is_referenced() and (table.get_type() == "module" or one.is_global()):
            yield one.get_name()
    for inner in table.get_children():
        yield from _read(inner)
