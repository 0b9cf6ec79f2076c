"""Networks by name; importing this registers them."""

from diag.recipes.networks import cnn, mlp, rnn, transformer

__all__ = ["cnn", "mlp", "rnn", "transformer"]
