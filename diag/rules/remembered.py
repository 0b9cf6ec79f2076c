"""What several rules ask of the same evidence, worked out once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from diag.rules.evidence import Evidence

_More = ParamSpec("_More")
_Answer = TypeVar("_Answer")


def remembered(
    function: Callable[Concatenate[Evidence, _More], _Answer],
) -> Callable[Concatenate[Evidence, _More], _Answer]:
    """A function of evidence whose answer, which nobody changes, is kept with the evidence."""

    @functools.wraps(function)
    def once(evidence: Evidence, /, *args: _More.args, **kwargs: _More.kwargs) -> _Answer:
        key: tuple[Any, ...] = (function, args, tuple(kwargs.items()))
        if key not in evidence.memo:
            evidence.memo[key] = function(evidence, *args, **kwargs)
        answer: _Answer = evidence.memo[key]
        return answer

    return once
