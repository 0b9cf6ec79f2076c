"""What a loss is given: outputs of another shape than the targets, of another reach, or of another law."""

from __future__ import annotations

from collections.abc import Iterator

from diag.prescribe.losses import WITHOUT
from diag.prescribe.patient import Patient
from diag.prescribe.remedy import SLOW, Advice, Remedy, family

RULE = "loss-not-decreasing"
_SQUEEZED = """def squeezed(module, inputs, output):
    return output.squeeze(1)


model.register_forward_hook(squeezed)
"""
_LOGARITHMS = """log_probabilities = torch.nn.functional.log_softmax(logits, dim=1)
loss = torch.nn.functional.{op}(log_probabilities, targets)
"""
_SHUFFLED = """loader = torch.utils.data.DataLoader(dataset, batch_size=batch_size, shuffle=True)
"""


@family("shape of the outputs")
def shape(patient: Patient) -> Iterator[Remedy | Advice]:
    """Predictions of shape N x 1 made as flat as their targets."""
    if patient.finding(RULE, of="broadcast"):
        change = "Give the loss predictions of the targets' shape, N in place of N x 1."
        yield Remedy("same shape", "loss", change, _SQUEEZED, SLOW, direct=True, surgery=True, place=5)


@family("last activation")
def last(patient: Patient) -> Iterator[Remedy | Advice]:
    """The activation behind the last layer taken out, where targets are beyond it or logits are cut off."""
    found = patient.finding(RULE, of="reach") or patient.finding(RULE, of="clipped logits")
    if found is None or not found.site:
        return
    change = f"Take {found.site} out of the model: it keeps the output from what the targets ask for."
    if found.site in dict(patient.model.named_modules()):
        code = WITHOUT.format(name=found.site)
        yield Remedy("no last activation", "loss", change, code, SLOW, direct=True, surgery=True, place=5)
    else:
        yield Advice("no last activation", change, "it is a function in forward(): leave it out by hand")


@family("log-probabilities")
def logarithms(patient: Patient) -> Iterator[Remedy | Advice]:
    """Told only: with what it is given the loss is no measure by which trainings could be compared."""
    found = patient.finding(RULE, of="log-probabilities")
    if found is not None:
        op = found.site.rpartition(":")[2]
        why = "what the loss says of what it is given now cannot be compared with what it says of log-probabilities"
        yield Advice("log-probabilities", f"Give {op} log-probabilities.", why, _LOGARITHMS.format(op=op))


@family("order of the data")
def order(patient: Patient) -> Iterator[Remedy | Advice]:
    """Told only: remedies are compared on the same batches."""
    if patient.finding(RULE, of="sorted"):
        why = "remedy and control are trained on the same batches, in the order in which they come"
        yield Advice("shuffled data", "Shuffle the data before they are put into batches.", why, _SHUFFLED)
