"""How far healthy networks go toward each threshold: written by `python -m tests.corpus.null --write`.

Over the healthy set-ups of the corpus's part `fit`: the value at which each would begin to give an error.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Null:
    """count: healthy set-ups. quantiles: 50, 90, 99 and 99.9 % of them stay on the harmless side of these. farthest:
    the one that goes farthest."""

    count: int
    quantiles: tuple[float, float, float, float]
    farthest: str


NULL: dict[str, Null] = {
    "vanishing_error": Null(102, (1e03, 1e03, 0.18, 0.029), "transformers-wav2vec2"),
    "exploding_gradient_error": Null(102, (0.89, 2.5, 8.9, 13), "cnn-mobilenet"),
    "exploding_activation_error": Null(102, (2, 4.4, 14, 19), "rnn-lstm-characters"),
    "collapsed_scale_error": Null(102, (0.88, 0.33, 0.095, 0.095), "diffusion"),
    "collapsed_spread_error": Null(102, (0.83, 0.022, 0.00055, 0.0004), "discriminator"),
    "dropped_share_error": Null(102, (0.001, 0.1, 0.49, 0.5), "mlp-dropout-half"),
    "saturated_error": Null(102, (0.001, 0.001, 0.02, 0.036), "mlp-gelu-6"),
    "dead_error": Null(102, (0.001, 0.12, 0.42, 0.63), "vae"),
    "stalled_error": Null(102, (1, 1, 0.0069, 0.0067), "vit"),
    "oversized_error": Null(102, (0.0021, 0.051, 0.1, 0.1), "gpt-checkpointed"),
    "oversized_lasting_error": Null(102, (0.0018, 0.022, 0.031, 0.032), "rnn-lstm-large-vocabulary"),
    "oversized_single_error": Null(102, (0.0033, 0.072, 0.14, 0.18), "rnn-lstm-clipped-sgd"),
    "input_error": Null(102, (0.001, 1, 1, 1), "train-mnist1d"),
    "first_loss_error": Null(102, (0.001, 0.001, 1.3, 2.6), "mlp-dropout-half"),
    "shrunk_error": Null(102, (1e03, 1e03, 1, 1), "vit"),
    "one_sign_error": Null(102, (0.001, 0.016, 0.04, 0.048), "train-lbfgs"),
    "symmetric_error": Null(102, (0.001, 0.001, 0.001, 0.047), "train-lora"),
    "diverging_error": Null(102, (0.01, 0.01, 0.01, 0.023), "train-policy-gradient"),
    "unrelated_error": Null(102, (1e03, 19, 4.5, 3.8), "mlp-dropout-half"),
}
