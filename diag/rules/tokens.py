"""Masks and labels that do not fit the token ids beside them, and networks that are given what they are to predict."""

from __future__ import annotations

from typing import Any

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, listed

_FEWEST, _NEARLY_ALL = 3, 0.5
_NEXT = 0.95
"""The share of the targets that are the ids one further on, where the next token is to be told."""


def masked(evidence: Evidence) -> Finding | None:
    """Attention may look at keys of one token alone, which is padding: the mask is inverted."""
    rows = evidence.rows("activation", evidence.clean, ("attended",))
    for site, own in rows.groupby("site", sort=False):
        if len(own) < _FEWEST or not (own["max"] == 0).all():
            continue
        place = str(site).removesuffix("[attended]")
        torchs = evidence.sites.loc[str(site), "module"] == "MultiheadAttention"
        means = "attention_mask is 1 for tokens"
        if torchs:
            means = "key_padding_mask is True where a key is to be left out"
        return Finding(
            "loss-not-decreasing",
            "error",
            place,
            f"All keys that {place} may attend to are one and the same token, in every one of {len(own)} steps looked"
            f" at: the padding, it seems, while the mask leaves out all else. {means}.",
            {"step": int(own["step"].iloc[0]), "of": "mask", "steps": len(own)},
            "Invert the mask: key_padding_mask=(ids == padding)." if torchs else "Invert the mask: ids != padding.",
            "torch.nn.MultiheadAttention documentation, 'key_padding_mask'" if torchs else "transformers documentation",
        )
    return None


def shifted_twice(evidence: Evidence) -> Finding | None:
    """A causal model of transformers is given labels that are shifted already: it learns to skip a token."""
    rows = evidence.rows("activation", evidence.clean, ("shifted",))
    for site, own in rows.groupby("site", sort=False):
        if len(own) < _FEWEST or own["min"].min() < _NEARLY_ALL:
            continue
        model = str(evidence.sites.loc[str(site), "module"])
        return Finding(
            "loss-not-decreasing",
            "error",
            str(site).removesuffix("[shifted]"),
            f"labels are input_ids moved by one, and {model} moves them by one itself: it is trained to predict the"
            " token after the next.",
            {"step": int(own["step"].iloc[0]), "of": "shift", "steps": len(own)},
            "Pass labels=input_ids (with -100 where nothing is to be learned).",
            "transformers documentation, 'labels' of causal language models: 'the labels are shifted inside the model'",
        )
    return None


def sees_the_next(evidence: Evidence) -> Finding | None:
    """Each position's target is the token that follows it, and nothing keeps the position from looking at that."""
    rows = evidence.rows("activation", evidence.clean, ("next",))
    both_ways = evidence.named("both_ways")
    # An encoder's attention may look ahead where its decoder's does not.
    looks = [] if evidence.named("looks_back") else evidence.named("looks_ahead")
    ahead = evidence.in_order(both_ways + looks)
    if len(rows) < _FEWEST or rows["min"].min() < _NEXT or not ahead:
        return None
    recurs = ahead[0] in both_ways
    s = "s" if len(ahead) == 1 else ""
    does = f"run{s} over the sequence both ways" if recurs else f"look{s} at all positions: nothing masks what follows"
    return Finding(
        "loss-not-decreasing",
        "error",
        ahead[0],
        f"{listed(ahead)} {does}. The target of each position is the token that follows it, which the network is"
        " given too: it learns to copy it, and has nothing to copy when it is to write.",
        {"step": int(rows["step"].iloc[0]), "of": "ahead", "sites": ahead[:20]},
        "Take a recurrence of one direction."
        if recurs
        else "Give attention a causal mask: attn_mask=nn.Transformer.generate_square_subsequent_mask(length), or"
        " is_causal=True in scaled_dot_product_attention.",
        "Vaswani et al. 2017, section 3.2.3: masking out illegal connections",
    )


def _told_of_itself(evidence: Evidence, most: int) -> tuple[str, int, dict[str, Any]] | None:
    """The loss whose targets are the very ids that the network is given, in how many steps looked at, and the evidence.
    most: of what stands for that, -2 where others went in before them (see `Tokens.next_share`)."""
    rows = evidence.rows("activation", evidence.clean, ("next",))
    if len(rows) < _FEWEST or rows["max"].max() > most:
        return None
    known = {"step": int(rows["step"].iloc[0]), "of": "shift", "steps": len(rows)}
    return str(rows["site"].iloc[0]).removesuffix("[next]"), len(rows), known


def given_back(evidence: Evidence) -> Finding | None:
    """A decoder of what was encoded before is given at each position the token that it is to put out there."""
    told = _told_of_itself(evidence, -2)
    if told is None:
        return None
    site, steps, of = told
    return Finding(
        "loss-not-decreasing",
        "error",
        site,
        f"The targets that {site} is given are the ids that went into the network last, at the same positions, in all"
        f" {steps} steps looked at, after others that it is to make them of: a decoder that is given what it is to"
        " put out copies it, and has nothing to copy when it is to write.",
        of,
        "Give the decoder the targets moved by one, a start token first: inputs y[:, :-1], targets y[:, 1:].",
        "Sutskever et al. 2014, section 2; Vaswani et al. 2017, section 3.1: 'output embeddings are offset by one"
        " position'",
    )


def copies(evidence: Evidence) -> Finding | None:
    """The target of each position is the token that stands there, and attention looks back alone, as where the next one
    is to be told."""
    told = _told_of_itself(evidence, -1)
    if told is None or not evidence.named("looks_back") or evidence.named("looks_ahead"):
        return None
    site, steps, of = told
    return Finding(
        "loss-not-decreasing",
        "error",
        site,
        f"The targets that {site} is given are the token ids that the network is given, at the same positions, in all"
        f" {steps} steps looked at, and its attention looks back alone: it learns to repeat each token, not to tell"
        " the one that follows.",
        of,
        "Shift targets by one: inputs ids[:, :-1], targets ids[:, 1:].",
        "Vaswani et al. 2017, section 3.1: 'output embeddings are offset by one position'",
    )
