"""Where tensors are met: the names of sites, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from diag.probe.eager import is_compiled
from diag.trace.schema import BESIDE


@dataclass
class Site:
    """One place. root: which watched model. owner: module path in it. suffix: operation, or position in the output."""

    root: int
    owner: str
    suffix: str
    kind: str
    module: str
    op: str
    role: str
    trainable: bool
    order: int = -1
    shape: str = ""
    optimized: bool | None = None
    unit_dim: int | None = None


@dataclass
class Root:
    """A watched model, the paths of its modules and parameters, and where each module holds its own parameters.

    places: by the name of a parameter, what holds it, and under which key. within: the number of a model that it turned
    out to be a part of.
    """

    model: nn.Module
    name: str
    paths: dict[int, str] = field(default_factory=dict)
    parameters: dict[int, str] = field(default_factory=dict)
    holders: list[dict[str, nn.Parameter | None]] = field(default_factory=list)
    places: dict[str, tuple[dict[str, nn.Parameter | None], str]] = field(default_factory=dict)
    compiled: bool = False
    within: int | None = None


class Sites:
    """The registry: models, their modules and parameters, and every site met so far."""

    def __init__(self) -> None:
        self.roots: list[Root] = []
        self.data_ranks: tuple[int, ...] | None = None
        self.table: list[Site] = []
        self._ids: dict[tuple[int, str, str], int] = {}
        self._modules: dict[int, tuple[int, str]] = {}
        self._parameters: dict[int, tuple[int, str]] = {}

    def add_root(self, model: nn.Module) -> int:
        """Watch a model: every module in it gets its path. Of a compiled one, the module it was made from."""
        compiled = is_compiled(model)
        if compiled:
            model = getattr(model, "_orig_mod", model)
        if isinstance(model, nn.parallel.DistributedDataParallel):
            self.see_data_parallel(model)
            model = model.module
        same = sum(root.name.split("#")[0] == class_name(model) for root in self.roots)
        name = class_name(model) + (f"#{same + 1}" if same else "")
        self.roots.append(Root(model, name, compiled=compiled))
        self.rescan(len(self.roots) - 1)
        self._take_in(len(self.roots) - 1)
        return len(self.roots) - 1

    @property
    def several(self) -> bool:
        """Whether more than one model is watched."""
        return sum(one.within is None for one in self.roots) > 1

    def _take_in(self, number: int) -> None:
        """Models that were called alone before, and are parts of this one: what was met in them is a site of this one
        from now on."""
        for other, part in enumerate(self.roots[:number]):
            path = self.roots[number].paths.get(id(part.model))
            if not path or part.within is not None:
                continue
            part.within = number
            for index, site in enumerate(self.table):
                if site.root == other:
                    del self._ids[other, site.owner, site.suffix]
                    site.root, site.owner = number, f"{path}.{site.owner}" if site.owner else path
                    self._ids[number, site.owner, site.suffix] = index

    def watch(self, model: nn.Module) -> None:
        """Watch a model, or what has been added to one that is watched."""
        known = self.find_module(model)
        if known is None:
            self.add_root(model)
        else:
            self.rescan(known[0])

    def see_data_parallel(self, wrapper: nn.parallel.DistributedDataParallel) -> None:
        """A model is trained by several ranks, each on its part of the batch."""
        self.data_ranks = tuple(sorted(torch.distributed.get_process_group_ranks(wrapper.process_group)))

    def rescan(self, index: int) -> None:
        """Learn the modules and parameters a model has now; they may have been added since."""
        root = self.roots[index]
        root.holders = [module._parameters for module in root.model.modules()]
        root.places = {}
        for path, module in root.model.named_modules():
            self._modules[id(module)] = (index, path)
            root.paths[id(module)] = path
            if isinstance(module, torch.jit.ScriptModule):  # what holds its parameters is no dict
                continue
            for key in module._parameters:
                root.places[f"{path}.{key}" if path else key] = module._parameters, key
        for name, parameter in root.model.named_parameters():
            self._parameters[id(parameter)] = (index, name)
            root.parameters[id(parameter)] = name

    def find_module(self, module: nn.Module) -> tuple[int, str] | None:
        """The model and path of a watched module."""
        return self._modules.get(id(module))

    def wraps_known(self, module: nn.Module) -> bool:
        """Whether a module has nothing of its own but one that is watched, or some of one model, as a slice has."""
        children = [one for one in module._modules.values() if one is not None]
        if not children or any(one is not None for one in module._parameters.values()):
            return False
        found = [self.find_module(one) for one in children]
        roots = {None if one is None or not one[1] else one[0] for one in found}
        return None not in found if len(children) == 1 else len(roots) == 1 and None not in roots

    def find_parameter(self, parameter: torch.Tensor) -> tuple[int, str] | None:
        """The model and name of a watched parameter."""
        return self._parameters.get(id(parameter))

    def of_parameter(self, parameter: torch.Tensor) -> int | None:
        """The number of its site, if it was met before."""
        found = self.find_parameter(parameter)
        if found is None:
            return None
        owner, _, name = found[1].rpartition(".")
        return self.get(found[0], owner, name)

    def is_replaced(self, parameter: torch.Tensor) -> bool:
        """Whether something else stands where its model had this parameter."""
        found = self.find_parameter(parameter)
        place = None if found is None else self.roots[found[0]].places.get(found[1])
        return place is not None and place[0].get(place[1]) is not parameter

    def get(self, root: int, owner: str, suffix: str) -> int | None:
        """The number of a site that was met before."""
        return self._ids.get((root, owner, suffix))

    def add(self, site: Site) -> int:
        """Register a site and return its number."""
        self.table.append(site)
        self._ids[(site.root, site.owner, site.suffix)] = len(self.table) - 1
        return len(self.table) - 1

    def name(self, site: Site) -> str:
        """What the site is called: its path, `Root:relu` for a functional of the root.

        Where several models are watched, each name begins with its model's.
        """
        root = self.roots[site.root]
        path = site.owner
        if self.several:
            path = f"{root.name}.{path}" if path else root.name
        elif not path and site.kind == "output":
            path = root.name
        if site.kind == "parameter":
            return f"{path}.{site.suffix}" if path else site.suffix
        return path + site.suffix


def class_name(module: nn.Module) -> str:
    """The name of its class; of one that `fully_shard` has changed, of the class it had."""
    kind = type(module)
    return kind.__bases__[-1].__name__ if kind.__name__ == f"FSDP{kind.__bases__[-1].__name__}" else kind.__name__


_NO_UNITS = ("attention", "softmax", "log_softmax", "input", "div", "norm", *BESIDE)
_SPATIAL = {f"{name}{n}d": n for name in ("conv", "conv_transpose") for n in (1, 2, 3)}


def unit_dim_of(op: str, tensor: torch.Tensor, layouts: dict[tuple[int, ...], int | None]) -> int | None:
    """The dimension of the units: 1 for images and normalized channels, the last for features; None for no units.

    An elementwise operation keeps the layout of the layer whose output had the same shape: `layouts` remembers those.
    """
    ndim = tensor.ndim
    if ndim < 2 or op in _NO_UNITS:
        return None
    if op in _SPATIAL:
        return ndim - 1 - _SPATIAL[op] if ndim > _SPATIAL[op] else None
    if op in ("batch_norm", "group_norm", "instance_norm"):
        return 1
    if op in (
        "linear",
        "layer_norm",
        "rms_norm",
        "embedding",
        "embedding_bag",
        "lstm",
        "gru",
        "rnn",
        "matmul",
        "addmm",
    ):
        return ndim - 1
    if tuple(tensor.shape) in layouts:
        return layouts[tuple(tensor.shape)]
    return 1 if ndim in (2, 4, 5) else ndim - 1
