"""Masks and labels that do not fit the token ids."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag

PAD, WORDS, LENGTH = 0, 20, 10


def _batch(size: int = 16) -> tuple[Tensor, Tensor]:
    ids = torch.randint(1, WORDS, (size, LENGTH))
    lengths = torch.randint(3, LENGTH, (size, 1))
    lengths[0] = LENGTH - 1
    ids[torch.arange(LENGTH) >= lengths] = PAD
    return ids, ids[:, 0] % 3


class Reader(nn.Module):
    def __init__(self, mask: str) -> None:
        super().__init__()
        self.mask, self.embed = mask, nn.Embedding(WORDS, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.attention, self.head = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        if self.mask == "by position":
            return self.head(self.attention(x, x, x, ids == PAD)[0][:, 0])
        if self.mask == "none":
            return self.head(self.encoder(x)[:, 0])
        return self.head(
            self.encoder(x, src_key_padding_mask=ids != PAD if self.mask == "inverted" else ids == PAD)[:, 0]
        )


def _found(model: nn.Module, loss: object, kind: str) -> list[diag.Finding]:
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with diag.watch(model) as watch:
        for _ in range(12):
            optimizer.zero_grad()
            loss(model, *_batch()).backward()  # type: ignore[operator]
            optimizer.step()
    every = [two for one in watch.diagnose().findings for two in (one, *one.consequences)]
    return [one for one in every if one.evidence.get("of") == kind]


@pytest.mark.parametrize(("mask", "count"), [("inverted", 1), ("right", 0), ("by position", 0), ("none", 0)])
def test_a_mask_that_leaves_padding_alone(mask: str, count: int) -> None:
    torch.manual_seed(0)
    found = _found(Reader(mask), lambda model, ids, labels: F.cross_entropy(model(ids), labels), "mask")
    assert len(found) == count
    if found:
        assert (found[0].rule, found[0].severity, found[0].site) == (
            "loss-not-decreasing",
            "error",
            "encoder.layers.0.self_attn",
        )


def _gpt2() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32, "vocab_size": WORDS}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=0))


@pytest.mark.parametrize(("moved", "count"), [(True, 1), (False, 0)])
def test_labels_that_are_shifted_twice(moved: bool, count: int) -> None:
    def loss(model: nn.Module, ids: Tensor, _: Tensor) -> Tensor:
        labels = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], -100)], 1) if moved else ids
        return model(input_ids=ids, labels=labels).loss

    found = _found(_gpt2(), loss, "shift")
    assert [one.severity for one in found] == ["error"] * count


def test_labels_of_the_last_position_alone() -> None:
    def loss(model: nn.Module, ids: Tensor, _: Tensor) -> Tensor:
        labels = ids.clone()
        labels[:, :-1] = -100
        return model(input_ids=ids, labels=labels).loss

    assert not _found(_gpt2(), loss, "shift")


@pytest.mark.parametrize(("inverted", "count"), [(True, 1), (False, 0)])
def test_the_mask_of_a_transformers_model(inverted: bool, count: int) -> None:
    def loss(model: nn.Module, ids: Tensor, _: Tensor) -> Tensor:
        mask = (ids == PAD) if inverted else (ids != PAD)
        return model(input_ids=ids, attention_mask=mask.long(), labels=ids.masked_fill(ids == PAD, -100)).loss

    assert len(_found(_gpt2(), loss, "mask")) == count


class Writer(nn.Module):
    """Predicts the next token; by `how`, with or without what keeps it from being given that."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.embed, self.head = how, nn.Embedding(WORDS, 16), nn.Linear(16, WORDS)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.softmax = nn.Softmax(dim=-1)
        self.recurrence = nn.LSTM(
            16, 8 if how == "both ways" else 16, batch_first=True, bidirectional=how == "both ways"
        )

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        causal = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        if self.how in ("both ways", "one way"):
            return self.head(self.recurrence(x)[0])
        if self.how.startswith("function"):
            mask = torch.ones(len(ids), 1, 1, ids.shape[1], dtype=torch.bool) if "padding" in self.how else None
            heads = x[:, None]
            out = F.scaled_dot_product_attention(heads, heads, heads, mask, is_causal=self.how == "function, causal")
            return self.head(out[:, 0])
        if self.how.startswith("by hand"):
            scores, seen = x @ x.transpose(1, 2), torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool)
            if "mask" in self.how:
                seen = seen.triu() if "turned" in self.how else seen.tril()
            scores = scores.masked_fill(~seen, -torch.inf)
            return self.head((self.softmax(scores) if "module" in self.how else scores.softmax(-1)) @ x)
        if self.how == "decoder, masked":
            return self.head(self.decoder(x, self.encoder(x), tgt_mask=causal))
        if self.how == "masked":
            return self.head(self.encoder(x, mask=causal, is_causal=True))
        return self.head(self.encoder(x, src_key_padding_mask=ids == WORDS if self.how == "padding" else None))


WAYS = {
    "none": "encoder.layers.0.self_attn",
    "padding": "encoder.layers.0.self_attn",
    "function": "Writer:attention",
    "function, padding": "Writer:attention",
    "by hand": "Writer:softmax",
    "by hand, module": "softmax",
    "by hand, mask turned": "Writer:softmax",
    "by hand, mask": None,
    "by hand, mask, module": None,
    "both ways": "recurrence",
    "masked": None,
    "decoder, masked": None,
    "function, causal": None,
    "one way": None,
}


def _next(model: nn.Module, ids: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


@pytest.mark.parametrize("how", WAYS)
def test_a_network_that_is_given_what_it_is_to_predict(how: str) -> None:
    torch.manual_seed(0)
    found = _found(Writer(how), _next, "ahead")
    assert [(one.rule, one.severity, one.site) for one in found] == (
        [("loss-not-decreasing", "error", WAYS[how])] if WAYS[how] else []
    )


def test_what_is_masked_or_classified_may_be_seen_whole() -> None:
    """Of tokens that are to be filled in, and of tags, the target is no token that follows."""

    def filled(model: nn.Module, ids: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())

    def tagged(model: nn.Module, ids: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(ids).flatten(0, 1), (ids % 3).flatten())

    assert not _found(Writer("none"), filled, "ahead") + _found(Writer("both ways"), tagged, "ahead")


class WithClass(Reader):
    """A position without an id stands before the others."""

    def forward(self, ids: Tensor) -> Tensor:
        x = torch.cat([torch.zeros(len(ids), 1, 16), self.embed(ids)], 1)
        kept = torch.zeros(len(ids), 1, dtype=torch.bool)
        mask = torch.cat([~kept, ids != PAD] if self.mask == "inverted" else [kept, ids == PAD], 1)
        out: Tensor = self.head(self.encoder(x, src_key_padding_mask=mask)[:, 0])
        return out


@pytest.mark.parametrize(("mask", "count"), [("inverted", 1), ("right", 0)])
def test_a_mask_over_a_class_token_and_ids(mask: str, count: int) -> None:
    torch.manual_seed(0)
    found = _found(WithClass(mask), lambda model, ids, labels: F.cross_entropy(model(ids), labels), "mask")
    assert [one.severity for one in found] == ["error"] * count


@pytest.mark.parametrize(("how", "count"), [("masked", 1), ("none", 0), ("one way", 0)])
def test_targets_that_were_never_shifted(how: str, count: int) -> None:
    """Of an encoder that sees all, what it is given may be what it is to put out."""
    torch.manual_seed(0)

    def loss(model: nn.Module, ids: Tensor, _: Tensor) -> Tensor:
        return F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())

    assert [one.severity for one in _found(Writer(how), loss, "shift")] == ["error"] * count
    assert not _found(Writer(how), _next, "shift")


class Translator(nn.Module):
    """An encoder and a decoder, recurrent or with attention; what is embedded between them is told by `between`."""

    def __init__(self, attends: bool, both_ways: bool, between: str) -> None:
        super().__init__()
        self.between = between
        self.embed, self.segment, self.distance = nn.Embedding(WORDS, 16), nn.Embedding(2, 16), nn.Embedding(99, 16)
        if attends:
            self.net: nn.Module = nn.Transformer(16, 2, 1, 1, 32, dropout=0.0, batch_first=True)
        else:
            self.encode = nn.GRU(16, 16 // (1 + both_ways), batch_first=True, bidirectional=both_ways)
            self.decode = nn.GRU(16, 16, batch_first=True)
        self.attends, self.head = attends, nn.Linear(16, WORDS)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        own = self.embed(y) if self.between == "reversed" else None
        given = self.embed(x)
        if self.between == "segments":
            given = given + self.segment((x > 9).long())
        decoded = self.embed(y) if own is None else own
        if self.between == "distances":  # as of relative positions
            places = torch.arange(y.shape[1])
            decoded = decoded + self.distance(places[:, None] + places).mean(0)
        if self.attends:
            mask = nn.Transformer.generate_square_subsequent_mask(y.shape[1])
            return self.head(self.net(given, decoded, tgt_mask=mask))
        state = self.encode(given)[1]
        return self.head(self.decode(decoded, state.transpose(0, 1).reshape(1, len(x), 16))[0])


def _translation(shifted: bool, same: bool = False) -> object:
    def loss(model: nn.Module, ids: Tensor, _: Tensor) -> Tensor:
        wanted = ids if same else ids.flip(1)
        given = F.pad(wanted, (1, 0))[:, :-1] if shifted else wanted
        return F.cross_entropy(model(ids, given).transpose(1, 2), wanted)

    return loss


@pytest.mark.parametrize(
    ("attends", "both_ways", "between", "shifted", "same", "count"),
    [
        (False, False, "", False, False, 1),
        (False, True, "", False, False, 1),
        (True, False, "", False, False, 1),
        (False, False, "", True, False, 0),
        (True, False, "", True, False, 0),
        (False, False, "", False, True, 0),  # an autoencoder: the ids before are the same
        (False, False, "segments", False, False, 0),  # of what went in before, segments are the last
        (False, False, "reversed", False, False, 0),
        (True, False, "distances", False, False, 1),
        (True, False, "distances", True, False, 0),
    ],
)
def test_a_decoder_that_is_given_what_it_is_to_put_out(
    attends: bool, both_ways: bool, between: str, shifted: bool, same: bool, count: int
) -> None:
    torch.manual_seed(0)
    found = _found(Translator(attends, both_ways, between), _translation(shifted, same), "shift")
    assert [one.severity for one in found] == ["error"] * count
    assert all("moved by one" in one.remedy for one in found)


class Hidden(nn.Module):
    """Attention that is in no module: a list of Python holds it."""

    def __init__(self, mask: Tensor | None) -> None:
        super().__init__()
        self.mask, self.embed, self.head = mask, nn.Embedding(WORDS, 16), nn.Linear(16, WORDS)
        self.attend = [nn.MultiheadAttention(16, 2, batch_first=True)]

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.head(self.attend[0](x, x, x, attn_mask=self.mask, need_weights=False)[0])


CAUSAL = torch.ones(LENGTH - 1, LENGTH - 1, dtype=torch.bool).triu(1)


@pytest.mark.parametrize("mask", [None, CAUSAL, ~CAUSAL])
def test_attention_that_no_module_holds_is_called_as_ever(mask: Tensor | None) -> None:
    torch.manual_seed(0)
    model = Hidden(mask)

    def loss(model: nn.Module, ids: Tensor, _: Tensor) -> Tensor:
        return F.cross_entropy(model(ids[:, :-1]).transpose(1, 2), ids[:, 1:])

    assert len(_found(model, loss, "ahead")) == (mask is not CAUSAL)


@pytest.mark.parametrize(
    ("mask", "count"),
    [(CAUSAL, 0), (CAUSAL.float() * -1e9, 0), (CAUSAL.T, 1), (CAUSAL.T.float() * -1e9, 1), (CAUSAL.T & ~CAUSAL, 1)],
)
def test_a_mask_that_is_no_triangle_of_the_past(mask: Tensor, count: int) -> None:
    torch.manual_seed(0)

    class Writer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(WORDS, 16), nn.Linear(16, WORDS)
            self.attend = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids)
            return self.head(self.attend(x, x, x, attn_mask=mask, need_weights=False)[0])

    def loss(model: nn.Module, ids: Tensor, _: Tensor) -> Tensor:
        return F.cross_entropy(model(ids[:, :-1]).transpose(1, 2), ids[:, 1:])

    assert len(_found(Writer(), loss, "ahead")) == count
