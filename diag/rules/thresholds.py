"""Every number a verdict depends on, with its source; settable in `[tool.diag.thresholds]`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from diag.errors import DiagError, nearest

CORPUS = "tests/corpus: beyond every healthy set-up there, short of the faulty ones"


@dataclass(frozen=True)
class Threshold:
    """A default value, what it means, and where it comes from."""

    value: float
    meaning: str
    source: str


THRESHOLDS: dict[str, Threshold] = {
    "vanishing_error": Threshold(
        3e-4, "gradient norm of the bottom layer over the top one's, by a robust fit over depth", CORPUS
    ),
    "vanishing_steep_error": Threshold(
        3e-3, "the same, where each layer loses much", "Zhang et al. 2021 (AUTOTRAINER) take 1e-3; " + CORPUS
    ),
    "vanishing_steep_factor": Threshold(
        0.33,
        "gradient norm of a layer over that of the next",
        "Glorot & Bengio 2010: sigmoid passes at most 1/4; " + CORPUS,
    ),
    "vanishing_crawl_error": Threshold(3e-3, "the same, with a loss that falls by less than 5 %", CORPUS),
    "vanishing_warning": Threshold(1e-2, "the same, for a warning", CORPUS),
    "exploding_gradient_error": Threshold(
        500.0, "gradient norm of the bottom layer over the top one's, by a robust fit over depth", CORPUS
    ),
    "exploding_gradient_warning": Threshold(1e2, "the same, for a warning", CORPUS),
    "exploding_activation_error": Threshold(
        100.0, "activation rms of the top layer over the bottom one's, or of any over the input's", CORPUS
    ),
    "exploding_activation_warning": Threshold(30.0, "the same, for a warning", CORPUS),
    "collapsed_scale_error": Threshold(
        1e-3, "activation rms of the top layer over the bottom one's, by a robust fit over depth", CORPUS
    ),
    "collapsed_spread_error": Threshold(
        1e-5, "variance over samples over mean square, from some layer to the output", CORPUS
    ),
    "collapsed_spread_crawl_error": Threshold(1e-4, "the same, with a loss that falls by less than 5 %", CORPUS),
    "collapsed_spread_warning": Threshold(1e-4, "the same, for a warning", CORPUS),
    "posterior_error": Threshold(
        3e-4, "nats by which a latent variable of a VAE differs from the prior, in the last third of the steps", CORPUS
    ),
    "lost_error": Threshold(1e-10, "variance over samples over mean square of one layer, in every step", CORPUS),
    "lost_crawl_error": Threshold(5e-5, "the same, with a loss that falls by less than 5 %", CORPUS),
    "weights_error": Threshold(0.04, "rms times sqrt(fan_in) of the median weight matrix, at the start", CORPUS),
    "recurrent_error": Threshold(
        4.0,
        "rms times sqrt(units) of a recurrent weight, with a loss that falls by less than 5 %",
        "Saxe et al. 2014: an orthogonal one has 1; " + CORPUS,
    ),
    "grown_error": Threshold(
        2.2, "last norm over first of the median weight matrix, with a loss that falls by less than 5 %", CORPUS
    ),
    "grown_single_error": Threshold(12.0, "the same of any, with a loss that is not halved", CORPUS),
    "dropped_share_error": Threshold(
        0.9,
        "share of the elements that a dropout sets to zero",
        "Srivastava et al. 2014, section A.4: 0.2 to 0.5 are usual",
    ),
    "dropped_inside_error": Threshold(
        0.6,
        "share of the elements of a layer's own output that are exactly zero, with a loss that falls by less than 15 %",
        CORPUS,
    ),
    "dropped_chain_error": Threshold(
        0.05,
        "what is left after all dropouts of 0.4 and more in a row, with a loss that does not fall",
        "Srivastava et al. 2014, section A.4: 0.5 in hidden layers; " + CORPUS,
    ),
    "input_error": Threshold(
        8.0, "rms of an input of floating point", "LeCun et al. 1998, section 4.3: about 1; " + CORPUS
    ),
    "first_loss_error": Threshold(
        4.5,
        "the first cross-entropy over log(classes), with one that ends above log(classes)",
        "Karpathy 2019, 'verify loss @ init'; " + CORPUS,
    ),
    "tied_error": Threshold(
        0.75,
        "the last cross-entropy over log(classes), after such a first one of an output layer tied to the embedding",
        CORPUS,
    ),
    "saturated_error": Threshold(0.75, "share of saturated elements in a layer", CORPUS),
    "saturated_crawl_error": Threshold(0.4, "the same, with a loss that falls by less than 5 %", CORPUS),
    "bias_error": Threshold(
        8.0,
        "rms of a bias that makes up nine tenths of its layer's output, before what levels off",
        "a sigmoid has a slope of 3e-4 there; Glorot & Bengio 2010, section 3",
    ),
    "saturated_warning": Threshold(0.25, "the same, for a warning", "Glorot & Bengio 2010, section 3"),
    "dead_error": Threshold(0.85, "share of a layer's units that are zero for every sample of the window", CORPUS),
    "dead_warning": Threshold(0.5, "the same, for a warning", CORPUS),
    "stalled_error": Threshold(
        5e-4,
        "largest update rms over weight rms of the median weight matrix, with a loss that falls by less than 5 %",
        "Karpathy 2019: about 1e-3 is usual; " + CORPUS,
    ),
    "stalled_warning": Threshold(8e-4, "the same, for a warning", "Karpathy 2019: about 1e-3 is usual"),
    "stale_warning": Threshold(
        0.9,
        "share of a batch norm's running statistics that is still the initial one, at a momentum of 1e-3 or less",
        "torch.nn.BatchNorm2d documentation: 0.1 is usual, after 30 batches of which 4 % are left",
    ),
    "decay_error": Threshold(
        0.9, "factor by which a schedule multiplies the learning rate in every single step", CORPUS
    ),
    "clipped_error": Threshold(
        5e-5, "largest update rms over weight rms of the median weight matrix, where all gradients are clipped", CORPUS
    ),
    "clipped_crawl_error": Threshold(5e-4, "the same, with a loss that falls by less than 5 %", CORPUS),
    "frozen_error": Threshold(
        0.5, "share of the elements an optimizer holds that are frozen, with a loss that falls by less than 5 %", CORPUS
    ),
    "shrunk_error": Threshold(0.6, "rms of the median weight matrix over what it was in the first step", CORPUS),
    "shrunk_crawl_error": Threshold(0.8, "the same, with a loss that falls by less than 5 %", CORPUS),
    "forget_bias_error": Threshold(
        -1.5,
        "bias of an LSTM's forget gate, with a loss that falls by less than 5 %",
        "torch's own is near 0, which keeps half",
    ),
    "forgets_error": Threshold(
        0.35,
        "rms times sqrt(units) of a recurrent weight without gates, with a loss that falls by less than 5 %",
        "torch's own has 0.58, an orthogonal matrix 1",
    ),
    "evaluated_input_error": Threshold(
        10.0,
        "rms of an evaluation's inputs over that of the training's, or the other way",
        "a factor that no split gives",
    ),
    "evaluated_output_error": Threshold(
        2.0,
        "rms of the last layer in training over that in evaluation mode, or the other way, behind batch normalizations",
        "of 31 healthy networks in strangers' scripts the largest is 1.41; three that suffer have 2.3 to 9",
    ),
    "rounded_warning": Threshold(
        0.45,
        "share of an update's elements that are exactly 0 though their gradient is not, of the median weight matrix",
        "of 1,080 set-ups of tests/corpus those in float32 reach 0.08, a healthy one in bfloat16 0.28",
    ),
    "outweighed_error": Threshold(
        1.0,
        "pull of the weight decay over that of the loss, while the loss is above half of its first value",
        "251 healthy set-ups of tests/corpus that decay reach 0.14, decays that do harm begin at 1.9",
    ),
    "oversized_error": Threshold(1.0, "largest update rms over weight rms of the median weight matrix", CORPUS),
    "oversized_lasting_error": Threshold(0.2, "the same, in the median step", CORPUS),
    "oversized_first_error": Threshold(
        0.2, "the same, in each of the first three steps, with a loss that ends no better than it began", CORPUS
    ),
    "oversized_single_error": Threshold(
        10.0, "the same, of any one weight matrix", "SageMaker Debugger, rule UpdateTooLarge"
    ),
    "symmetric_error": Threshold(
        0.5,
        "share of a matrix's rows that equal another row, in the weight and in its gradient",
        "Goodfellow et al. 2016, section 8.4",
    ),
    "one_sign_error": Threshold(
        0.5, "size of a weight matrix's mean over its rms, in most of the matrices, in the first step", CORPUS
    ),
    "diverging_error": Threshold(30.0, "loss over the largest of the first three", CORPUS),
    "guess_error": Threshold(
        1.25, "the last cross-entropies over log(classes), where they are no better than the first", CORPUS
    ),
    "confined_error": Threshold(
        0.5,
        "the floor of a cross-entropy of bounded logits over that of a guess",
        "log(1 + (C - 1) exp(-R)) for logits at most R apart; " + CORPUS,
    ),
    "confined_cosine_error": Threshold(
        0.3, "the same of cosines, where the loss lies at the floor", "Wang et al. 2017, 'NormFace', proposition 2"
    ),
    "confined_way": Threshold(
        0.75, "how much of the way from a guess to that floor a loss that stands there has come", CORPUS
    ),
    "unrelated_error": Threshold(
        2.33,
        "standard errors by which predictions must fit their own targets better than others of the batch",
        "exceeded by chance in 1 of 100 where nothing is to be learned; Hoeffding 1951",
    ),
    "unrelated_warning": Threshold(3.09, "the same, for a warning", "exceeded by chance in 1 of 1000"),
    "unrelated_spread": Threshold(
        1e-4,
        "variance over samples over mean square of a layer, below which the network, too, may be the reason",
        CORPUS,
    ),
    "prediction_factor": Threshold(
        1.25,
        "measured rms over the predicted one, or its inverse, on top of three standard errors of random weights",
        "independent normal weights err by about sqrt(1 / width) a layer, which is granted apart; the rest is for inputs whose features or positions are correlated and uneven",
    ),
    "copes_fall": Threshold(
        0.1, "relative fall of the loss above which twins and a faded signal are a warning", CORPUS
    ),
    "loss_fall": Threshold(
        0.01, "relative fall of the loss below which it counts as none", "Zhang et al. 2021 (AUTOTRAINER)"
    ),
}


def resolve(overrides: Mapping[str, float]) -> dict[str, float]:
    """The values in force: the defaults, and what the user sets instead.

    Raises: DiagError for a name that is no threshold.
    """
    for name in overrides:
        if name not in THRESHOLDS:
            raise DiagError(f"[tool.diag.thresholds] knows no '{name}'{nearest(name, THRESHOLDS)}")
        if math.isnan(overrides[name]):
            raise DiagError(f"[tool.diag.thresholds] {name} must be a number, got nan")
    return {name: float(overrides.get(name, threshold.value)) for name, threshold in THRESHOLDS.items()}
