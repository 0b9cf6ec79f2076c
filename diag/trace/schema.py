"""The columns of a trace, their types, units and meaning: the one place that defines them."""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA_VERSION = 1

KINDS = ("activation", "gradient", "weight", "weight_gradient", "update")
"""activation: a site's output. gradient: of the loss with respect to that output. weight: a parameter before the
optimizer step. weight_gradient: the gradient that step was given. update: the parameter's change in that step; of one
with more than 65,536 elements an even sample of up to as many, whose number `count` then is."""


@dataclass(frozen=True)
class Column:
    """One column: its pandas dtype, its unit and its definition."""

    name: str
    dtype: str
    unit: str
    meaning: str


FRAME = (
    Column("step", "int64", "optimizer steps", "the training step, from 0; an optimizer step ends it"),
    Column(
        "site",
        "string",
        "-",
        "module path (`encoder.0`), with the operation for a functional (`encoder.0:relu`), or parameter name",
    ),
    Column("call", "int64", "calls", "which call of that site within one forward pass, from 0"),
    Column("order", "int64", "-", "position in the forward pass; a gradient has the position of its activation"),
    Column("op", "string", "-", "the operation: `linear`, `relu`, `lstm`, ...; `weight` or `bias` for a parameter"),
    Column("kind", "string", "-", "activation | gradient | weight | weight_gradient | update"),
    Column(
        "count",
        "float64",
        "elements",
        "number of elements, non-finite ones included; where several backward passes go through one graph, a gradient's"
        " are those of each pass, not of their sum",
    ),
    Column("mean", "float64", "the tensor's", "mean of the finite elements"),
    Column("var", "float64", "the tensor's, squared", "biased variance of the finite elements"),
    Column("rms", "float64", "the tensor's", "root of the mean square of the finite elements"),
    Column("min", "float64", "the tensor's", "smallest finite element"),
    Column("max", "float64", "the tensor's", "largest finite element"),
    Column("zero_fraction", "float64", "share", "share of the finite elements that are exactly zero"),
    Column(
        "saturated_fraction",
        "float64",
        "share",
        "share of the finite elements beyond the point where the activation levels off: its slope is at most 1 % of its largest there (the flat spot at the minimum of GELU, SiLU and the like does not count); missing where no slope is known",
    ),
    Column("units", "float64", "units", "features or channels; missing where the tensor has none"),
    Column("dead_units", "float64", "units", "units that were zero for every sample and position of the step"),
    Column("nonfinite", "float64", "elements", "number of NaN and infinite elements"),
    Column(
        "sample_var",
        "float64",
        "the tensor's, squared",
        "variance over the samples of a batch, averaged over features (from at most 64 samples and 256 features); missing for one sample",
    ),
    Column(
        "twin_units",
        "float64",
        "units",
        "rows of a weight, or of its gradient, that equal another row; missing for other kinds",
    ),
)

STEPS = (
    Column("step", "int64", "optimizer steps", "the training step, from 0"),
    Column(
        "loss",
        "float64",
        "the loss's",
        "the loss that was differentiated, unscaled, summed over the step's backward passes (of an optimizer's closure the first one's alone); missing if unknown",
    ),
    Column(
        "loss_known",
        "boolean",
        "-",
        "whether a loss was seen: a loss that is NaN is known, one that was not seen is missing",
    ),
    Column("lr", "float64", "-", "learning rate of the optimizer's first group; missing without an optimizer"),
    Column("optimizer", "int64", "-", "which optimizer ended the step, from 0; -1 for none"),
    Column("backward_passes", "int64", "passes", "backward passes in the step"),
    Column("batch", "int64", "-", "which batch of the data, where the loop is ours; -1 where it is not"),
)

INDEXED = ("cross_entropy", "nll_loss")
"""Losses whose target may be a class."""
BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
"""Losses whose targets are numbers between 0 and 1."""
BESIDE = ("pairing", "target", "log_sum", "signs", "next", "attended", "shifted")
"""Roles of what stands beside a loss: how predictions fit their targets, these, what log-probabilities add up to, what
says whether a pair is alike, and whether targets are the token ids one further on; or beside token ids: how far apart
those are that are attended to, and whether labels are shifted."""

SITES = (
    Column("site", "string", "-", "as in the frame"),
    Column(
        "kind",
        "string",
        "-",
        "`output` for what a module, its forward hooks included, or a function returns, `parameter` for a parameter",
    ),
    Column("module", "string", "-", "class of the module; empty where there is none"),
    Column("op", "string", "-", "as in the frame"),
    Column(
        "role",
        "string",
        "-",
        "layer | nonlinearity | normalization | attention | embedding | recurrent | dropout | pooling | input | loss | pairing | target | log_sum | signs | next | attended | shifted | elementwise | parameter | other",
    ),
    Column("order", "int64", "-", "position of its first call in the forward pass; -1 if it never ran"),
    Column("shape", "string", "-", "shape of the first tensor seen there, e.g. `64x128`"),
    Column(
        "trainable",
        "boolean",
        "-",
        "a parameter's requires_grad; for an output: whether the module owns a trainable parameter",
    ),
    Column(
        "optimized",
        "boolean",
        "-",
        "whether an optimizer holds the parameter; missing for outputs and without an optimizer",
    ),
    Column("model", "string", "-", "class of the watched model it belongs to, numbered where two are of one class"),
    Column("owner", "string", "-", "the module path that owns the parameter; for an output, of the module it ran in"),
)

UNITS = (
    Column("step", "int64", "optimizer steps", "the training step"),
    Column("site", "string", "-", "as in the frame"),
    Column("call", "int64", "calls", "as in the frame"),
    Column("units", "int64", "units", "features or channels"),
    Column("dead", "int64", "units", "zero for every sample of the window's steps"),
    Column("sleeping", "int64", "units", "zero for every sample of this step, but not of the window"),
    Column("revived", "int64", "units", "once dead, and not zero in this step"),
)


def names(columns: tuple[Column, ...]) -> list[str]:
    """The column names in order."""
    return [column.name for column in columns]


def dtypes(columns: tuple[Column, ...]) -> dict[str, str]:
    """The pandas dtype of each column."""
    return {column.name: column.dtype for column in columns}
