"""The kinds of ingredients, each an open registry, and the contract that a function of each kind keeps.

A user's suite file adds an entry the way our own files do: `@diag.recipes.kinds.activation("mine")`.
"""

from __future__ import annotations

from diag.recipes.registry import Registry

data = Registry("data set", "data", "diag.recipes.data")
"""`f(seed, *, options) -> Dataset`."""

network = Registry("network", "networks", "diag.recipes.networks")
"""`f(<any of: inputs, outputs, depth, width, activation, norm, dropout>, *, options) -> nn.Module`.

inputs: shape of one sample. outputs: logits or values. activation(): a new module. norm(features, dims): a new module
or None. dropout(): a new module or None. The module has `blocks`, an nn.ModuleList of the reusable lower part in order,
and `head`, if its lower layers are to be reused."""

init = Registry("initialization", "inits", "diag.recipes.inits")
"""`f(weight, generator, *, options) -> None` fills one weight of two or more dimensions in place. With the attribute
`whole_model = True`: `f(model, inputs, generator, *, options) -> None`."""

activation = Registry("activation", "activations", "diag.recipes.activations")
"""`f(*, options) -> nn.Module`."""

norm = Registry("normalization", "norms", "diag.recipes.norms")
"""`f(features, dims, *, options) -> nn.Module | None`: dims is the number of dimensions after the features: 0 for
[batch, features], 1 for [batch, features, length], 2 for images, and -1 for [batch, length, features]."""

optimizer = Registry("optimizer", "optimizers", "diag.recipes.optimizers")
"""`f(parameters, lr, *, options) -> torch.optim.Optimizer`. parameters: as torch's optimizers take them."""

schedule = Registry("schedule", "schedules", "diag.recipes.schedules")
"""`f(optimizer, steps, *, options) -> torch LRScheduler | None`, stepped after each optimizer step; a
ReduceLROnPlateau is stepped with the validation loss after each validation."""

clipping = Registry("clipping", "clipping", "diag.recipes.clipping")
"""`f(parameters, *, options) -> None` changes the gradients in place, between backward and step."""

regularizer = Registry("regularizer", "regularizers", "diag.recipes.regularizers")
"""`f(*, options) -> Regularizer`."""

start = Registry("start", "starts", "diag.recipes.starts")
"""`f(job: StartJob, *, options) -> None` prepares `job.model` before it is trained."""

prediction = Registry("prediction", "predictions", "diag.recipes.predictions")
"""`f(model, inputs, *, options) -> Predicted(mean, variance)`: for classification the class probabilities
[count, classes] and their variance over passes, or None; for regression the values."""

KINDS = {
    one.plural: one
    for one in (
        data, network, init, activation, norm, optimizer, schedule, clipping, regularizer, start, prediction,
    )
}  # fmt: skip
