"""Every torch function that is called while modules run, shown to whoever measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode


class FunctionMode(TorchFunctionMode):
    """Lets every torch function pass and shows it, with what it returned, afterwards. fail: is told what that
    raises."""

    def __init__(
        self, see: Callable[[Any, tuple[Any, ...], dict[str, Any], Any], None], fail: Callable[[Exception], None]
    ) -> None:
        super().__init__()
        self._see, self._fail = see, fail

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        try:
            self._see(func, args, kwargs, output)
        except Exception as error:
            self._fail(error)
        return output
