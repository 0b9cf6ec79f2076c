"""Outputs that a layer's own hooks change, as those of tensor parallelism make them whole: seen after the hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle


def finishes_late(module: nn.Module) -> bool:
    """Whether hooks of a layer's own may change its output when it has run; those of `fully_shard` do not."""
    hooks = module._forward_hooks
    return bool(hooks) and any(".fsdp." not in getattr(hook, "__module__", "") for hook in hooks.values())


class Late:
    """Hooks that are set when a layer begins, so that they come after its own, and are taken away when it has ended."""

    def __init__(self) -> None:
        self._handles: dict[int, RemovableHandle] = {}

    def expect(self, module: nn.Module, see: Callable[[Any, Any, Any], None]) -> None:
        """Have `see(args, kwargs, output)` called once with the output that the caller gets."""

        def final(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self.forget(module)
            see(args, kwargs, output)

        self.forget(module)
        self._handles[id(module)] = module.register_forward_hook(final, with_kwargs=True)

    def expects(self, module: nn.Module) -> bool:
        """Whether this call of a layer is seen later."""
        return bool(self._handles) and id(module) in self._handles

    def forget(self, module: nn.Module) -> None:
        """The layer has ended, or failed."""
        handle = self._handles.pop(id(module), None)
        if handle is not None:
            handle.remove()

    def clear(self) -> None:
        """Take all away."""
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()
