"""MNIST and CIFAR-10 from files that the user has: read as bytes, never unpickled."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
import torch

from diag.recipes.dataset import Batch
from diag.recipes.spec import RecipeError

VARIABLE = "DIAG_DATA"
_UNPACKED = {"mnist": "MNIST/raw", "cifar10": "cifar-10-batches-bin"}
"""Where the usual downloads put the files, below the folder that they were given."""


def mnist_arrays(folder: str) -> tuple[Batch, Batch]:
    """Training and test part: images [count, 1, 28, 28] in [0, 1], labels [count].

    Raises: RecipeError naming the file that is missing or damaged, and where it was looked for.
    """
    homes = _homes(folder, "mnist")
    train, test = (_mnist(homes, name) for name in ("train", "t10k"))
    return train, test


def cifar10_arrays(folder: str) -> tuple[Batch, Batch]:
    """Training and test part: images [count, 3, 32, 32] in [0, 1], labels [count]; of the binary version.

    Raises: RecipeError as `mnist_arrays`.
    """
    homes = _homes(folder, "cifar10")
    train = [_cifar(homes, f"data_batch_{number}.bin") for number in range(1, 6)]
    whole = (torch.cat([one[0] for one in train]), torch.cat([one[1] for one in train]))
    return whole, _cifar(homes, "test_batch.bin")


def _homes(folder: str, name: str) -> list[Path]:
    if not folder and not os.environ.get(VARIABLE):
        raise RecipeError(
            f"the data set '{name}' is read from files of yours: give their folder, {name}(folder='...'), or set "
            f"{VARIABLE} to the folder that holds {name}/"
        )
    home = Path(folder) if folder else Path(os.environ[VARIABLE]) / name
    return [home, home / _UNPACKED[name]]


def _read(homes: list[Path], name: str) -> bytes:
    for path in (home / file for home in homes for file in (name, f"{name}.gz")):
        if path.is_file():
            try:
                return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            except (OSError, EOFError, zlib.error) as error:
                raise RecipeError(f"{path} cannot be read ({error}): fetch it again") from None
    places = " or ".join(map(str, homes))
    raise RecipeError(f"no file '{name}' (or '{name}.gz') in {places}: put the original files of the data set there")


def _mnist(homes: list[Path], name: str) -> Batch:
    images = torch.tensor(_idx(homes, f"{name}-images-idx3-ubyte", 3)).unsqueeze(1).float() / 255
    labels = torch.tensor(_idx(homes, f"{name}-labels-idx1-ubyte", 1)).long()
    return _matching(images, labels, f"{name}-images and {name}-labels in {homes[0]}")


def _idx(homes: list[Path], name: str, dimensions: int) -> np.ndarray:
    data, start = _read(homes, name), 4 * (dimensions + 1)
    sizes = [int.from_bytes(data[place : place + 4], "big") for place in range(4, start, 4)]
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) != start + math.prod(sizes):
        raise RecipeError(f"{homes[0] / name} is no IDX file of bytes in {dimensions} dimensions, or is cut off")
    return np.frombuffer(data, np.uint8, offset=start).reshape(sizes).copy()


def _cifar(homes: list[Path], name: str) -> Batch:
    data = np.frombuffer(_read(homes, name), np.uint8)
    if not len(data) or len(data) % 3073:
        raise RecipeError(f"{homes[0] / name} is not of CIFAR-10's binary version: its length is no multiple of 3073")
    rows = data.reshape(-1, 3073)
    images = torch.tensor(rows[:, 1:].reshape(-1, 3, 32, 32)).float() / 255
    return _matching(images, torch.tensor(rows[:, 0].astype(np.int64)), str(homes[0] / name))


def _matching(images: torch.Tensor, labels: torch.Tensor, what: str) -> Batch:
    if not len(images) or len(images) != len(labels) or int(labels.max()) > 9:
        raise RecipeError(f"{what}: {len(images)} images and {len(labels)} labels, which must be as many and below 10")
    return images, labels
