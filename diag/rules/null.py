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
    "vanishing_error": Null(249, (1000.0, 0.77, 0.029, 0.012), "gcn-deep"),
    "vanishing_crawl_error": Null(249, (1000.0, 1000.0, 0.037, 0.012), "gcn-deep"),
    "exploding_gradient_error": Null(249, (0.71, 2.8, 17.0, 100.0), "mobilenet-v2-base"),
    "exploding_activation_error": Null(249, (1.8, 3.8, 10.0, 19.0), "rnn-lstm-characters"),
    "collapsed_scale_error": Null(249, (0.85, 0.31, 0.095, 0.08), "capsules-adamw"),
    "collapsed_spread_error": Null(249, (0.75, 0.031, 0.00055, 0.0004), "discriminator"),
    "collapsed_spread_crawl_error": Null(249, (1000.0, 1000.0, 0.032, 0.00074), "gan-base"),
    "dropped_share_error": Null(249, (0.001, 0.1, 0.49, 0.8), "mobilenet-v2-base"),
    "dropped_inside_error": Null(249, (0.001, 0.001, 0.001, 0.1), "transformers-t5"),
    "saturated_error": Null(249, (0.001, 0.001, 0.35, 0.63), "seq2seq-attention-base"),
    "saturated_crawl_error": Null(249, (0.001, 0.001, 0.001, 0.011), "transformers-wav2vec2"),
    "dead_error": Null(249, (0.001, 0.19, 0.74, 0.75), "squeeze-excite-sgd"),
    "stalled_error": Null(249, (1.0, 1.0, 0.0024, 0.00089), "squeeze-excite-sgd"),
    "oversized_error": Null(249, (0.013, 0.055, 0.24, 0.49), "skip-gram-adagrad"),
    "oversized_lasting_error": Null(249, (0.0062, 0.023, 0.041, 0.11), "skip-gram-adagrad"),
    "oversized_single_error": Null(249, (0.027, 0.1, 0.52, 3.2), "gmlp-adamw"),
    "input_error": Null(249, (0.001, 1.0, 1.0, 1.0), "mixture-density-base"),
    "first_loss_error": Null(249, (0.001, 0.001, 1.2, 2.6), "mlp-dropout-half"),
    "shrunk_error": Null(249, (1.2, 1.0, 0.99, 0.99), "mixture-density-base"),
    "shrunk_crawl_error": Null(249, (1000.0, 1000.0, 1.0, 0.99), "squeeze-excite-sgd"),
    "guess_error": Null(249, (0.51, 0.91, 1.0, 1.0), "deit-base"),
    "one_sign_error": Null(249, (0.011, 0.021, 0.036, 0.04), "regnet-base"),
    "symmetric_error": Null(249, (0.001, 0.001, 0.001, 0.047), "train-lora"),
    "diverging_error": Null(249, (0.01, 0.01, 1.0, 1.0), "mixture-density-base"),
    "unrelated_error": Null(249, (1000.0, 27.0, 4.7, 3.8), "mlp-dropout-half"),
    "grown_error": Null(488, (0.001, 0.001, 1.1, 1.7), "big-transfer-sgd"),
    "grown_single_error": Null(488, (0.001, 1.3, 1.8, 10.0), "big-transfer-sgd"),
    "lost_error": Null(488, (0.43, 0.062, 0.00078, 6.6e-05), "gpt-post-norm-warm-up"),
    "lost_crawl_error": Null(488, (1000.0, 1000.0, 0.015, 0.00064), "gpt-random-tokens"),
    "weights_error": Null(488, (0.58, 0.16, 0.1, 0.08), "mobilenet-v2-base"),
    "recurrent_error": Null(488, (0.001, 0.001, 0.001, 0.001), "capsules-adamw"),
}
