"""Whether the output that a document shows is what was printed."""

from __future__ import annotations

import re

GAP = "..."
_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?%?)")
# Rules, bars and sparklines of tables: how long they are follows from numbers that are compared beside them.
_ORNAMENT = re.compile(r"[-_.=+*#|\u2500-\u259f]+")


def mismatch(shown: str, printed: str) -> str | None:
    """What the document shows and was not printed there, or None.

    Both are read word by word, so that lines may break elsewhere; ornaments are left out. A word `...` stands for any
    number of words. Words are equal, save that fractions may differ by a factor of 2, and percentages by 10 points;
    whole numbers, such as counts and exit codes, are equal.
    """
    shown, printed = unwrapped(shown), unwrapped(printed)
    parts: list[list[str]] = [[]]
    for word in shown.split():
        if word == GAP:
            parts.append([])
        elif not _ORNAMENT.fullmatch(word):
            parts[-1].append(word)
    words = [word for word in printed.split() if not _ORNAMENT.fullmatch(word)]
    at = 0
    for number, part in enumerate(parts):
        end = len(words) - len(part)
        # What stands before the first gap begins the output, and what stands behind the last one ends it.
        starts = {
            (True, True): [at] if end == at else [],
            (True, False): [at],
            (False, True): [end] if end >= at else [],
        }.get((number == 0, part is parts[-1]), range(at, end + 1))
        found = next((one for one in starts if _agree(part, words[one:])), None)
        if found is None:
            return " ".join(part) or f"the end, where it says: {' '.join(words[at:])}"
        at = found + len(part)
    return None


def unwrapped(text: str) -> str:
    """The text with each row of a table on one line: a line whose first cell is empty goes on with the row above it."""
    lines: list[str] = []
    row: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("│")[1:-1]] if line.startswith("│") else []
        if row and len(cells) == len(row) and not cells[0]:
            row = [f"{above} {below}" for above, below in zip(row, cells, strict=True)]
            lines[-1] = " │ ".join(row)
        else:
            row = cells
            lines.append(" │ ".join(cells) or line)
    return "\n".join(lines)


def _agree(part: list[str], words: list[str]) -> bool:
    return len(words) >= len(part) and all(same(one, other) for one, other in zip(part, words, strict=False))


def same(shown: str, printed: str) -> bool:
    """Whether two words agree, as `mismatch` says."""
    ours, theirs = _NUMBER.split(shown), _NUMBER.split(printed)
    # Odd places hold the numbers, even ones what stands between them.
    return len(ours) == len(theirs) and ours[::2] == theirs[::2] and all(map(_near, ours[1::2], theirs[1::2]))


def _near(shown: str, printed: str) -> bool:
    if shown.isdigit() and printed.isdigit():
        return shown == printed
    if shown.endswith("%") or printed.endswith("%"):
        return shown[-1] == printed[-1] and abs(float(shown[:-1]) - float(printed[:-1])) <= 10
    smaller, larger = sorted((float(shown), float(printed)))
    return larger <= 2 * smaller
