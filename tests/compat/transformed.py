"""Rows: models that are compiled, called as functions, or wrapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tests.compat.loops import Batch, batches, job, loss_of, network, network_forward
from tests.compat.oracle import Oracle
from tests.compat.registry import Job, Snap, setup

GROUP = "Compiled, functional and wrapped models"
BACKEND = "aot_eager"


def _compiled(backend: str) -> Job:
    torch._dynamo.reset()  # else the ninth model of this code would run eagerly by itself
    model = network()
    compiled: Any = torch.compile(model, backend=backend)
    compiled(batches()[0][0]).sum().backward()
    model.zero_grad()
    return job(model, network_forward, call=compiled)


@setup("torch.compile, compiled and run before the watch", GROUP)
def compiled_before() -> Job:
    return _compiled(BACKEND)


@setup("torch.compile, compiled while watched", GROUP)
def compiled_within() -> Job:
    torch._dynamo.reset()
    one = job(model := network(), network_forward)

    def train(snap: Snap) -> None:
        compiled = torch.compile(model, backend=BACKEND)
        job(model, network_forward, call=compiled, optimizer=one.optimizers[0]).train(snap)

    one.train = train
    return one


@setup(
    "torch.compile with inductor",
    GROUP,
    no={
        "identical": "compiled code runs eagerly while it is watched, and inductor's kernels round otherwise than "
        "eager ones: the watched training is the eager one"
    },
    ignored=("`torch.jit.script",),
    slow=True,
)
def inductor() -> Job:
    return _compiled("inductor")


@setup("Module.compile()", GROUP)
def compiled_in_place() -> Job:
    torch._dynamo.reset()
    model = network()
    model.compile(backend=BACKEND)
    return job(model, network_forward)


@setup("torch.func.functional_call", GROUP)
def functional_call() -> Job:
    model = network()
    return job(
        model,
        network_forward,
        call=lambda x: torch.func.functional_call(model, {n: p * 1.0 for n, p in model.named_parameters()}, (x,)),
    )


_WRAPPED = "inside torch.func.grad tensors are wrappers without numbers of their own: weights, their gradients and "
_WRAPPED += "updates are measured, activations and their gradients are not, and the coverage says so"


@setup("torch.func.grad and vmap", GROUP, no={"works": _WRAPPED, "values": _WRAPPED})
def per_sample() -> Job:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    one = job(model, network_forward, optimizer=optimizer)

    def loss(values: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return loss_of(torch.func.functional_call(model, values, (x[None],)), y[None])

    slopes: Callable[..., dict[str, torch.Tensor]] = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))

    def train(snap: Snap) -> None:
        for x, y in batches():
            snap((x, y))
            values = {name: parameter.detach() for name, parameter in model.named_parameters()}
            for name, gradient in slopes(values, x, y).items():
                model.get_parameter(name).grad = gradient.mean(0)
            optimizer.step()

    one.train = train
    return one


@setup("nn.DataParallel, on a machine without a GPU", GROUP, hosts=True)
def data_parallel() -> Job:
    def oracle(note: Oracle, batch: Batch) -> None:
        note.backward(loss_of(network_forward(note, note.cast(batch[0]), "module."), batch[1]))

    one = job(nn.DataParallel(network()), network_forward)
    one.oracle = oracle
    return one
