"""Block `model` of family `lstm`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from trainyard.params import Count, Fraction, Positive


@dataclass(frozen=True, slots=True, kw_only=True)
class LSTMConfig:
    """Shape of a recurrent network over tokens or measured features."""

    embedding_size: Count = 128
    """Numbers that stand for one token; not used for features, which are numbers already."""
    ngrams: tuple[Count, ...] = ()
    """Widths, in steps, of convolutions in front of the cells, which then read phrases instead of words (C-LSTM of Zhou 2015,
    arXiv:1511.08630). Each has an equal share of `embedding_size` channels. Empty: none."""
    hidden_size: Count = 128
    """Units of each layer and direction."""
    num_layers: Count = 1
    """Recurrent layers, each of which reads what the one below it puts out."""
    bidirectional: bool = True
    """Whether every layer also reads from the end: of a text, or of a series' context, which is all past."""
    dropout: Fraction = 0.0
    """Share of the features between layers and before the head that are set to 0 in a training step (Srivastava 2014)."""
    embedding_dropout: Fraction = 0.0
    """The same share, of the numbers that stand for tokens."""
    variational_dropout: bool = False
    """Whether dropout of embedded tokens, and between layers, leaves out the same features at all steps of a sequence instead
    of others at each step (Gal 2016, arXiv:1512.05287)."""
    recurrent_dropout: Fraction = 0.0
    """Share of the weights from a step to the next that an optimizer step leaves out, the same for all its sequences and
    their steps (AWD-LSTM of Merity 2017, arXiv:1708.02182)."""
    embedding_scale: Positive = 0.1
    """Standard deviation of the embedding at the beginning of training, also where it begins with `data.vectors`, which then
    bear more: 0.4."""
    freeze_embedding: bool = False
    """Whether words keep the numbers that they begin with, those of `data.vectors`, instead of being trained too."""
    pooling: Literal["last", "mean", "max", "mean_max", "attention"] = "last"
    """How all steps' outputs become one. last: each direction's last one; attention: a learned mean."""
    forget_gate_bias: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    """What is added in the forget gates at the beginning of training; the higher, the longer the cells remember."""
    residual: Literal["none", "last"] = "none"
    """last, for forecasting: the context's last step is taken away from all its steps and added to the forecast, so that
    the network learns the change from there, whatever the level (NLinear of Zeng 2022, arXiv:2205.13504)."""
    targets: Literal["together", "apart"] = "together"
    """For forecasting. apart: one network forecasts each target from its own past and the features, with the same weights
    for all targets, which over-fits less (channel independence of Nie 2022, arXiv:2211.14730)."""
    autoregression: bool = False
    """For forecasting: add a linear map from each target's context to its horizon, the same for all targets, so that the
    cells need only learn what is not linear (the highway of LSTNet, Lai 2018, arXiv:1703.07015)."""
    recurrent_initialisation: Literal["orthogonal", "uniform"] = "orthogonal"
    """Weights from step to step. orthogonal: they keep the length of what they carry (Saxe 2014, arXiv:1312.6120), and those of
    the input are xavier's. uniform: both between -1 and 1, divided by the root of the units, as torch has it."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.ngrams and self.embedding_size % len(self.ngrams):
            raise ValueError(
                f"ngrams: {list(self.ngrams)} are {len(self.ngrams)} widths, which do not share embedding_size: "
                f"{self.embedding_size} evenly; use a multiple of {len(self.ngrams)}"
            )
        if self.variational_dropout and not (self.embedding_dropout or (self.dropout and self.num_layers > 1)):
            raise ValueError(
                "variational_dropout: true has nothing to drop with embedding_dropout: 0 and no dropout between layers; "
                "set embedding_dropout, or dropout and num_layers above 1, or remove it"
            )
