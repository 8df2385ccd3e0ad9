"""What a network must know of its data: the shape of the input, how it is normalised, and the classes."""

from __future__ import annotations

from dataclasses import dataclass

from trainyard.data.packed import Card
from trainyard.data.raw import Kind
from trainyard.errors import InputError
from trainyard.models import cnn_config, unet_config
from trainyard.models.cnn_config import CNNConfig, smallest_side
from trainyard.models.lstm_config import LSTMConfig
from trainyard.models.unet_config import UNetConfig

LARGEST_EMBEDDING = 1_900_000_000
"""Bytes. A file of ONNX holds 2 GiB at most, with the other weights and the words themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """The part of a data card that stays with the model."""

    kind: Kind
    classes: tuple[str, ...]
    """The names of the targets for forecasting."""
    channels: int = 0
    height: int = 0
    """Pixels."""
    width: int = 0
    """Pixels."""
    mean: tuple[float, ...] = ()
    """Of each channel, pixels divided by 255; of each column of a series in its own unit."""
    std: tuple[float, ...] = ()
    """Of each channel, pixels divided by 255; of each column of a series in its own unit."""
    vocabulary_size: int = 0
    max_length: int = 0
    """Tokens."""
    vector_size: int = 0
    """Numbers of each word vector that the data came with; 0: none."""
    num_features: int = 0
    """Columns of a series, targets first."""
    columns: tuple[str, ...] = ()
    """Their names."""
    context_length: int = 0
    """Steps that are seen."""
    horizon: int = 0
    """Steps that are forecast."""
    data_sha256: str = ""

    @classmethod
    def from_card(cls, card: Card) -> InputSpec:
        """Take what a network needs out of a data card."""
        return cls(
            kind=card.kind,
            classes=card.classes,
            mean=tuple(card.normalisation.get("mean", ())),
            std=tuple(card.normalisation.get("std", ())),
            columns=card.columns,
            data_sha256=card.sha256,
            **card.input,
        )


def receptive_field(config: object) -> int | None:
    """Return the side, in pixels, of what the deepest features of a network for images see; None for other networks."""
    match config:
        case CNNConfig():
            return cnn_config.receptive_field(config)
        case UNetConfig():
            return unet_config.receptive_field(config)
    return None


def check_input(config: object, spec: InputSpec) -> None:
    """Refuse data that a network cannot take: images that its halvings would leave nothing of, texts as a series.

    Raises:
        InputError: naming what was found and what is needed.
    """
    if isinstance(config, LSTMConfig):
        _check_words(config, spec)
    if isinstance(config, LSTMConfig) and spec.kind != "forecasting":
        if config.residual == "last":
            raise InputError(
                f"model: residual: last adds the last step of a series to its forecast, the data are for {spec.kind}; "
                "use residual: none"
            )
        for key, wanted in (("targets: apart", config.targets == "apart"), ("autoregression: true", config.autoregression)):
            if wanted:
                raise InputError(f"model: {key} is for forecasting, the data are for {spec.kind}; remove it")
    if isinstance(config, CNNConfig) and min(spec.height, spec.width) < smallest_side(config):
        raise InputError(
            f"model: needs images of at least {smallest_side(config)} pixels a side, the data are {spec.height} x "
            f"{spec.width}; use fewer model.widths, pooling: none, or larger images"
        )


def _check_words(config: LSTMConfig, spec: InputSpec) -> None:
    """Refuse an embedding that does not go with the words of the data, as `check_input`."""
    if spec.vector_size not in (0, config.embedding_size):
        raise InputError(
            f"model: embedding_size: {config.embedding_size}, those of data.vectors have {spec.vector_size} numbers; "
            f"use embedding_size: {spec.vector_size}, or vectors of {config.embedding_size}"
        )
    if config.freeze_embedding and not spec.vector_size:
        raise InputError(
            "model: freeze_embedding: true would leave the random numbers of words as they are, the data came without word "
            "vectors; name some under data.vectors, or remove it"
        )
    if (nbytes := 4 * spec.vocabulary_size * config.embedding_size) > LARGEST_EMBEDDING:
        raise InputError(
            f"model: {spec.vocabulary_size:,} words with {config.embedding_size} numbers each take {nbytes / 1e9:.1f} GB, more "
            f"than the {LARGEST_EMBEDDING / 1e9:.1f} GB that an ONNX file has room for; use a smaller data.vocabulary_size"
        )
