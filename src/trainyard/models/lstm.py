"""Long short-term memory over texts and series (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

Sequences of different lengths share a batch by padding at the end. A cell never sees what comes after, so
padding cannot reach a forward layer's valid outputs; a backward layer reads each sequence reversed within its
own length. This gives what packing gives, in operations that export to ONNX, which packing does not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainyard.models.dropout import SequenceDropout, WeightDroppedLSTM
from trainyard.models.initialisation import initialise, initialise_lstm
from trainyard.models.lstm_config import LSTMConfig


class LSTM(nn.Module):
    """Layers of LSTM cells, read in one direction or both, pooled over time, and a linear head."""

    def __init__(
        self,
        config: LSTMConfig,
        num_outputs: int,
        vocabulary_size: int | None = None,
        num_features: int | None = None,
    ) -> None:
        super().__init__()
        self.pooling = config.pooling
        self.hidden_size = config.hidden_size
        self.embedding: nn.Module
        if vocabulary_size is not None and num_features is None:
            embedding = nn.Embedding(vocabulary_size, config.embedding_size, padding_idx=0)
            # torch draws N(0, 1), and a rare word then never loses its random vector to what little it is trained.
            nn.init.normal_(embedding.weight, std=config.embedding_scale)
            nn.init.zeros_(embedding.weight[0].detach())
            self.embedding = embedding
            in_size = config.embedding_size
        elif num_features is not None and vocabulary_size is None:
            self.embedding = nn.Identity()
            in_size = num_features
        else:
            raise ValueError(
                f"LSTM: found vocabulary_size={vocabulary_size} and num_features={num_features}; "
                "give one of them, for tokens or for features"
            )
        self.ngrams: nn.Module = nn.Identity()
        if config.ngrams:
            self.ngrams = NGrams(in_size, config.embedding_size, config.ngrams)
            in_size = config.embedding_size
        dropout = SequenceDropout if config.variational_dropout else nn.Dropout
        self.embedding_dropout = dropout(config.embedding_dropout)
        self.dropout = dropout(config.dropout)
        out_size = config.hidden_size * (2 if config.bidirectional else 1)
        in_sizes = (in_size, *(out_size for _ in range(config.num_layers - 1)))
        self.forward_layers = nn.ModuleList(_layer(config, size) for size in in_sizes)
        backward_sizes = in_sizes if config.bidirectional else ()
        self.backward_layers = nn.ModuleList(_layer(config, size) for size in backward_sizes)
        self.attention: nn.Module = nn.Identity()
        if config.pooling == "attention":
            self.attention = nn.Linear(out_size, 1, bias=False)  # a softmax would not see a bias
        self.head = nn.Linear(out_size * (2 if config.pooling == "mean_max" else 1), num_outputs)
        initialise(self.head, "xavier", "none")

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Map tokens (N, T) int64 or features (N, T, F), and lengths (N,) int64, to logits (N, num_outputs).

        Nothing at or after its length changes a sequence's logits. An empty one reads as one step of padding.
        """
        logits: Tensor = self.head(self.dropout(self._pool(self.states(inputs, lengths), lengths)))
        return logits

    def states(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return the last layer's output at every step, (N, T, D), zero at and after each length.

        D is hidden_size, or twice that with the forward direction first.
        """
        valid = _valid_steps(inputs, lengths).unsqueeze(2)
        order = _reversal(inputs, lengths)
        features: Tensor = self.embedding_dropout(self.embedding(inputs))
        if isinstance(self.ngrams, NGrams):
            features = self.ngrams(features.masked_fill(~valid, 0.0))
        for index, forward_layer in enumerate(self.forward_layers):
            if index > 0:
                features = self.dropout(features)
            outputs, _ = forward_layer(features)
            if self.backward_layers:
                reversed_outputs, _ = self.backward_layers[index](_reorder(features, order))
                outputs = torch.cat((outputs, _reorder(reversed_outputs, order)), dim=2)
            features = outputs
        return features.masked_fill(~valid, 0.0)

    def _pool(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Map states (N, T, D) to (N, D), or (N, 2 D) for mean_max."""
        match self.pooling:
            case "last":
                return self._last(states, lengths)
            case "mean":
                return _mean(states, lengths)
            case "max":
                return _max(states, lengths)
            case "mean_max":
                return torch.cat((_mean(states, lengths), _max(states, lengths)), dim=1)
            case "attention":
                return self._attend(states, lengths)

    def _last(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Return each direction's output after it has read all: at the end, and for the backward one at 0."""
        end = (lengths.clamp(min=1) - 1).view(-1, 1, 1).expand(-1, 1, self.hidden_size)
        forward_last = states[..., : self.hidden_size].gather(1, end).squeeze(1)
        return torch.cat((forward_last, states[:, 0, self.hidden_size :]), dim=1)

    def _attend(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean of the states by weights that a linear layer scores (Yang et al. 2016)."""
        scores: Tensor = self.attention(states).squeeze(2)
        weights = scores.masked_fill(~_valid_steps(states, lengths), float("-inf")).softmax(dim=1)
        return (weights.unsqueeze(2) * states).sum(dim=1)


class NGrams(nn.Module):
    """Convolutions over time, of several widths side by side, each step's result at its middle."""

    def __init__(self, in_size: int, out_size: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(in_size, out_size // len(widths), width) for width in widths)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.get_parameter("weight"))
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, T, F), zero after each length, to (N, T, out_size)."""
        series = features.transpose(1, 2)
        found = []
        for layer in self.layers:
            width = layer.get_parameter("weight").shape[2]
            found.append(layer(nn.functional.pad(series, ((width - 1) // 2, width // 2))))
        return torch.cat(found, dim=1).relu().transpose(1, 2)


def _layer(config: LSTMConfig, in_size: int) -> nn.LSTM:
    if config.recurrent_dropout:
        lstm: nn.LSTM = WeightDroppedLSTM(in_size, config.hidden_size, config.recurrent_dropout)
    else:
        lstm = nn.LSTM(in_size, config.hidden_size, batch_first=True)
    initialise_lstm(lstm, config.recurrent_initialisation, config.forget_gate_bias)
    return lstm


def _valid_steps(inputs: Tensor, lengths: Tensor) -> Tensor:
    """Return (N, T) bool: True before each length, and at the first step of an empty sequence."""
    steps = torch.arange(inputs.shape[1], device=inputs.device)
    return steps < lengths.clamp(min=1).unsqueeze(1)


def _reversal(inputs: Tensor, lengths: Tensor) -> Tensor:
    """Return (N, T) int64: the step at each place when every sequence is reversed within its length."""
    steps = torch.arange(inputs.shape[1], device=inputs.device)
    ends = lengths.clamp(min=1).unsqueeze(1)
    return torch.where(steps < ends, ends - 1 - steps, steps)


def _reorder(features: Tensor, order: Tensor) -> Tensor:
    """Return features (N, T, D) with the steps of each sequence in its order (N, T)."""
    return features.gather(1, order.unsqueeze(2).expand(-1, -1, features.shape[2]))


def _mean(states: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean of states (N, T, D), which are zero after each length."""
    return states.sum(dim=1) / lengths.clamp(min=1).unsqueeze(1)


def _max(states: Tensor, lengths: Tensor) -> Tensor:
    valid = _valid_steps(states, lengths).unsqueeze(2)
    return states.masked_fill(~valid, float("-inf")).amax(dim=1)
