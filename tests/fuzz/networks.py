"""Random networks that can also be run by hand: every output and every functional is noted on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tests.probe.by_hand import unnoted

Note = Callable[[str, Tensor], Tensor]
FUNCTIONALS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": lambda x: x.sigmoid(),
    "gelu": F.gelu,
    "silu": F.silu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
}
ELEMENTWISE: list[Callable[[], nn.Module]] = [
    nn.ReLU,
    lambda: nn.ReLU(inplace=True),
    nn.Tanh,
    nn.Sigmoid,
    nn.GELU,
    nn.ELU,
    nn.Softplus,
    nn.Hardtanh,
    nn.Identity,
    lambda: nn.Dropout(0.3),
]


class Node(nn.Module):
    """A module of the user's own. path: where it stands in the network."""

    path = ""

    def at(self, name: str) -> str:
        """The path of a child."""
        return f"{self.path}.{name}" if self.path else name

    def call(self, module: nn.Module, name: str, x: Tensor, note: Note) -> Tensor:
        """A child called, and what it gives written down if it is a layer."""
        if isinstance(module, Node):
            return module(x, note)
        if isinstance(module, nn.Sequential) and note is not unnoted:
            for i, layer in enumerate(module):
                x = note(f"{name}.{i}", layer(x)).clone()
            return x
        y = module(x)
        # By hand the next layer gets a copy: one that works in place must not change what was noted.
        return y if note is unnoted or isinstance(module, nn.Sequential) else note(name, y).clone()


class Chain(Node):
    """One after the other, `times` times over."""

    def __init__(self, parts: list[nn.Module], times: int = 1) -> None:
        super().__init__()
        self.parts, self.times = nn.ModuleList(parts), times

    def forward(self, x: Tensor, note: Note = unnoted) -> Tensor:
        for _ in range(self.times):
            for i, part in enumerate(self.parts):
                x = self.call(part, self.at(f"parts.{i}"), x, note)
        return x


class Branches(Node):
    """The sum of what several parts make of the same input, and perhaps the input itself."""

    def __init__(self, parts: list[nn.Module], skip: bool) -> None:
        super().__init__()
        self.parts, self.skip = nn.ModuleDict({f"branch{i}": part for i, part in enumerate(parts)}), skip

    def forward(self, x: Tensor, note: Note = unnoted) -> Tensor:
        results = [self.call(part, self.at(f"parts.{name}"), x.clone(), note) for name, part in self.parts.items()]
        return torch.stack([*results, *([x] if self.skip else [])]).sum(0)


class Functional(Node):
    """No module: a function, as many people write it."""

    def __init__(self, op: str) -> None:
        super().__init__()
        self.op, self.child = op, nn.Identity()

    def forward(self, x: Tensor, note: Note = unnoted) -> Tensor:
        x = self.call(self.child, self.at("child"), x, note)
        return note(
            f"{self.path}:{self.op}" if self.path else f"{type(self).__name__}:{self.op}", FUNCTIONALS[self.op](x)
        )


class Wrapped(Node):
    """Gives its output in a dict, beside what is no tensor, and takes it out again."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = Boxed(inner)

    def forward(self, x: Tensor, note: Note = unnoted) -> Tensor:
        out: Tensor = self.inner(x, note)["out"]
        return out


class Boxed(Node):
    """What `Wrapped` unwraps."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, note: Note = unnoted) -> dict[str, Any]:
        return {"nothing": None, "out": self.call(self.inner, self.at("inner"), x, note), "name": "out"}


def elementwise() -> st.SearchStrategy[nn.Module]:
    """An activation. It follows a linear layer: what works in place may not overwrite what its input's own gradient is
    computed from."""
    return st.sampled_from(ELEMENTWISE).map(lambda make: make())


@st.composite
def parts(draw: st.DrawFn, width: int, depth: int) -> nn.Module:
    """A part that keeps the last dimension's size."""
    kinds = ["linear", "elementwise", "norm", "functional", "sequential"]
    kind = draw(st.sampled_from(kinds + (["chain", "branches", "wrapped", "shared"] if depth else [])))
    if kind == "linear":
        return nn.Linear(width, width, bias=draw(st.booleans()))
    if kind == "elementwise":
        return nn.Sequential(nn.Linear(width, width), draw(elementwise()))
    if kind == "norm":
        return nn.LayerNorm(width)
    if kind == "functional":
        return Functional(draw(st.sampled_from(sorted(FUNCTIONALS))))
    if kind == "sequential":
        return nn.Sequential(
            *(one for _ in range(draw(st.integers(1, 3))) for one in (nn.Linear(width, width), draw(elementwise())))
        )
    inner = parts(width, depth - 1)
    if kind == "wrapped":
        return Wrapped(draw(inner))
    several = draw(st.lists(inner, min_size=1, max_size=3))
    if kind == "branches":
        return Branches(several, draw(st.booleans()))
    return Chain(several, times=draw(st.integers(2, 3)) if kind == "shared" else 1)


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A network, and inputs for it."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    width = draw(st.integers(1, 9))
    shape = [draw(st.integers(1, 7)), *draw(st.lists(st.integers(1, 5), max_size=2)), draw(st.integers(1, 6))]
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    first = nn.Linear(shape[-1], width)
    model = Chain([first, *draw(st.lists(parts(width, 2), min_size=1, max_size=4)), nn.Linear(width, 2)]).to(dtype)
    for path, module in model.named_modules():
        if isinstance(module, Node):
            module.path = path
    return model, torch.randn(shape, dtype=dtype)
