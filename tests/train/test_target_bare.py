"""A module alone: random inputs of the shape that was asked for, random gradients of unit norm at every output."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from diag.errors import TargetError
from diag.train.bare import BATCHES, Input, bare_workload, parse_shapes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("32x784", (Input((32, 784)),)),
        ("32,784", (Input((32, 784)),)),
        (" 8 x 3 ", (Input((8, 3)),)),
        ("5", (Input((5,)),)),
        ("8x128:int64", (Input((8, 128), torch.int64),)),
        ("2x3;4x5:bool", (Input((2, 3)), Input((4, 5), torch.bool))),
        ("2x3:bfloat16 ; 1", (Input((2, 3), torch.bfloat16), Input((1,)))),
    ],
)
def test_shapes(text: str, expected: tuple[Input, ...]) -> None:
    assert parse_shapes(text) == expected


@pytest.mark.parametrize("text", ["", "x", "32x", "32x-1", "32 784", "3.5x2", "2x3;", "axb", "²x3", "(2,3)"])
def test_no_shape(text: str) -> None:
    with pytest.raises(TargetError, match="is no shape: expected sizes such as 32x784"):
        parse_shapes(text)


def test_size_zero() -> None:
    with pytest.raises(TargetError, match="has a size of 0"):
        parse_shapes("0x3")


@pytest.mark.parametrize("text", ["9" * 24 + "x4", "9" * 5000, "1x" + "9" * 19 + ":int64"])
def test_a_size_beyond_counting(text: str) -> None:
    with pytest.raises(TargetError, match="a size of more than 18 digits"):
        parse_shapes(text)


@pytest.mark.parametrize("text", ["9" * 18, "999999999999x9999999:int64", "9999999999x9999999999"])
def test_inputs_that_find_no_room(text: str) -> None:
    with pytest.raises(
        TargetError, match=f"--input {text} cannot be drawn: 4 batches of .* give smaller sizes"
    ) as told:
        bare_workload(nn.Linear(4, 4), parse_shapes(text))
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(("text", "hint"), [("2x3:int46", "did you mean 'int64'"), ("2:", "unknown dtype ''")])
def test_unknown_dtype(text: str, hint: str) -> None:
    with pytest.raises(TargetError, match=hint):
        parse_shapes(text)


def test_output_gradients_have_unit_expected_norm() -> None:
    model = nn.Linear(50, 400)
    workload = bare_workload(model, parse_shapes("64x50"))
    seen: list[torch.Tensor] = []
    model.register_forward_hook(lambda module, inputs, output: output.register_hook(seen.append) and None)
    for batch in [*workload.batches][:2]:
        workload.loss(model, batch).backward()
    # ||g||^2 is a mean of 25,600 squares of standard normals: its standard deviation is sqrt(2 / 25600) = 0.9 %.
    assert float(seen[0].square().sum()) == pytest.approx(1, abs=0.05)
    assert torch.equal(seen[0], seen[1])


def test_the_same_every_time_and_nothing_from_the_global_generator() -> None:
    model = nn.Linear(4, 3)
    before = torch.get_rng_state()
    losses = []
    for _ in range(2):
        workload = bare_workload(model, parse_shapes("5x4"))
        losses.append([workload.loss(model, batch).item() for batch in workload.batches])
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == BATCHES
    assert torch.equal(before, torch.get_rng_state())


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    cache: Any = None


class Shaped(nn.Module):
    """Returns its output in a container of some kind."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.inner, self.other, self.wrap = nn.Linear(3, 2), nn.Linear(3, 2), wrap

    def forward(self, x: torch.Tensor) -> Any:
        return self.wrap(self.inner(x), self.other(x))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda a, b: (a, (b, None)),
        lambda a, b: {"a": a, "more": [b]},
        lambda a, b: Output(a, {"b": b}),
        lambda a, b: (a, b, torch.ones(2, dtype=torch.int64), torch.ones(3)),
        lambda a, b: torch.complex(a, b),
    ],
    ids=["tuple", "dict", "dataclass", "with what has no gradient", "complex"],
)
def test_every_output_gets_a_gradient(wrap: Any) -> None:
    model = Shaped(wrap)
    workload = bare_workload(model, parse_shapes("4x3"))
    loss = workload.loss(model, next(iter(workload.batches)))
    assert loss.shape == ()
    loss.backward()
    for layer in (model.inner, model.other):
        assert float(layer.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_inputs_take_the_dtype_of_the_parameters(dtype: torch.dtype) -> None:
    model = nn.Linear(4, 3).to(dtype)
    workload = bare_workload(model, parse_shapes("5x4"))
    (batch,) = next(iter(workload.batches))
    assert batch.dtype == dtype
    loss = workload.loss(model, (batch,))
    assert loss.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    assert torch.isfinite(loss)


def test_ints_lie_in_the_smallest_embedding() -> None:
    model = nn.Sequential(nn.Embedding(90, 4), nn.Linear(4, 4))
    model.add_module("unused", nn.EmbeddingBag(7, 4))
    workload = bare_workload(model, parse_shapes("50x40:int64"))
    (batch,) = next(iter(workload.batches))
    assert batch.dtype == torch.int64
    assert set(batch.unique().tolist()) == set(range(7))


def test_ints_without_an_embedding_are_zero_and_one() -> None:
    workload = bare_workload(nn.Linear(2, 2), parse_shapes("50x2:int32;50:bool;50:uint8"))
    for one in next(iter(workload.batches)):
        assert set(one.int().unique().tolist()) == {0, 1}


def test_a_shape_that_does_not_fit() -> None:
    model = nn.Sequential(nn.Linear(784, 10))
    workload = bare_workload(model, parse_shapes("32x100"))
    with pytest.raises(TargetError) as caught:
        workload.loss(model, next(iter(workload.batches)))
    text = str(caught.value)
    assert text.startswith("--input 32x100 does not fit Sequential: RuntimeError: ")
    assert "32x100 and 784x10" in text
    assert "\n" not in text


def test_too_few_inputs() -> None:
    model = nn.Bilinear(2, 3, 4)
    workload = bare_workload(model, parse_shapes("5x2"))
    with pytest.raises(TargetError, match=r"--input 5x2 does not fit Bilinear: TypeError: .*missing 1 required"):
        workload.loss(model, next(iter(workload.batches)))


def test_token_ids_without_their_dtype() -> None:
    model = nn.Embedding(10, 4)
    workload = bare_workload(model, parse_shapes("8x16"))
    with pytest.raises(TargetError, match=r"for token ids, try --input 8x16:int64"):
        workload.loss(model, next(iter(workload.batches)))


def test_nothing_to_differentiate() -> None:
    class Counter(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).argmax(1)

    model = Counter(3, 2)
    workload = bare_workload(model, parse_shapes("4x3"))
    with pytest.raises(TargetError, match="Counter returns no float tensor that depends on its parameters"):
        workload.loss(model, next(iter(workload.batches)))


def test_a_transformer_and_its_model_output() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    model = transformers.BertModel(config)
    workload = bare_workload(model, parse_shapes("2x8:int64"))
    workload.loss(model, next(iter(workload.batches))).backward()
    assert float(model.pooler.dense.weight.grad.abs().sum()) > 0
    assert float(model.encoder.layer[0].attention.self.query.weight.grad.abs().sum()) > 0


def test_the_workload_pickles() -> None:
    model = nn.Linear(3, 2)
    workload = bare_workload(model, parse_shapes("4x3"))
    again = pickle.loads(pickle.dumps(workload))
    batch = next(iter(workload.batches))
    assert again.loss(again.model, batch).item() == workload.loss(model, batch).item()


def test_inputs_that_are_parted_by_what_parts_sizes() -> None:
    with pytest.raises(TargetError, match=r"mixes 'x' and ',': expected one .* as in '32x10;32x20'$"):
        parse_shapes("32x10,32x20")
