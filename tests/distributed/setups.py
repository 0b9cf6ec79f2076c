"""Rows: one model trained by several processes (gloo, on the CPU). Built only within a process group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from tests.compat.loops import CLASSES, WIDTH, Batch, batches, job, loss_of, network, network_forward
from tests.compat.loops import ROWS as ROWS_OF_DATA
from tests.compat.oracle import Oracle, state_of
from tests.compat.registry import Job, Setup, Snap

RANKS: dict[str, int] = {}
"""How many processes each row takes."""
ROWS: list[Setup] = []
GROUP = "Several processes"


def distributed(name: str, ranks: int, **options: Any) -> Callable[[Callable[[], Job]], Callable[[], Job]]:
    """Enter a row of so many processes."""

    def enter(build: Callable[[], Job]) -> Callable[[], Job]:
        ROWS.append(Setup(f"{name}, {ranks} processes", GROUP, build=build, slow=True, **options))
        RANKS[ROWS[-1].name] = ranks
        return build

    return enter


def mine(batch: Batch, together: int = 1) -> Batch:
    """This rank's part of the batch. together: how many ranks have the same one."""
    rank, parts = dist.get_rank() // together, dist.get_world_size() // together
    return batch[0].chunk(parts)[rank], batch[1].chunk(parts)[rank]


def _data_parallel(model: nn.Module, together: int = 1, **options: Any) -> Job:
    """Each rank trains on its part, and the oracle on the whole."""
    optimizer = torch.optim.SGD(model.parameters(), 0.3, momentum=0.9)
    one = job(model, network_forward, optimizer=optimizer, reports=dist.get_rank() == 0, **options)

    def train(snap: Snap) -> None:
        for batch in batches():
            snap(batch)
            x, y = mine(batch, together)
            optimizer.zero_grad()
            loss_of(model(x), y).backward()
            optimizer.step()

    one.train = train
    return one


@distributed("DistributedDataParallel", 4)
@distributed("DistributedDataParallel", 2)
def ddp() -> Job:
    return _data_parallel(nn.parallel.DistributedDataParallel(network()))


_REFUSED = "torch refuses to copy and pickle fully sharded modules, watched or not; there is `state_dict`"
_FSDP = {"deepcopy": _REFUSED, "pickle": _REFUSED}


@distributed("FSDP2 (fully_shard)", 4, refused=_FSDP)
@distributed("FSDP2 (fully_shard)", 2, refused=_FSDP)
def fsdp() -> Job:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = network()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for part in (model[0], model[2], model):
        fully_shard(part, mesh=mesh)
    return _data_parallel(model)


@distributed("FSDP2, sharded twice and replicated twice", 4, refused=_FSDP)
def hybrid() -> Job:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = network()
    fully_shard(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("copies", "shards")))
    return _data_parallel(model)


_LAMBDA = {"pickle": "torch puts functions into tensor-parallel layers that do not pickle, watched or not"}


@distributed("tensor parallel (DTensor)", 4, refused=_LAMBDA)
@distributed("tensor parallel (DTensor)", 2, refused=_LAMBDA)
def tensor_parallel() -> Job:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    model = network()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    return job(model, network_forward, reports=dist.get_rank() == 0)


@distributed("FSDP2 with tensor parallel", 4, refused=_FSDP, ignored=("FSDP2-wrapped module",))
def both() -> Job:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    model = network()
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    parallelize_module(model, mesh["tensor"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    for part in (model[0], model[2], model):
        fully_shard(part, mesh=mesh["data"])
    return _data_parallel(model, together=2)


class Stage(nn.Module):
    """One of the two halves of the usual network."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        whole = network()
        self.layers = nn.ModuleDict({"b": whole[2]} if last else {"a": whole[0], "act": whole[1]})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return x


_STAGES = "each stage's rank reports what it has of the model; the parts are not put together, and only the last one "
_STAGES += "knows the loss"


_LEFT = "tested with an exception between steps: one in a stage leaves the other stages waiting for it, watched or not"


@distributed("pipeline stages (GPipe)", 2, partly={"works": _STAGES, "values": _STAGES, "hooks gone": _LEFT})
def pipeline() -> Job:
    from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

    last = dist.get_rank() == 1
    model = Stage(last)
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    shapes = [(WIDTH,), (8,), (CLASSES,)][int(last) :]
    given, made = (torch.zeros(ROWS_OF_DATA // 2, *one, requires_grad=True) for one in shapes[:2])
    stage = PipelineStage(model, int(last), 2, torch.device("cpu"), input_args=(given,), output_args=(made,))
    schedule = ScheduleGPipe(stage, n_microbatches=2, loss_fn=loss_of)

    def train(snap: Snap) -> None:
        for x, y in batches():
            states: list[Any] = [None, None]
            dist.all_gather_object(states, state_of(model))
            snap((x, y, states))
            optimizer.zero_grad()
            schedule.step(*() if last else (x,), target=y if last else None)
            optimizer.step()

    def oracle(note: Oracle, batch: Any) -> None:
        """Both micro-batches go forward before either goes backward; weights get the mean of their gradients."""
        x, y, states = batch
        other = {name: note.cast(one) for name, one in states[not last].items()}
        total = torch.zeros(())
        for part, labels in zip(x.chunk(2), y.chunk(2), strict=True):
            p = {**note.p, **other}
            inner = note.cast(part) @ p["layers.a.weight"].mT + p["layers.a.bias"]
            inner = inner if last else note("layers.a", inner)
            inner = inner.tanh() if last else note("layers.act", inner.tanh())
            inner = inner @ p["layers.b.weight"].mT + p["layers.b.bias"]
            total = total + loss_of(note("layers.b", inner) if last else inner, labels)
        note.backward(total, share=0.5)

    return Job(model, train, oracle, [optimizer], loss_known=last, fails_in_loop=True)
