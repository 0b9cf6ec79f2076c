"""MNIST and CIFAR-10 from files: written here in the published formats, and damaged in every way."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from diag.recipes.data import cifar10, mnist
from diag.recipes.local_data import VARIABLE, cifar10_arrays, mnist_arrays
from diag.recipes.spec import RecipeError

RANDOM = np.random.default_rng(0)
IMAGES = {name: RANDOM.integers(0, 256, (count, 28, 28), np.uint8) for name, count in (("train", 60), ("t10k", 10))}
LABELS = {name: RANDOM.integers(0, 10, len(images), np.uint8) for name, images in IMAGES.items()}
BATCHES = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
ROWS = {
    name: np.concatenate([RANDOM.integers(0, 10, (20, 1)), RANDOM.integers(0, 256, (20, 3072))], 1).astype(np.uint8)
    for name in BATCHES
}


def idx(array: np.ndarray) -> bytes:
    """The format of LeCun's page: two zero bytes, type 8, dimensions, big-endian sizes, bytes in C order."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, packed: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in IMAGES:
        for kind, array in ((f"{name}-images-idx3-ubyte", IMAGES[name]), (f"{name}-labels-idx1-ubyte", LABELS[name])):
            if packed:
                (folder / f"{kind}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / kind).write_bytes(idx(array))
    return folder


def write_cifar10(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in ROWS.items():
        (folder / name).write_bytes(rows.tobytes())
    return folder


@pytest.mark.parametrize("below", ["", "MNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_mnist(tmp_path: Path, packed: bool, below: str) -> None:
    write_mnist(tmp_path / below, packed)
    for (images, labels), name in zip(mnist_arrays(str(tmp_path)), IMAGES, strict=True):
        assert images.shape[1:] == (1, 28, 28)
        assert np.array_equal((images[:, 0] * 255).round().numpy(), IMAGES[name])
        assert np.array_equal(labels.numpy(), LABELS[name])


def test_cifar10(tmp_path: Path) -> None:
    (images, labels), (test, _) = cifar10_arrays(str(write_cifar10(tmp_path)))
    assert images.shape == (100, 3, 32, 32) and test.shape == (20, 3, 32, 32)
    # A row is the label, then 1024 bytes of red, of green, of blue, row by row.
    rows = ROWS["data_batch_2.bin"]
    assert float(images[20 + 7, 1, 3, 5] * 255) == pytest.approx(rows[7, 1 + 1024 + 3 * 32 + 5])
    assert labels[20:40].tolist() == rows[:, 0].tolist()


def test_parts_are_standardized_by_what_is_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "mnist", True)
    write_cifar10(tmp_path / "cifar10")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    for build, counts, channels in ((mnist, [50, 10, 10], 1), (cifar10, [80, 20, 20], 3)):
        dataset = build(0)
        assert [len(one[1]) for one in (dataset.train, dataset.valid, dataset.test)] == counts
        learned = dataset.train[0].double().numpy()
        assert learned.mean((0, 2, 3)) == pytest.approx([0] * channels, abs=1e-5)
        assert learned.std((0, 2, 3)) == pytest.approx([1] * channels, abs=1e-3)
        assert dataset.inputs == dataset.train[0].shape[1:] and dataset.outputs == 10
        assert not torch.equal(build(1).valid[0], dataset.valid[0])


def test_without_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for build, name in ((mnist, "mnist"), (cifar10, "cifar10")):
        with pytest.raises(
            RecipeError, match=rf"{name}\(folder='...'\), or set DIAG_DATA to the folder that holds {name}/"
        ):
            build(0)


def test_a_missing_file_and_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match=f"no file 'train-images-idx3-ubyte' .*in {tmp_path} or {tmp_path}/MNIST/raw"):
        mnist(0, folder=str(tmp_path))
    (write_cifar10(tmp_path / "cifar10") / "data_batch_4.bin").unlink()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(RecipeError, match=r"no file 'data_batch_4.bin' .*put the original files of the data set there"):
        cifar10(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no IDX file"),
        (b"\x00\x00\x08", "no IDX file"),
        (idx(IMAGES["train"])[:-1], "cut off"),
        (idx(IMAGES["train"]) + b"x", "no IDX file"),
        (idx(LABELS["train"]), "no IDX file of bytes in 3 dimensions"),
        (b"\x00\x00\x0d" + idx(IMAGES["train"])[3:], "no IDX file of bytes"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 2**31), "cut off"),
        (idx(IMAGES["train"][:0]), "0 images and 60 labels"),
        (idx(IMAGES["train"][:59]), "59 images and 60 labels"),
    ],
)
def test_damaged_mnist_files(tmp_path: Path, content: bytes, message: str) -> None:
    write_mnist(tmp_path, False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        mnist(0, folder=str(tmp_path))


@pytest.mark.parametrize("damage", [lambda data: b"text", lambda data: data[:-20], lambda data: data[:40] + data[60:]])
def test_a_damaged_archive(tmp_path: Path, damage: object) -> None:
    write_mnist(tmp_path, True)
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    with pytest.raises(RecipeError, match=r"t10k-images-idx3-ubyte.gz cannot be read .*: fetch it again"):
        mnist(0, folder=str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no multiple of 3073"),
        (ROWS["test_batch.bin"].tobytes()[:-1], "no multiple of 3073"),
        (b"\x0a" + ROWS["test_batch.bin"].tobytes()[1:], "below 10"),
    ],
)
def test_damaged_cifar10_files(tmp_path: Path, content: bytes, message: str) -> None:
    (write_cifar10(tmp_path) / "test_batch.bin").write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        cifar10(0, folder=str(tmp_path))
