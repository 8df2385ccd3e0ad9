"""An LSTM as one loop over its steps, for formats that know no such layer, and would unroll it to one length."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan  # torch's own, but not in its documentation


class ScannedLSTM(nn.Module):
    """What an nn.LSTM of one layer and direction computes, a step at a time; it gives its outputs and no last state."""

    def __init__(self, lstm: nn.LSTM) -> None:
        """Take the weights of a layer, batch first, in evaluation mode."""
        super().__init__()
        self.hidden_size = lstm.hidden_size
        self.gates = nn.Linear(lstm.input_size, 4 * lstm.hidden_size)
        self.recurrent = nn.Linear(lstm.hidden_size, 4 * lstm.hidden_size, bias=False)
        known = {name: lstm.get_parameter(f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        with torch.no_grad():
            self.gates.weight.copy_(known["weight_ih"])
            self.gates.bias.copy_(known["bias_ih"] + known["bias_hh"])
            self.recurrent.weight.copy_(known["weight_hh"])

    def forward(self, inputs: Tensor) -> tuple[Tensor, None]:
        """Map inputs (N, T, F) to outputs (N, T, hidden_size)."""
        weight = self.recurrent.weight

        def step(state: list[Tensor], gates: Tensor) -> tuple[list[Tensor], Tensor]:
            hidden, cell = state
            into, forget, new, out = (gates + hidden @ weight.t()).chunk(4, dim=1)
            cell = forget.sigmoid() * cell + into.sigmoid() * new.tanh()
            hidden = out.sigmoid() * cell.tanh()
            return [hidden, cell], hidden.clone()  # what is carried on and what is kept may not be one tensor

        start = inputs.new_zeros(inputs.shape[0], self.hidden_size)
        _, outputs = scan(step, [start, start.clone()], self.gates(inputs).transpose(0, 1))
        return outputs.transpose(0, 1), None


def scanned(network: nn.Module) -> nn.Module:
    """Return a copy of a network in which every LSTM is such a loop; the network itself where it has none."""
    if not any(isinstance(module, nn.LSTM) for module in network.modules()):
        return network
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.LSTM):
                setattr(module, name, ScannedLSTM(child))
    return network.eval()
