from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def luminance() -> Callable[[str], float]:
    """Relative luminance of a color, WCAG 2.2."""

    def measure(color: str) -> float:
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    return measure
