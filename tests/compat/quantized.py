"""Rows: quantized modules of torch.ao."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.compat.loops import CLASSES, WIDTH, job
from tests.compat.oracle import Oracle
from tests.compat.registry import Job, setup

GROUP = "Quantized models"
DEPRECATED = (
    "torch.ao.quantization is deprecated",
    "Please use quant_min and quant_max",
    "must run observer before",
    "torch.quantize_per_tensor, torch.quantize_per_channel",
    "TypedStorage is deprecated",
)


class OnQuantized(nn.Module):
    """A body that was quantized after its own training, and a head that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh()).requires_grad_(False), {nn.Linear}, dtype=torch.qint8
        )
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


@setup("dynamically quantized body, float head", GROUP, ignored=DEPRECATED)
def dynamic() -> Job:
    model = OnQuantized()
    packed = model.body[0]._packed_params._packed_params

    def forward(note: Oracle, x: torch.Tensor) -> torch.Tensor:
        x = note("body.0", torch.ops.quantized.linear_dynamic(x.float(), packed, reduce_range=True))
        return note.linear("head", note("body.1", x.tanh()).double())

    return job(model, forward, optimizer=torch.optim.SGD(model.head.parameters(), 0.3))


_OBSERVED = (
    "what is quantized is seen before it is rounded (`0:linear`); fake-quantized outputs have no rows of their own"
)


@setup(
    "fake-quantized modules (quantization-aware training)",
    GROUP,
    partly={
        "works": f"{_OBSERVED}, and the observers, which run inside of them, are listed as not seen",
        "values": _OBSERVED,
    },
    refused={
        "pickle": "torch's observers hold local functions and do not pickle, watched or not; deep copies are made"
    },
    ignored=DEPRECATED,
)
def aware() -> Job:
    model = nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, CLASSES)).train()
    model.qconfig = torch.ao.quantization.get_default_qat_qconfig("x86")
    model = torch.ao.quantization.prepare_qat(model)

    def fake(note: Oracle, name: str, x: torch.Tensor, highest: int, channels: bool) -> torch.Tensor:
        """Observe and round, as the module of that name would."""
        p = {key: note.p[f"{name}.{key}"] for key in ("observer_enabled", "fake_quant_enabled", "scale", "zero_point")}
        least, most = (note.p[f"{name}.activation_post_process.{one}_val"] for one in ("min", "max"))
        lowest = -128 if channels else 0
        return torch.fused_moving_avg_obs_fake_quant(
            x, p["observer_enabled"], p["fake_quant_enabled"], least, most, p["scale"], p["zero_point"],
            0.01, lowest, highest, 0, channels, channels,
        )  # fmt: skip

    def linear(note: Oracle, name: str, x: torch.Tensor) -> torch.Tensor:
        weight = fake(note, f"{name}.weight_fake_quant", note.p[f"{name}.weight"], 127, True)
        x = note(f"{name}:linear", F.linear(x, weight, note.p[f"{name}.bias"]))
        return fake(note, f"{name}.activation_post_process", x, 127, False)

    def forward(note: Oracle, x: torch.Tensor) -> torch.Tensor:
        return linear(note, "2", note("1", linear(note, "0", x).relu()))

    observers = [
        f"{i}.{one}.activation_post_process" for i in "02" for one in ("weight_fake_quant", "activation_post_process")
    ]
    return job(model, forward, precision=None, tolerance=1e-5, not_seen=tuple(observers), fails_in=model[2])
