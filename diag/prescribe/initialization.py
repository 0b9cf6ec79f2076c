"""Weights drawn anew: by the activation that follows them, as a transformer's, or by the data (LSUV)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from diag.prescribe.arguments import arguments
from diag.prescribe.patient import Patient
from diag.prescribe.remedy import SIGNAL, SLOW, STEP, Advice, Remedy, family
from diag.recipes.weights import is_input_first, layers_of

ANSWERS = (*SIGNAL, "symmetric-units", *STEP, *SLOW)
PLACE = 30
BOUNDED = ("tanh", "sigmoid", "softsign", "hardtanh", "hardsigmoid")
LINEAR = ("selu", "identity", "")

_CALLS = {
    "He": 'nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
    "Glorot": "nn.init.xavier_normal_(layer.weight)",
    "LeCun": 'nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")',
    "GPT-2": "nn.init.normal_(layer.weight, std=0.02)",
}
_FORMULAS = {
    "He": "N(0, 2 / fan_in), the initialization for rectifiers",
    "Glorot": "N(0, 2 / (fan_in + fan_out)), the initialization for tanh and sigmoid",
    "LeCun": "N(0, 1 / fan_in), the initialization for SELU and for no activation",
    "GPT-2": "N(0, 0.02^2), embeddings included, the initialization of transformers",
}
_HEAD = """from torch import nn

for layer in model.modules():
    if isinstance(layer, ({kinds})):
        {call}
        if getattr(layer, "bias", None) is not None:
            nn.init.zeros_(layer.bias)
"""
_INPUT_FIRST = """    elif type(layer).__name__ == "Conv1D":  # a linear layer of transformers: its weight is [in, out]
        {call}
        nn.init.zeros_(layer.bias)
"""
_RECURRENT = """    elif isinstance(layer, (nn.RNNBase, nn.RNNCellBase)):
        for name, weight in layer.named_parameters(recurse=False):
            if "weight_hh" in name:
                for gate in weight.data.split(layer.hidden_size):
                    {fill}(gate)
            elif "weight" in name:
                nn.init.xavier_normal_(weight)
            else:
                nn.init.zeros_(weight)
"""
_LSUV = """import torch
from diag.recipes.inits import initialize

batch = next(iter(batches))
inputs = {inputs}.to(next(model.parameters()).device)
initialize(model, "lsuv", torch.Generator().manual_seed(torch.initial_seed()), inputs)
"""


def scheme_for(activation: str) -> str:
    """The initialization that goes with an activation function: He, Glorot or LeCun."""
    return "Glorot" if activation in BOUNDED else "LeCun" if activation in LINEAR else "He"


def code_for(model: nn.Module, scheme: str) -> str:
    """Lines that draw every linear, convolutional and recurrent weight anew and set biases to 0."""
    kinds = "nn.Linear, nn.Embedding" if scheme == "GPT-2" else "nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d"
    code = _HEAD.format(kinds=kinds, call=_CALLS[scheme])
    if any(map(is_input_first, model.modules())):
        code += _INPUT_FIRST.format(call=_CALLS[scheme].replace("layer.weight", "layer.weight.data.T"))
    recurrent = any(isinstance(one, (nn.RNNBase, nn.RNNCellBase)) for one in model.modules())
    return code + (_RECURRENT.format(fill=_fill(model)) if recurrent else "")


def _fill(model: nn.Module) -> str:
    """How recurrent matrices are filled: ReLU keeps a state only under the identity (Le, Jaitly & Hinton 2015)."""
    rectified = any(getattr(one, "nonlinearity", "") == "relu" for one in model.modules())
    return "nn.init.eye_" if rectified else "nn.init.orthogonal_"


@family("initialization")
def initialization(patient: Patient) -> Iterator[Remedy | Advice]:
    """The initialization that suits the network, and LSUV."""
    if not patient.suffers(*ANSWERS) or not any(True for _ in layers_of(patient.model)):
        return
    scheme = "GPT-2" if _is_transformer(patient.model) else scheme_for(patient.usual_activation)
    change = f"Draw the weights from {_FORMULAS[scheme]}, and set biases to 0."
    if any("weight" not in one.module._parameters for one in layers_of(patient.model) if "weight" in one.weights):
        yield Advice(f"{scheme} initialization", change, "weights are parametrized, so that they cannot be set here")
        return
    recurrent = any(isinstance(one, (nn.RNNBase, nn.RNNCellBase)) for one in patient.model.modules())
    kind = "the identity" if _fill(patient.model).endswith("eye_") else "orthogonal"
    also = f" Recurrent weights become {kind}." if recurrent else ""
    code = code_for(patient.model, scheme)
    yield Remedy(f"{scheme} initialization", "initialization", change + also, code, ANSWERS, place=PLACE)
    if patient.input_key is None or scheme == "GPT-2":
        return
    name = "LSUV initialization"
    change = "Draw orthogonal weights and scale each layer until its output on a batch has variance 1 (LSUV)."
    if arguments(patient) is not None:
        yield Advice(name, change, "it runs a model on one input, by position, and this one takes others")
        return
    code = _LSUV.format(inputs=patient.input_code)
    yield Remedy(name, "initialization", change, code, (*SIGNAL, "symmetric-units"), place=PLACE)


def _is_transformer(model: nn.Module) -> bool:
    """Whether it has embeddings, whose weights a head may share, or attention."""
    names = (type(one).__name__.lower() for one in model.modules())
    return any(isinstance(one, nn.Embedding) for one in model.modules()) or any("attention" in name for name in names)
