"""A lesson of two recipes, and the gates that it looks at."""

from __future__ import annotations

from pathlib import Path

import torch

from trainyard.lessons.catalogue import recipes_of
from trainyard.lessons.plain_rnn import gates


def test_a_change_goes_to_all_recipes_or_to_the_one_that_it_names(tmp_path: Path) -> None:
    both = recipes_of("memory", tmp_path, 3, ["train.learning_rate=0.02", "copying.model.hidden_size=8"])
    assert [recipe.train.learning_rate for recipe in both.values()] == [0.02, 0.02]
    assert [recipe.train.seed for recipe in both.values()] == [3, 3]
    assert both["copying"].model.hidden_size == 8 and both["texts"].model.hidden_size == 32


def test_the_gates_that_are_shown_are_those_that_the_lstm_opens() -> None:
    torch.manual_seed(0)
    layer = torch.nn.LSTM(3, 4, batch_first=True)
    features = torch.randn(6, 3)
    opened, outputs = gates(layer, features)
    assert opened.shape == (4, 6, 4)
    torch.testing.assert_close(outputs, layer(features[None])[0][0])
