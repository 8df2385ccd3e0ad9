from __future__ import annotations

from trainyard.models.cnn_config import CNNConfig
from trainyard.models.lstm_config import LSTMConfig
from trainyard.models.spec import receptive_field
from trainyard.models.unet_config import UNetConfig


def test_networks_for_images_have_a_receptive_field_and_others_none() -> None:
    # Two 3 x 3 convolutions see 5 pixels, and pooling one more.
    assert receptive_field(CNNConfig(widths=(8,), convolutions=2, kernel_size=3)) == 6
    # Ronneberger 2015: four halvings, two 3 x 3 convolutions at each level.
    assert receptive_field(UNetConfig(depth=4, base_width=64)) == 140
    assert receptive_field(LSTMConfig(embedding_size=8, hidden_size=8)) is None
