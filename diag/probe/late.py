"""Outputs of tensor-parallel layers, seen after the layer's own hooks have made them whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from diag.probe.shards import as_dtensor


def finishes_late(module: nn.Module) -> bool:
    """Whether a layer's hooks still sum its output over the ranks when it has run; those of `fully_shard` do not."""
    sharded = any(as_dtensor(one) is not None for one in module.parameters(recurse=False))
    return sharded and any(".fsdp." not in getattr(hook, "__module__", "") for hook in module._forward_hooks.values())


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
