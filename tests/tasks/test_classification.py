from __future__ import annotations

import torch

from trainyard.tasks.classification import drop_words


def test_dropped_words_are_unknown_and_padding_stays() -> None:
    torch.manual_seed(0)
    tokens = torch.cat((torch.full((50, 40), 7), torch.zeros(50, 10, dtype=torch.int64)), dim=1)
    dropped = drop_words(tokens, 0.25)
    assert set(dropped[:, :40].unique().tolist()) == {1, 7}
    assert abs(float((dropped[:, :40] == 1).float().mean()) - 0.25) < 0.05
    assert not dropped[:, 40:].any()
