"""The global hooks that tell of every module's call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.nn.modules import module as global_hooks
from torch.utils.hooks import RemovableHandle

# What `register_module_forward_pre_hook` and `register_module_forward_hook` write to. Their handles take longer to make
# and, in torch 2.13, forget one of these; and the hooks come and go in every step that is not measured.
_HOOKS: tuple[dict[int, Any], ...] = (
    global_hooks._global_forward_pre_hooks,
    global_hooks._global_forward_hooks,
    global_hooks._global_forward_hooks_with_kwargs,
    global_hooks._global_forward_hooks_always_called,
)


class ModuleHooks:
    """Calls `enter` before every module and `leave` behind it, with keywords and also where it raised."""

    def __init__(self, enter: Callable[..., None], leave: Callable[..., None]) -> None:
        self._values = (enter, leave, True, True)
        self._number = RemovableHandle(global_hooks._global_forward_hooks).id
        self.installed = False

    def install(self) -> None:
        """Begin; safe to call twice."""
        if not self.installed:
            self.installed = True
            for hooks, value in zip(_HOOKS, self._values, strict=True):
                hooks[self._number] = value

    def remove(self) -> None:
        """Take them away; safe to call twice and in the middle of a pass."""
        if self.installed:
            self.installed = False
            for hooks in _HOOKS:
                hooks.pop(self._number, None)
