"""A training script that several ranks run, or one process with the whole batch. Arguments: rank that fails, how."""

import os
import signal
import sys

import torch
import torch.distributed as dist
from torch import nn

RANK, WORLD = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
failing, how = int(sys.argv[1]), sys.argv[2]
torch.manual_seed(0)
layers = [part for _ in range(8) for part in (nn.Linear(8, 8), nn.Sigmoid())]
model: nn.Module = nn.Sequential(*layers, nn.Linear(8, 3))
if WORLD > 1:
    dist.init_process_group("gloo")
    model = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), 0.05)
data = torch.Generator().manual_seed(1)
for step in range(20):
    if (RANK, step) == (failing, 12):
        if how == "raises":
            raise ValueError("no such sample")
        os.kill(os.getpid(), signal.SIGKILL)
    x, y = torch.randn(32, 8, generator=data), torch.randint(3, (32,), generator=data)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x.chunk(WORLD)[RANK]), y.chunk(WORLD)[RANK]).backward()
    optimizer.step()
print(f"rank {RANK} is done\n", end="", flush=True)  # in one piece: both write to one stream
if how == "destroys" and WORLD > 1:
    dist.destroy_process_group()
